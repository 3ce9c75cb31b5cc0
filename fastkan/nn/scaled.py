"""Splines that train beside a linear layer's weights: held at 0 where x is 0, and scaled to the width of their cells.

    phi(x) = w b(x) + s sum_k theta_k (B_k(x) - B_k(0))

B-splines add up to 1, so each coefficient of a plain layer moves an edge much as a bias would, whatever x is, and an optimizer
with steps of one size (Adam) moves all of them the same way: one step moved the answer of a swapped layer up to 550 times as far
as its linear part did. Here a small x gets small steps of the splines, as of w, and s frees them of the grid's units.

The layer's weight holds w and theta, its buffer `scale` holds s. Every base activation is 0 at 0, so what the splines are held by
is the answer of the whole layer at 0.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastkan.dtypes import DTYPES
from fastkan.functional import kan_linear
from fastkan.ops import knots_over
from fastkan.ops.torch_private import tracing_state, untraced
from fastkan.splines.local import combined, splines_at
from fastkan.splines.refit import refit

if TYPE_CHECKING:
    from fastkan.nn.linear import KANLinear

# b(x) = s b(x / s), so that the layer is s times one on x / s with the knots over s: its weight is not copied.
HOMOGENEOUS = ("identity", "relu", "zero")
LEAST = 0.05  # share of the splines' sum that is missing at 0: what a refit misses there grows by at most 1 / LEAST


def check_spline_scale(spline_scale: float | None) -> float | None:
    """Raise unless it is None or a positive number."""
    if spline_scale is None:
        return None
    number = isinstance(spline_scale, int | float) and not isinstance(spline_scale, bool)
    if not number or not (math.isfinite(spline_scale) and spline_scale > 0):
        raise ValueError(f"spline_scale: expected None or a number above 0, received {spline_scale!r}")
    return float(spline_scale)


def scale_for(knots: Tensor, degree: int, spline_scale: float) -> Tensor:
    """s for knots [I, K]: the power of 2 next to spline_scale h / (p + 1), h the median width of a cell over the inputs.

    With a power of 2 x / s and the knots over s are exact, so that a swapped layer starts as the same function bit for bit.
    """
    points = knots[:, degree : knots.shape[1] - degree].double()
    widths = (points[:, -1] - points[:, 0]) / (points.shape[1] - 1)
    width = widths.median() if len(widths) else widths.new_ones(())
    return torch.exp2((width * spline_scale / (degree + 1)).log2().round()).to(knots.dtype)


def factors(scale: Tensor, slots: int) -> Tensor:
    """What each slot of the weight is multiplied by [M, 1]: s, and 1 for the base."""
    return torch.cat((scale.expand(slots - 1), scale.new_ones(1)))[:, None]


def plain_weight(layer: "KANLinear") -> Tensor:
    """The weight [I, M, O] of the plain layer with the same edges up to constants; 0 where an edge is gone. With gradients."""
    weight = layer.weight if layer.mask is None else layer.weight * layer.mask[:, None]
    return weight if layer.scale is None else weight * factors(layer.scale, weight.shape[1]).to(weight.dtype)


def at_zero(weight: Tensor, knots: Tensor, degree: int) -> Tensor:
    """What the splines of every edge of a plain layer are at x = 0 [I, O]."""
    return combined(splines_at(torch.zeros_like(knots[:, :1]), knots, degree), weight[:, :-1])[:, 0]


def value_at_zero(layer: "KANLinear", weight: Tensor) -> Tensor:
    """What a plain layer of this weight gives at x = 0 [O], without its bias: the splines, as the base is 0 there."""
    settings: dict[str, Any] = {"degree": layer.degree, "activation": layer.activation, "backend": layer.backend}
    return kan_linear(weight.new_zeros(1, layer.in_features), weight, layer.knots, **settings)[0]


def raised(weight: Tensor, knots: Tensor, degree: int, values: Tensor, least: float) -> Tensor:
    """A plain layer's weight [I, M, O] whose edges, held at 0 where x is 0, are higher by the values [I, O] on the grid.

    Only where 0 is outside the grid: one constant for all splines of an edge is there its share past the splines at 0. Edges
    where those are more than 1 - least stay, as the constants would grow without bound.
    """
    there = at_zero(torch.ones_like(weight), knots, degree)
    constants = torch.where(1 - there > least, values / (1 - there), 0)
    return torch.cat((weight[:, :-1] + constants[:, None], weight[:, -1:]), dim=1)


def _is_whole(x: Tensor, in_features: int) -> bool:
    """True for a plain tensor that fits, in a dtype in which x / s is exact: in float16 it could overflow."""
    if type(x) is not Tensor or x.is_nested or x.dtype == torch.float16 or x.dtype not in DTYPES:
        return False
    return x.ndim > 0 and x.shape[-1] == in_features


def forward(layer: "KANLinear", x: Tensor, weight: Tensor) -> Tensor:
    """The answer of a layer with a scale, for its masked weight; x [..., I] -> [..., O]."""
    assert layer.scale is not None
    scale = layer.scale
    settings: dict[str, Any] = {"degree": layer.degree, "activation": layer.activation, "backend": layer.backend}
    whole = untraced(_is_whole) if tracing_state() else _is_whole
    if layer.activation not in HOMOGENEOUS or not whole(x, layer.in_features):
        weight = weight * factors(scale, weight.shape[1]).to(weight.dtype)
        held = value_at_zero(layer, weight)
        return kan_linear(x, weight, layer.knots, -held if layer.bias is None else layer.bias - held, **settings)
    rows = x if x.ndim == 2 else x.reshape(x.shape[:-1].numel(), layer.in_features)
    y = kan_linear(pad(rows, (0, 0, 0, 1)) / scale, weight, knots_over(layer.knots, scale), **settings)
    y, held = y.split((rows.shape[0], 1))
    held = held * -scale if layer.bias is None else torch.addcmul(layer.bias.to(y.dtype), held, scale, value=-1)
    y = torch.addcmul(held, y, scale).to(y.dtype)  # autocast would answer in float32
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], layer.out_features)


# ---- the same function on other grids and scales, in float64


def splines(x: Tensor, knots: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, degree: int) -> Tensor:
    """What splines and bias give at x [B, I], in float64."""
    weight, knots, bias = weight.double(), knots.double(), None if bias is None else bias.double()
    if scale is not None:
        weight = weight * factors(scale.double(), weight.shape[1])
    y = kan_linear(x, weight, knots, bias, degree=degree, activation="zero")
    return y if scale is None else y - at_zero(weight, knots, degree).sum(0)


class Held(NamedTuple):
    """A layer's next weight, scale and bias, as it will hold them."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None


