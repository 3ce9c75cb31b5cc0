"""KANLinear: nn.Linear's place, with a learnable spline on every edge."""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Self

import torch
from torch import Tensor, nn

from fastkan import grid, reference
from fastkan.backends import check_name
from fastkan.bases import check_base
from fastkan.functional import DTYPES, check_degree, check_tensor, kan_linear

NOISE_SCALE = 0.3  # pykan's KAN default: splines start as noise of U(-1/2, 1/2) * 0.3 / G at the grid points


def _check_range(grid_range: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in grid_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"grid_range: expected finite (low, high) with low < high, received {grid_range!r}")
    return low, high


class KANLinear(nn.Module):
    """Layer y[o] = sum_i phi_io(x[i]) + bias[o], phi_io a spline plus a weighted base activation (Liu et al., arXiv:2404.19756).

    in_features, out_features, bias, device, dtype: as nn.Linear's
    grid_size: G, intervals of the spline grid; degree: p of the splines; grid_range: where the grid lies, in units of x. Splines
        fade to 0 within `degree` cells outside of it, where only the base activation speaks.
    base: silu, gelu, tanh, relu, identity or zero
    backend: cpu, triton, cuda, reference, or None for the best at hand
    weight [I, M, O] with M = G + p + 1 (the splines, then the base), bias [O], buffer knots [I, G + 2p + 1] (float32 at least)
    raises: TypeError, ValueError naming the argument
    """

    knots: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base: str = "silu",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_degree(degree, grid_size)
        check_base(base)
        for name, features in (("in_features", in_features), ("out_features", out_features)):
            if isinstance(features, bool) or not isinstance(features, Integral) or features < 0:
                raise ValueError(f"{name}: expected a whole number of at least 0, received {features!r}")
        self.in_features, self.out_features = in_features, out_features = int(in_features), int(out_features)
        self.degree, self.base = degree, base
        self.grid_range = _check_range(grid_range)
        self.backend = None if backend is None else check_name(backend)
        weight = torch.empty(in_features, grid_size + degree + 1, out_features, device=device, dtype=dtype)
        if weight.dtype not in DTYPES:
            raise TypeError(f"dtype: expected a real floating dtype, received {weight.dtype}")
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None)
        knots = weight.new_empty((in_features, grid_size + 2 * degree + 1), dtype=_knots_dtype(weight.dtype))
        self.register_buffer("knots", knots)
        self.reset_parameters()

    @property
    def grid_size(self) -> int:
        """G, the number of grid intervals."""
        return self.weight.shape[1] - self.degree - 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Uniform knots over grid_range and pykan's initialisation: base weights U(-1, 1) / sqrt(I), splines of small noise."""
        if self.weight.is_meta:
            return
        device, points = self.weight.device, self.grid_size + 1
        knots = grid.uniform(1, self.grid_size, self.degree, self.grid_range)
        self.knots.copy_(grid.rounded(knots, self.knots.dtype, "grid_range").expand_as(self.knots))
        scale = 1 / math.sqrt(max(self.in_features, 1))
        # Noise is given at the G + 1 grid points; of all splines through it the one with the smallest coefficients.
        values = reference.basis(grid.grid_points(knots, self.degree).T, knots, self.degree)[:, 0]
        interpolate = torch.linalg.pinv(values).to(device=device, dtype=self.knots.dtype)
        shape = (self.in_features, points, self.out_features)
        noise = torch.rand(shape, device=device, dtype=self.knots.dtype).sub_(0.5).mul_(NOISE_SCALE / self.grid_size * scale)
        self.weight[:, :-1] = (interpolate @ noise).to(self.weight.dtype)
        self.weight[:, -1].uniform_(-scale, scale)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """x [..., I] -> [..., O] in x's dtype."""
        return kan_linear(x, self.weight, self.knots, self.bias, degree=self.degree, base=self.base, backend=self.backend)

    def extra_repr(self) -> str:
        text = (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"grid_size={self.grid_size}, degree={self.degree}, base={self.base!r}"
        )
        return text if self.backend is None else f"{text}, backend={self.backend!r}"

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls,
        linear: nn.Linear,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base: str = "identity",
        backend: str | None = None,
    ) -> Self:
        """A layer that starts as the same function as an nn.Linear: everywhere with base="identity", else on grid_range.

        With "identity" the linear map sits in the base slot and the splines start at 0; with any other base it sits in the
        splines, whose coefficients are the Greville abscissae times its weight (Marsden's identity). Device, dtype,
        training mode and requires_grad are the linear's.
        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear: expected an nn.Linear, received {type(linear).__name__}")
        weight = linear.weight
        layer = cls(
            linear.in_features, linear.out_features, linear.bias is not None, grid_size, degree, grid_range, base, backend,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        layer.train(linear.training)
        layer.weight.requires_grad_(weight.requires_grad)
        layer.weight.zero_()
        if base == "identity":
            layer.weight[:, -1] = weight.T
        else:
            coefficients = grid.greville(layer.knots, degree)  # [I, S]
            layer.weight[:, :-1] = (coefficients[..., None] * weight.T[:, None]).to(weight.dtype)
        if layer.bias is not None and linear.bias is not None:
            layer.bias.requires_grad_(linear.bias.requires_grad).copy_(linear.bias)
        return layer

    @torch.no_grad()
    def update_grid(self, x: Tensor, eps: float = 0.02) -> None:
        """Lay each input's grid where its samples x [..., I] are, and refit the splines to the function they were.

        eps: 1 spaces the grid points uniformly over the samples' range, 0 at their quantiles (as pykan's grid_eps).
        raises: ValueError for an empty x, one with NaN or infinity, or eps outside [0, 1]
        """
        check_tensor("x", x)
        if not 0 <= eps <= 1:
            raise ValueError(f"eps: expected a number from 0 to 1, received {eps!r}")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x: expected last dimension {self.in_features}, received shape {tuple(x.shape)}")
        samples = x.detach().reshape(x.shape[:-1].numel(), self.in_features).double()
        if not len(samples):
            raise ValueError("x: expected at least one row, received none")
        if bad := int((~samples.isfinite()).any(1).sum()):
            raise ValueError(f"x: expected finite samples, received {bad} of {len(samples)} rows with NaN or infinity")
        resolution = torch.finfo(self.knots.dtype).eps
        self._move_to(grid.adapt(self.knots.double(), samples, self.degree, eps, resolution), "x")

    @torch.no_grad()
    def refine(self, grid_size: int) -> None:
        """Change the number of grid intervals and refit: the same function where the old grid divides the new one.

        The weight changes its shape in place: make a new optimizer, or clear the old one's state.
        """
        check_degree(self.degree, grid_size)
        self._move_to(grid.resample(self.knots.double(), self.degree, grid_size), "grid_size")

    def _move_to(self, knots: Tensor, origin: str) -> None:
        """Take the new extended knots (float64, rounded here to the buffer's dtype first) and refit the weight."""
        if "weight" not in self._parameters:  # a parametrized weight is made anew at every access: a refit would be lost
            raise RuntimeError("weight: expected a plain parameter, received one that is parametrized or pruned")
        rounded = grid.rounded(knots, self.knots.dtype, origin)
        weight = grid.refit(self.weight.double(), self.knots.double(), rounded.double(), self.degree)
        self.weight.data = weight.to(self.weight.dtype)
        self.weight.grad = None
        self.knots = rounded

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let the knots follow the module's device and float64, but never half precision, which would move the grid."""
        knots = self.knots
        super()._apply(fn, recurse)
        wanted = _knots_dtype(self.knots.dtype)
        if self.knots.dtype != wanted:
            self.knots = torch.empty_like(self.knots, dtype=wanted) if knots.is_meta else knots.to(self.knots.device, wanted)
        return self


def _knots_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
