"""What concerns single edges of a layer: which are there, which are formulas, their values and statistics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fastkan import ops
from fastkan.functional import kan_linear
from fastkan.nn.functions import function
from fastkan.nn.symbolic import SymbolicEdges

if TYPE_CHECKING:
    from fastkan.nn.linear import KANLinear

# ---- which edges there are


@torch.no_grad()
def set_mask(layer: "KANLinear", mask: Tensor | None) -> None:
    """KANLinear.set_mask."""
    if mask is None:
        layer.mask = None
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask: expected a bool tensor, received {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.shape != (layer.in_features, layer.out_features):
        raise ValueError(f"mask: expected shape {(layer.in_features, layer.out_features)}, received {tuple(mask.shape)}")
    layer.mask = mask.to(layer.weight.device, copy=True)
    layer.weight.mul_(layer.mask[:, None])


def present(layer: "KANLinear") -> Tensor:
    """Which edges [I, O] are splines; bool."""
    return torch.ones_like(layer.weight[:, 0], dtype=torch.bool) if layer.mask is None else layer.mask.clone()


def alive(layer: "KANLinear") -> Tensor:
    """Which edges [I, O] are there, as splines or as formulas; bool."""
    there = present(layer)
    for i, o, _ in layer.symbolic.edges if layer.symbolic is not None else ():
        there[i, o] = True
    return there


@torch.no_grad()
def set_symbolic(layer: "KANLinear", formulas: Mapping[tuple[int, int], tuple[str, Sequence[float]]]) -> None:
    """KANLinear.set_symbolic."""
    for (i, o), (name, affine) in formulas.items():
        function(name)
        if not (0 <= i < layer.in_features and 0 <= o < layer.out_features) or len(affine) != 4:
            raise ValueError(
                f"formulas: expected an input below {layer.in_features}, an output below {layer.out_features} and a, b, c, d, "
                f"received {(i, o)} and {tuple(affine)}"
            )
    mask = alive(layer)  # formulas from before become splines again, of weight 0
    for i, o in formulas:
        mask[i, o] = False
    affines = torch.tensor([list(map(float, affine)) for _, affine in formulas.values()], dtype=torch.float64)
    listed = [(i, o, name) for (i, o), (name, _) in formulas.items()]
    del layer.symbolic  # a module in the place of None would still be listed as a child
    layer.symbolic = SymbolicEdges(listed, affines.to(layer.weight), layer.out_features) if listed else None
    set_mask(layer, None if mask.all() else mask)


# ---- values and statistics


def edge_values(layer: "KANLinear", t: Tensor, nu: int = 0) -> Tensor:
    """The nu-th derivative of every edge's function at t [T, I], one column an input -> [T, I, O]; nu = 0 alone for formulas."""
    weight = layer.weight * present(layer)[:, None]
    values = [
        kan_linear(
            t[:, i : i + 1], weight[i : i + 1], layer.knots[i : i + 1], degree=layer.degree, activation=layer.activation, nu=nu
        )
        for i in range(layer.in_features)
    ]
    y = torch.stack(values, dim=1) if values else t.new_zeros(len(t), 0, layer.out_features)
    if layer.symbolic is not None:
        a, b, c, d = layer.symbolic.affine.unbind(-1)
        for k, (i, o, name) in enumerate(layer.symbolic.edges):
            y[:, i, o] = c[k] * function(name).call(a[k] * t[:, i] + b[k]) + d[k]
    return y


def slopes_to_one(layer: "KANLinear", weight: Tensor, x: Tensor) -> Tensor:
    """The first derivative of every spline edge of a layer with one output, in one call: x [B, I] -> [B, I], with gradients."""
    settings = (layer.knots, layer.degree, layer.activation, ops.resolve(layer.backend))
    return ops.grad_input(x, weight, x.new_ones(len(x), 1), *settings, 1)


def jet_of_splines(
    layer: "KANLinear", weight: Tensor, x: Tensor, first: Tensor | None, second: Tensor | None, coefficients: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Value [B, O], first [d, B, O] and second derivatives [B, O] of the spline edges in one call, as in ops/jet.py; None where
    nothing makes them at once.
    """
    inputs = ops.JetInputs(x, weight, first, second, coefficients, layer.knots)
    return ops.jet(inputs, layer.degree, layer.activation, layer.backend)


class Moments(NamedTuple):
    """mean [I, M] of the slots over a batch and their covariance [I, M, M]: all statistics of the edges follow from them."""

    mean: Tensor
    covariance: Tensor


def slot_moments(layer: "KANLinear", x: Tensor) -> Moments:
    """The moments for x [B, I], through gram: no tensor [B, I, O] is made. With gradients towards x."""
    settings = (layer.knots, layer.degree, layer.activation, ops.resolve(layer.backend))
    rows = max(len(x), 1)
    mean = ops.grad_weight(x, x.new_ones(len(x), 1), None, *settings, 0)[..., 0] / rows
    gram = ops.gram(x, None, *settings, 0, 0) / rows
    return Moments(mean, gram - mean[:, :, None] * mean[:, None])


def edge_means(layer: "KANLinear", moments: Moments) -> Tensor:
    """The mean of every edge [I, O] that is a spline, 0 elsewhere."""
    return torch.einsum("im,imo->io", moments.mean, layer.weight) * present(layer)


def edge_deviations(layer: "KANLinear", x: Tensor, moments: Moments | None = None) -> Tensor:
    """The standard deviation of every edge [I, O] over x [B, I], with gradients.

    A deviation of 0 has the gradient 0.
    """
    covariance = (moments or slot_moments(layer, x)).covariance
    variance = torch.einsum("imo,imn,ino->io", layer.weight, covariance, layer.weight)
    variance = torch.where(present(layer), variance, 0)
    if layer.symbolic is not None:
        values = edge_values(layer, x).var(0, correction=0)
        where = alive(layer) & ~present(layer)
        variance = torch.where(where, values, variance)
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)


def slot_values(layer: "KANLinear", x: Tensor, nu: int = 0) -> Tensor:
    """f_m^(nu)(x), the nu-th derivative of every slot at x [B, I] -> [B, I, M]."""
    slots, parts = layer.weight.shape[1], []
    group = max(4, 72 // slots)  # inputs a call: the work grows with their square, calls cost 20 us
    for start in range(0, layer.in_features, group):
        knots = layer.knots[start : start + group]
        n = len(knots)
        unit = torch.eye(n * slots, dtype=x.dtype, device=x.device).reshape(n, slots, n * slots)
        y = kan_linear(
            x[:, start : start + group], unit, knots, degree=layer.degree, activation=layer.activation, nu=nu,
            backend=layer.backend,
        )  # fmt: skip
        parts.append(y.reshape(len(x), n, slots))
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, dim=1) if parts else x.new_zeros(len(x), 0, slots)