def _held(layer: "KANLinear", weight: Tensor, scale: Tensor | None, moved: Tensor) -> Held:
    """For the weight of plain splines; what they are higher at 0 [I, O] goes into the bias."""
    bias = None if layer.bias is None else (layer.bias.double() + moved.sum(0)).to(layer.bias.dtype)
    if scale is not None:
        weight = weight / factors(scale.double(), weight.shape[1])
    return Held(weight.to(layer.weight.dtype), scale, bias)


def refitted(layer: "KANLinear", knots: Tensor, scale: Tensor) -> Held:
    """On other knots. What the splines are at 0 goes into the bias, or without one into splines past which 0 lies."""
    old, before, after = plain_weight(layer).double(), layer.knots.double(), knots.double()
    weight = refit(old, before, after, layer.degree)
    moved = at_zero(weight, after, layer.degree) - at_zero(old, before, layer.degree)
    if layer.bias is None:
        weight = raised(weight, after, layer.degree, moved, LEAST)
    return _held(layer, weight, scale, moved)


def held_by(layer: "KANLinear", scale: Tensor | None) -> Held:
    """By another scale, or by none; ValueError where a layer without bias cannot be."""
    weight, knots = plain_weight(layer).double(), layer.knots.double()
    moved = at_zero(weight, knots, layer.degree) * ((scale is not None) - (layer.scale is not None))
    if layer.bias is None and scale is None:
        weight = torch.cat((weight[:, :-1] + moved[:, None], weight[:, -1:]), dim=1)
    elif layer.bias is None and moved.any():
        raise ValueError("spline_scale: expected None for a layer without bias whose splines are not 0 at 0, received one")
    return _held(layer, weight, scale, moved)
