"""How the value, first derivatives and a sum of second derivatives pass through every kind of module (Taylor mode).

A module maps what is known at its inputs to the same at its outputs. With T_k the first derivatives of its inputs x and s the sum
of their second ones, a layer of edges gives, by Faa di Bruno's formula,

    value F0(x),    first F1(x; T_k),    second F2(x; sum_k T_k^2) + F1(x; s)

where F_nu(x; r) is the layer with the nu-th derivative of its edges and row weights r. Backend cpu makes all of it in one call;
elsewhere d directions cost d + 3 calls of an operation that has gradients of any order. Nested automatic differentiation goes
through the graph of the gradient d times.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.functional import kan_linear
from fastkan.nn import KAN, Columns, KANLinear, Products, SymbolicEdges
from fastkan.nn.edges import jet_of_splines, slopes_to_one
from fastkan.nn.scaled import plain_weight, value_at_zero
from fastkan.nn.start import check_knots


class Flow(NamedTuple):
    """What flows through the stack: x [B, I], first [d, B, I] (None: the unit vectors), second [B, I] (None: 0).

    coefficients: d numbers of the second derivatives in their sum (None: all 1).
    """

    x: Tensor
    first: Tensor | None
    second: Tensor | None
    coefficients: Tensor | None

    @property
    def tangents(self) -> Tensor:
        """first, the unit vectors too as a tensor."""
        if self.first is not None:
            return self.first
        return torch.eye(self.x.shape[-1], dtype=self.x.dtype, device=self.x.device)[:, None].expand(-1, *self.x.shape)

    def summed(self, products: Tensor) -> Tensor:
        """The sum over d, with the coefficients."""
        return (products if self.coefficients is None else self.coefficients[:, None, None] * products).sum(0)

    def linear(self, function: Callable[[Tensor], Tensor], value: Tensor) -> "Flow":
        """Through a linear function of the last dimension, with the value that it gives."""
        second = None if self.second is None else function(self.second)
        return Flow(value, function(self.tangents), second, self.coefficients)

    def pointwise(self, function: Callable[[Tensor], Tensor]) -> "Flow":
        """Through a function of every number by itself."""

        def slope(t: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            def value(u: Tensor) -> tuple[Tensor, Tensor]:
                y = function(u)
                return y.sum(), y

            first, y = torch.func.grad(value, has_aux=True)(t)
            return first.sum(), (first, y)

        curvature, (steepness, value) = torch.func.grad(slope, has_aux=True)(self.x)
        tangents = self.tangents
        second = curvature * self.summed(tangents * tangents)
        if self.second is not None:
            second = second + steepness * self.second
        return Flow(value, steepness * tangents, second, self.coefficients)


# ---- one rule a kind of module


def _through_edges(layer: KANLinear, flow: Flow) -> Flow:
    if layer.unset:
        check_knots(layer, flow.x)
    weight = plain_weight(layer)
    through = _in_one_call(layer, weight, flow) or _call_by_call(layer, weight, flow)
    if layer.scale is not None:
        through = through._replace(x=through.x - value_at_zero(layer, weight))
    if layer.symbolic is None:
        return through
    formulas = _through_formulas(layer.symbolic, flow)
    assert formulas.second is not None and through.second is not None
    tangents, second = through.tangents + formulas.tangents, through.second + formulas.second
    return Flow(through.x + formulas.x, tangents, second, flow.coefficients)


def _in_one_call(layer: KANLinear, weight: Tensor, flow: Flow) -> Flow | None:
    """The spline edges and the bias in one call of the backend, where it has one."""
    made = jet_of_splines(layer, weight, *flow)
    if made is None:
        return None
    value, tangents, second = made
    return Flow(value if layer.bias is None else value + layer.bias, tangents, second, flow.coefficients)


def _call_by_call(layer: KANLinear, weight: Tensor, flow: Flow) -> Flow:
    """The same in d + 3 calls of operations that go everywhere and have derivatives of any order."""
    x, first, second, coefficients = flow

    def run(x: Tensor, weight: Tensor, knots: Tensor, nu: int, row_weight: Tensor | None = None) -> Tensor:
        settings = {"degree": layer.degree, "activation": layer.activation, "backend": layer.backend}
        bias = layer.bias if nu == 0 else None
        return kan_linear(x, weight, knots, bias, nu=nu, row_weight=row_weight, **settings)  # type: ignore[arg-type]

    def along(t: Tensor) -> Tensor:
        return run(x, weight, layer.knots, 1, t)

    value = run(x, weight, layer.knots, 0)
    if layer.out_features == 1 and first is not None:  # as most networks end: its slopes serve all directions
        slopes = slopes_to_one(layer, weight, x)

        def along(t: Tensor) -> Tensor:
            return torch.linalg.vecdot(slopes, t)[:, None]

    if first is None:  # along a unit vector only the edges of one input count
        columns = zip(x.split(1, dim=1), weight.split(1), layer.knots.split(1), strict=True)
        tangents = [run(*column, 1) for column in columns]
        squares = None if coefficients is None else coefficients.expand_as(x)
    else:
        tangents = [along(t) for t in first.unbind()]
        squares = flow.summed(first * first)
    curved = run(x, weight, layer.knots, 2, squares)
    if second is not None:
        curved = curved + along(second)
    return Flow(value, torch.stack(tangents), curved, coefficients)


def _through_formulas(formulas: SymbolicEdges, flow: Flow) -> Flow:
    a, b, c, d = formulas.affine.unbind(-1)

    def picked(t: Tensor) -> Tensor:
        return t.index_select(-1, formulas.inputs) * a

    inside = flow.linear(picked, picked(flow.x) + b)
    outside = inside.pointwise(formulas.values)
    return outside.linear(lambda t: (c * t) @ formulas.spread, (c * outside.x + d) @ formulas.spread)


def _times(u: Flow, v: Flow) -> Flow:
    """The product of two, by the product rule."""
    assert u.second is not None and v.second is not None
    mixed, tangents = u.summed(u.tangents * v.tangents), u.tangents * v.x + u.x * v.tangents
    return Flow(u.x * v.x, tangents, u.second * v.x + 2 * mixed + u.x * v.second, u.coefficients)


def _through_products(nodes: Products, flow: Flow) -> Flow:
    tangents, second = flow.tangents, torch.zeros_like(flow.x) if flow.second is None else flow.second

    def part(start: int, stop: int) -> Flow:
        of = (..., slice(start, stop))
        return Flow(flow.x[of], tangents[of], second[of], flow.coefficients)

    parts, start = [part(0, nodes.sums)], nodes.sums
    for arity in nodes.arities:
        parts.append(functools.reduce(_times, [part(k, k + 1) for k in range(start, start + arity)]))
        start += arity
    tangents = torch.cat([p.tangents for p in parts], dim=-1)
    curved = torch.cat([p.second for p in parts if p.second is not None], dim=-1)
    return Flow(torch.cat([p.x for p in parts], dim=-1), tangents, curved, flow.coefficients)


def _through_columns(columns: Columns, flow: Flow) -> Flow:
    return flow.linear(columns, columns(flow.x))


def _through_linear(linear: nn.Linear, flow: Flow) -> Flow:
    return flow.linear(lambda t: nn.functional.linear(t, linear.weight), linear(flow.x))


def _through_pointwise(module: nn.Module, flow: Flow) -> Flow:
    in_place = getattr(module, "inplace", False)
    return flow.pointwise(lambda t: module(t.clone() if in_place else t))


# Without Hardsigmoid, whose second derivative torch does not have.
POINTWISE: tuple[type[nn.Module], ...] = (
    nn.CELU, nn.Dropout, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid,
    nn.Mish, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
Rule = Callable[[Any, Flow], Flow]
# By the function that computes: a subclass that changes nothing about it is served, one with a forward of its own is not.
RULES: dict[Any, Rule] = {
    KANLinear.forward: _through_edges,
    SymbolicEdges.forward: _through_formulas,
    Products.forward: _through_products,
    Columns.forward: _through_columns,
    nn.Linear.forward: _through_linear,
    nn.Identity.forward: lambda module, flow: flow,
} | {module.forward: _through_pointwise for module in POINTWISE}


def through(module: nn.Module, name: str, flow: Flow, pointwise: tuple[type[nn.Module], ...]) -> Flow:
    """Through any module; TypeError for one without a rule."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        raise TypeError(f"model: expected modules without hooks or a patched forward, received {_named(module, name)} with one")
    forward = type(module).forward
    if forward in (nn.Sequential.forward, KAN.forward):
        for key, child in module._modules.items():
            if child is not None:
                flow = through(child, f"{name}.{key}" if name else key, flow, pointwise)
        return flow
    rule = _through_pointwise if isinstance(module, pointwise) else RULES.get(forward)
    if rule is None:
        raise TypeError(
            "model: expected KANLinear, Products, Columns, nn.Linear and activations in an nn.Sequential, received "
            f"{_named(module, name)}; if it acts on every number by itself pass pointwise=({type(module).__name__},), else "
            "differentiate with torch.autograd.grad"
        )
    return rule(module, flow)


def _named(module: nn.Module, name: str) -> str:
    return f"{type(module).__name__} at {name!r}" if name else type(module).__name__
