"""KANLinear: a replacement for nn.Linear with a learnable spline on every edge."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor, nn

from fastkan import ops
from fastkan.dtypes import DTYPES, compute_dtype
from fastkan.functional import check_degree, kan_linear
from fastkan.nn import edges, scaled
from fastkan.nn.grid import GridChange, change, check_samples, normal_tensors, plan_refine, plan_spline_scale, plan_update, take
from fastkan.nn.start import check_knots, check_range, fill, give_memory, hold_linear, write_knots
from fastkan.nn.state import adopt, described, disagreement
from fastkan.nn.symbolic import SymbolicEdges
from fastkan.splines.activations import check_activation


class KANLinear(nn.Module):
    """Layer y[o] = sum_i phi_io(x[i]) + bias[o]; each phi_io is a spline plus a weighted base activation (Liu et al.,
    arXiv:2404.19756).

    in_features, out_features, bias, device, dtype: as nn.Linear's
    grid_size: G, the number of grid intervals
    degree: p, the degree of the splines (3: cubic)
    grid_range: (low, high) of the grid, in units of x. Within `degree` cells outside it the splines fade to 0, and only the
        base activation is left.
    activation: silu, gelu, tanh, relu, identity or zero, in the base slot
    backend: cpu, triton, cuda, reference, or None for the first that can serve the call
    spline_scale: makes splines train beside a linear layer's weights: phi(x) = w b(x) + s sum_k theta_k (B_k(x) - B_k(0)), where
        s is the power of 2 next to spline_scale h / (p + 1) and h the width of a cell; 1 as from_linear has it. None: plain
        splines, sum_k c_k B_k(x)
    Parameters: weight [I, M, O] with M = G + p + 1 slots (the splines, then the base slot) and bias [O]. Buffer: knots
    [I, G + 2p + 1], in float32 or float64. torch.nn.init would take the wrong fans from a 3-D weight: give its functions to
    reset_parameters. Buffer: mask [I, O], False where an edge is gone; None where all are there. Buffer: scale, s; None for
    plain splines.
    raises: TypeError, ValueError naming the argument
    """

    knots: Tensor
    bias: nn.Parameter | None
    mask: Tensor | None
    scale: Tensor | None
    symbolic: SymbolicEdges | None
    unset = False  # True from a start without memory for the knots until they are written, or seen to be

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        activation: str = "silu",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        spline_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_degree(degree, grid_size)
        check_activation(activation)
        for name, features in (("in_features", in_features), ("out_features", out_features)):
            if isinstance(features, bool) or not isinstance(features, Integral) or features < 0:
                raise ValueError(f"{name}: expected a whole number of at least 0, received {features!r}")
        self.in_features, self.out_features = in_features, out_features = int(in_features), int(out_features)
        degree, grid_size = int(degree), int(grid_size)
        self.degree, self.activation = degree, activation
        self.grid_range = check_range(grid_range)
        self.backend = None if backend is None else ops.check_name(backend)
        self.spline_scale = scaled.check_spline_scale(spline_scale)
        weight = torch.empty(in_features, grid_size + degree + 1, out_features, device=device, dtype=dtype)
        if weight.dtype not in DTYPES:
            raise TypeError(f"dtype: expected a real floating dtype, received {weight.dtype}")
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None)
        knots = weight.new_empty((in_features, grid_size + 2 * degree + 1), dtype=compute_dtype(weight.dtype))
        self.register_buffer("knots", knots)
        self.register_buffer("mask", None)
        self.register_buffer("scale", None if self.spline_scale is None else knots.new_empty(()))
        self.symbolic = None
        self.reset_parameters()

    @property
    def grid_size(self) -> int:
        """G, the number of grid intervals."""
        return self.weight.shape[1] - self.degree - 1

    @torch.no_grad()
    def reset_parameters(self, init: Callable[[Tensor], Any] | None = None) -> None:
        """Uniform knots over grid_range and pykan's initialisation: base weights U(-1, 1) / sqrt(I), splines of small noise.
        Gone edges stay gone, and formulas keep their numbers.

        init: fills the base weights instead, given in nn.Linear's layout [O, I]: a function of torch.nn.init

        >>> import torch, fastkan
        >>> layer = fastkan.KANLinear(64, 32)
        >>> layer.reset_parameters(torch.nn.init.xavier_normal_)
        """
        write_knots(self)
        if not self.weight.is_meta:
            fill(self, init)

    def forward(self, input: Tensor) -> Tensor:
        """x [..., I] -> [..., O] in x's dtype. Its name is nn.Linear's."""
        x = input
        if self.unset:
            check_knots(self, x)
        mask = self._buffers["mask"]  # self.mask takes 0.3 us
        weight = self.weight if mask is None else self.weight * mask[:, None]
        if self._buffers["scale"] is None:
            y = kan_linear(x, weight, self.knots, self.bias, degree=self.degree, activation=self.activation, backend=self.backend)
        else:
            y = scaled.forward(self, x, weight)
        return y if self.symbolic is None else y + self.symbolic(x)

    def set_mask(self, mask: Tensor | None) -> None:
        """Remove the edges whose mask [I, O] is False: their weights become 0 and stay so in training. None: all are there.

        raises: TypeError or ValueError for a mask that is not bool [I, O]
        """
        edges.set_mask(self, mask)

    def set_symbolic(self, formulas: Mapping[tuple[int, int], tuple[str, Sequence[float]]]) -> None:
        """Make edges the formula c f(a x + b) + d instead of a spline, in the place of all formulas from before.

        formulas: {(input, output): (name of f, (a, b, c, d))} with names of fastkan.nn.FUNCTIONS; a, b, c, d are trained
        raises: ValueError for an unknown function or an edge that is not there

        >>> import torch, fastkan
        >>> layer = fastkan.KANLinear(2, 1, bias=False)
        >>> layer.set_symbolic({(0, 0): ("sin", (3.0, 0, 1, 0)), (1, 0): ("x**2", (1, 0, 1, 0))})
        >>> layer(torch.tensor([[0.0, 2.0]])).item()
        4.0
        """
        edges.set_symbolic(self, formulas)

    def __prepare_scriptable__(self) -> Self:
        """What torch.jit.script calls, of this layer and of every model that holds one."""
        raise TypeError(
            f"{type(self).__name__}: torch.jit.script cannot compile its operation; use torch.jit.trace(model, example_input), "
            "torch.export or torch.compile instead"
        )

    def extra_repr(self) -> str:
        text = (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"grid_size={self.grid_size}, degree={self.degree}, activation={self.activation!r}"
        )
        text += "" if self.spline_scale is None else f", spline_scale={self.spline_scale:g}"
        return text if self.backend is None else f"{text}, backend={self.backend!r}"

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls,
        linear: nn.Linear,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        activation: str = "identity",
        backend: str | None = None,
        spline_scale: float | None = 1.0,
    ) -> Self:
        """A layer that starts as the function of an nn.Linear: everywhere with activation="identity", otherwise on grid_range
        only.

        spline_scale: of the default 1, with which the layer trains at the linear's learning rate; None: plain splines
        With "identity" the base slot holds the linear map and the splines start at 0. With any other activation the splines hold
        it: their coefficients are the Greville abscissae times the linear's weight (Marsden's identity). The layer takes device,
        dtype, training mode and requires_grad from the linear.
        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear: expected an nn.Linear, received {type(linear).__name__}")
        weight = linear.weight
        plain = cls is KANLinear  # then without pykan's initialisation, which takes time and random numbers
        layer = cls(
            linear.in_features, linear.out_features, linear.bias is not None, grid_size, degree, grid_range, activation, backend,
            device="meta" if plain else weight.device, dtype=weight.dtype, spline_scale=spline_scale,
        )  # fmt: skip
        if plain:
            give_memory(layer, weight.device)
        layer.train(linear.training)
        layer.weight.requires_grad_(weight.requires_grad)
        if layer.bias is not None and linear.bias is not None:
            layer.bias.requires_grad_(linear.bias.requires_grad)
        hold_linear(layer, linear)
        return layer

    @normal_tensors
    def update_grid(self, x: Tensor, eps: float = 0.02, margin: float = 0.01) -> GridChange:
        """Move each input's grid to where its samples x [..., I] are, and refit the splines so that the function stays.

        eps: 1 spaces the grid points uniformly over the samples' range, 0 at their quantiles (as pykan's grid_eps)
        margin: how far the grid goes on past the samples, as a share of their range; not past the end of a grid that holds them
        returns: what that changed. A few samples far from all others stay outside the grid, see `outside` there.
        raises: ValueError for an empty x, one with NaN or infinity, or eps or margin outside [0, 1]

        Where torch.distributed runs, the samples of all ranks count and every rank must call it. Losses from before cannot be
        differentiated any more: the weight is written in place.
        """
        samples = check_samples(x, self.in_features)
        plan = plan_update(self, samples, eps, margin)
        changed = change(self, plan, samples)
        take(self, plan)
        return changed

    @normal_tensors
    def refine(self, grid_size: int, x: Tensor | None = None) -> GridChange:
        """Change the number of grid intervals and refit. If grid_size is a multiple of the old one the function stays the same
        everywhere. Otherwise it is the nearest one in least squares, over the grid and the cells beside it.

        x: samples [..., I] on which the change is measured; None: points that run through all cells
        returns: what that changed
        raises: TypeError or ValueError for a wrong grid_size; RuntimeError inside DistributedDataParallel

        The weight stays the same Parameter with another shape. An optimizer's state for it does not fit any more:
        `fastkan.refine(model, grid_size, optimizer)` carries it over.
        """
        samples = None if x is None else check_samples(x, self.in_features)
        plan = plan_refine(self, grid_size)
        changed = change(self, plan, samples)
        take(self, plan)
        return changed

    @normal_tensors
    def set_spline_scale(self, spline_scale: float | None) -> None:
        """Hold the splines by another spline_scale, or by none, as plain splines are; the function stays. Without a bias that is
        so on the grid alone for None, and for a number only where the splines are 0 at 0.

        raises: ValueError for a spline_scale that is none, or that cannot keep the function

        >>> import torch, fastkan
        >>> layer = fastkan.KANLinear.from_linear(torch.nn.Linear(4, 2))
        >>> layer.set_spline_scale(None)
        >>> layer.spline_scale
        """
        spline_scale = scaled.check_spline_scale(spline_scale)
        take(self, plan_spline_scale(self, spline_scale))
        self.spline_scale = spline_scale

    def get_extra_state(self) -> Tensor:
        """Degree, activation and grid_range as JSON in a uint8 tensor: they travel with state_dict."""
        return described(self)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to set: a state of another degree, activation or grid_range is refused before."""

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        key = f"{prefix}_extra_state"
        if key not in state_dict:  # written before there were descriptions
            state_dict = {**state_dict, key: described(self)}
        elif reason := disagreement(self, state_dict[key]):
            errors.append(f"{prefix.rstrip('.') or 'KANLinear'}: {reason}")
            return
        adopt(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if self.knots.is_meta and not self.weight.is_meta:  # assign=True with a state that has no knots
            self.knots = torch.empty_like(self.knots, device=self.weight.device)
            write_knots(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the knots with the module's device and cast them to float64 with it, but never to half precision, which would
        move the grid. Where they get memory (to_empty), they are written.
        """
        knots, scale = self.knots, self.scale
        super()._apply(fn, recurse)
        wanted = compute_dtype(self.knots.dtype)
        if self.knots.dtype != wanted:
            self.knots = torch.empty_like(self.knots, dtype=wanted) if knots.is_meta else knots.to(self.knots.device, wanted)
            if self.scale is not None and scale is not None:
                self.scale = torch.empty_like(scale, dtype=wanted) if scale.is_meta else scale.to(self.scale.device, wanted)
        if knots.is_meta and not self.knots.is_meta:
            write_knots(self)
        return self
