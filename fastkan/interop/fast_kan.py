"""States of FastKAN (github.com/ZiyaoLi/fast-kan), whose edges are radial bases, as splines."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.interop.assembled import make_layer
from fastkan.interop.edges import LARGEST, from_edges
from fastkan.interop.states import check_row, check_shape, grouped, state_of
from fastkan.nn.linear import KANLinear

NEEDED = ("rbf.grid", "spline_linear.weight")
MORE = ("layernorm.weight", "layernorm.bias", "base_linear.weight", "base_linear.bias")
BASES: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU, "identity": nn.Identity,
}  # fmt: skip


class NormedKANLinear(nn.Module):
    """A layer of FastKAN: y = splines(norm(x)) + base(x), with the normalisation for the splines alone.

    norm: an nn.LayerNorm; splines: a KANLinear; base: an activation, then an nn.Linear, or None
    """

    def __init__(self, norm: nn.LayerNorm, splines: KANLinear, base: nn.Sequential | None) -> None:
        super().__init__()
        self.norm, self.splines, self.base = norm, splines, base

    def forward(self, x: Tensor) -> Tensor:
        """x [..., I] -> [..., O]."""
        y = self.splines(self.norm(x))
        return y if self.base is None else y + self.base(x)


class FastKANProjection(NamedTuple):
    """model: the layers in an nn.Sequential; errors: how large the error of every edge [I, O] can be, a layer each"""

    model: nn.Sequential
    errors: list[Tensor]


class _Settings(NamedTuple):
    tolerance: float
    denominator: float | None
    activation: str
    eps: float
    largest: int


def _splines(number: int, tensors: Mapping[str, Tensor], settings: _Settings) -> tuple[KANLinear, Tensor]:
    """The radial bases of a layer as splines, and how large the edges' errors [I, O] can be. All inputs share the bases, so
    these alone are projected. Past the range what is left of one is less than the tolerance.
    """
    grid, weight = (tensors[name] for name in NEEDED)
    count = grid.numel()
    if grid.ndim != 1 or count < 2 or weight.ndim != 2 or weight.shape[1] % count:
        raise ValueError(
            f"layer {number}: expected rbf.grid [N] and spline_linear.weight [O, I N], received {tuple(grid.shape)} and "
            f"{tuple(weight.shape)}"
        )
    centres = grid.double().cpu()
    width = settings.denominator or float(centres[-1] - centres[0]) / (count - 1)
    reach = width * math.sqrt(math.log(1 / settings.tolerance))

    def bases(t: Tensor) -> Tensor:
        return torch.exp(-(((t[..., None] - centres) / width) ** 2))

    ends = (float(centres.min()) - reach, float(centres.max()) + reach)
    one, error = from_edges(bases, 1, count, ends, settings.tolerance, largest=settings.largest, dtype=torch.float64)
    edges = weight.double().unflatten(1, (-1, count))
    made = torch.einsum("mn,oin->imo", one.weight[0].to(edges), edges)
    knots = one.knots.to(edges.device).expand(edges.shape[1], -1)
    layer = make_layer(made, knots, settings.activation, dtype=weight.dtype)
    return layer, torch.einsum("n,oin->io", error[0] + torch.finfo(weight.dtype).eps, edges.abs().cpu())


def _base(tensors: Mapping[str, Tensor], number: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor] | None:
    """Weight [O, I] and bias [O] of the base, or None where a layer has none."""
    if "base_linear.weight" not in tensors:
        return None
    weight = tensors["base_linear.weight"]
    bias = tensors.get("base_linear.bias", weight.new_zeros(outputs))
    check_shape(f"layer {number}, base_linear.weight", weight, (outputs, inputs))
    check_shape(f"layer {number}, base_linear.bias", bias, (outputs,))
    return weight, bias


def _layer(number: int, tensors: Mapping[str, Tensor], settings: _Settings) -> tuple[nn.Module, Tensor]:
    splines, error = _splines(number, tensors, settings)
    inputs, outputs = splines.in_features, splines.out_features
    base = _base(tensors, number, inputs, outputs)
    if "layernorm.weight" not in tensors:
        if base is not None:
            splines.weight[:, -1] = base[0].T
            splines.bias = nn.Parameter(base[1].clone())
        return splines, error
    like: dict[str, Any] = {"device": splines.weight.device, "dtype": splines.weight.dtype}
    norm = nn.LayerNorm(inputs, settings.eps, **like)
    for name in ("weight", "bias"):
        given = tensors.get(f"layernorm.{name}", torch.zeros_like(norm.bias))
        check_shape(f"layer {number}, layernorm.{name}", given, (inputs,))
        getattr(norm, name).copy_(given)
    if base is None:
        return NormedKANLinear(norm, splines, None), error
    linear = nn.Linear(inputs, outputs, device="meta", dtype=like["dtype"]).to_empty(device=like["device"])
    linear.weight.copy_(base[0])
    linear.bias.copy_(base[1])
    return NormedKANLinear(norm, splines, nn.Sequential(BASES[settings.activation](), linear)), error


@torch.no_grad()
def from_fast_kan(
    source: nn.Module | Mapping[str, Any],
    tolerance: float = 1e-4,
    denominator: float | None = None,
    activation: str = "silu",
    eps: float = 1e-5,
    largest: int = LARGEST,
) -> FastKANProjection:
    """A FastKAN with splines in the place of its radial bases, everywhere within the tolerance; all else is as it was.

    source: the module, or its state dict: rbf.grid [N], spline_linear.weight [O, I N] and, where a layer has them,
        layernorm.weight and .bias [I], base_linear.weight [O, I] and .bias [O]
    tolerance: the largest error of a radial basis, whose height is 1; largest: as in from_edges
    denominator, activation, eps: what the state does not say: the width of a basis (None: the distance of the centres), the
        base_activation, the eps of the nn.LayerNorm
    returns: (model, errors): an nn.Sequential of NormedKANLinear, or of KANLinear where there is no normalisation, and for each
        how large the error of every edge [I, O] can be: the bases' errors times their weights
    raises: TypeError or ValueError for another state, or as from_edges does

    >>> import torch, fastkan
    >>> state = {"rbf.grid": torch.linspace(-2, 2, 8), "spline_linear.weight": torch.randn(5, 3 * 8)}
    >>> model, errors = fastkan.interop.from_fast_kan(state, tolerance=1e-3)
    >>> model(torch.randn(10, 3)).shape, errors[0].shape
    (torch.Size([10, 5]), torch.Size([3, 5]))
    """
    if activation not in BASES:
        raise ValueError(f"activation: expected one of {', '.join(BASES)}, received {activation!r}")
    if denominator is not None and not denominator > 0:
        raise ValueError(f"denominator: expected None or a number above 0, received {denominator!r}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, received {tolerance!r}")
    settings = _Settings(tolerance, denominator, activation, eps, largest)
    groups = grouped(state_of(source), NEEDED, MORE, "FastKAN")
    made = [_layer(number, tensors, settings) for number, tensors in enumerate(groups)]
    kans = [layer.splines if isinstance(layer, NormedKANLinear) else layer for layer, _ in made]
    check_row([(layer.in_features, layer.out_features) for layer in kans if isinstance(layer, KANLinear)])
    return FastKANProjection(nn.Sequential(*(layer for layer, _ in made)), [error for _, error in made])
