"""A layer's value, first derivatives and sum of second derivatives in one call, and its gradients in one more.

    value F0(x),    first F1(x; T_k),    second F2(x; sum_k c_k T_k^2) + F1(x; s)        (docs/design.md, section 3)

The intervals are found and the splines evaluated once for all of it, and the directions meet slopes that are made once. Only
plain first-order passes have code of their own: a backward pass that is differentiated itself is written with single operations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan import backends
from fastkan.ops import routes
from fastkan.ops.derivatives import total
from fastkan.ops.torch_private import plain_on_cpu, queryable, wanted_inputs

DTYPES = (torch.float32, torch.float64)
PLAIN = (Tensor, torch.nn.Parameter)


class Inputs(NamedTuple):
    """x [B, I], weight [I, M, O], first [d, B, I] (None: the unit vectors), second [B, I] (None: 0), coefficients [d] (None: 1)
    and knots [I, G + 2p + 1].
    """

    x: Tensor
    weight: Tensor
    first: Tensor | None
    second: Tensor | None
    coefficients: Tensor | None
    knots: Tensor


class JetSettings(NamedTuple):
    degree: int
    activation: str
    backend: str

    def of_backend(self, x: Tensor) -> backends.Jet | None:
        """The jet of the backend that serves x, or None where it has none."""
        return backends.select(self.backend or backends.resolve(None), x.device, x.dtype, self.degree).jet


# ---- which calls are served


def _plain(*tensors: Tensor | None, dtype: torch.dtype) -> bool:
    """True where the native module can read the tensors, or contiguous copies of them."""
    return all(t is None or (type(t) in PLAIN and t.dtype is dtype and plain_on_cpu(t)) for t in tensors)


def _fit(inputs: Inputs, degree: int) -> bool:
    """Whether the shapes are those of one layer: wrong ones too go to the operations, which say what is wrong."""
    x, weight, first, second, coefficients, knots = inputs
    if x.ndim != 2 or weight.ndim != 3:
        return False
    in_features, slots, _ = weight.shape
    directions = in_features if first is None else len(first)
    return (
        x.shape[1] == in_features
        and slots >= degree + 2
        and knots.shape == (in_features, slots + degree)
        and (first is None or first.shape[1:] == x.shape)
        and (second is None or second.shape == x.shape)
        and (coefficients is None or coefficients.shape == (directions,))
    )


def _served(inputs: Inputs, settings: JetSettings) -> backends.Jet | None:
    x = inputs.x
    if x.dtype not in DTYPES or not routes.serves_a_stack() or not _plain(*inputs, dtype=x.dtype):
        return None
    if inputs.knots.requires_grad or not _fit(inputs, settings.degree):
        return None
    return settings.of_backend(x)


# ---- backward


def _by_operations(inputs: Inputs, settings: JetSettings, cotangents: Sequence[Tensor], wanted: Sequence[bool]) -> list[Any]:
    """The gradients from the operations of routes.py, which can be differentiated and transformed."""
    x, weight, first, second, coefficients, knots = inputs
    s, (g, g_first, g_second) = (knots, *settings), cotangents
    directions = torch.eye(x.shape[1], dtype=x.dtype)[:, None].expand(-1, *x.shape) if first is None else first
    weights: Sequence[Any] = [1] * len(directions) if coefficients is None else coefficients.unbind()
    alongs = list(zip(directions.unbind(), g_first.unbind(), strict=True))
    squares = (directions * directions if coefficients is None else coefficients[:, None, None] * directions * directions).sum(0)

    def of_input(q: Tensor, nu: int) -> Tensor:
        return routes.routed["grad_input"](x, weight, q, *s, nu)

    def of_weight(q: Tensor, row_weight: Tensor | None, nu: int) -> Tensor:
        return routes.routed["grad_weight"](x, q, row_weight, *s, nu)

    dx = dweight = dfirst = dsecond = dcoefficients = None
    if wanted[0]:
        dx = total(of_input(g, 1), squares * of_input(g_second, 3), *(t * of_input(q, 2) for t, q in alongs))
        dx = total(dx, None if second is None else second * of_input(g_second, 2))
    if wanted[1]:
        dweight = total(of_weight(g, None, 0), of_weight(g_second, squares, 2), *(of_weight(q, t, 1) for t, q in alongs))
        dweight = total(dweight, None if second is None else of_weight(g_second, second, 1))
    if wanted[2] or wanted[4]:
        curved = of_input(g_second, 2)
        if wanted[2]:
            dfirst = torch.stack([of_input(q, 1) + 2 * c * t * curved for c, (t, q) in zip(weights, alongs, strict=True)])
        if wanted[4]:
            dcoefficients = (directions * directions * curved).sum((1, 2))
    if wanted[3]:
        dsecond = of_input(g_second, 1)
    return [dx, dweight, dfirst, dsecond, dcoefficients]


def _in_one_call(
    inputs: Inputs, settings: JetSettings, cotangents: Sequence[Tensor], wanted: Sequence[bool], jet: backends.Jet
) -> list[Any]:
    *others, of_coefficients = wanted
    *gradients, squares = jet.gradients(*inputs, *settings[:2], cotangents, (*others, of_coefficients))
    if squares is None:
        return [*gradients, None]
    return [*gradients, squares.sum(0) if inputs.first is None else (inputs.first * inputs.first * squares).sum((1, 2))]


def _layout(tensors: Sequence[Tensor | None]) -> list[Any]:
    """What `.data` can change without that autograd finds it."""
    return [None if t is None else (t.shape, t.dtype) for t in tensors]


class _Jet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: JetSettings, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.settings = settings
        ctx.present = (False, *(t is not None for t in tensors))
        ctx.save_for_backward(*tensors)
        ctx.layout = _layout(tensors)
        return _forward(Inputs(*tensors), settings)  # type: ignore[arg-type]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        inputs, settings = Inputs(*ctx.saved_tensors), ctx.settings
        if _layout(inputs) != ctx.layout:
            raise RuntimeError("x, weight, derivatives or knots: shape or dtype changed between forward and backward")
        wanted = wanted_inputs(ctx, ctx.present)[1:6]
        jet = None if torch.is_grad_enabled() else _served(inputs, settings)
        if jet is None or not _plain(*cotangents, dtype=inputs.x.dtype):
            gradients = _by_operations(inputs, settings, cotangents, wanted)
        else:
            gradients = _in_one_call(inputs, settings, cotangents, wanted, jet)
        return None, *gradients, None


# ---- forward


def _forward(inputs: Inputs, settings: JetSettings) -> tuple[Tensor, Tensor, Tensor]:
    jet = settings.of_backend(inputs.x)
    assert jet  # only where there is one
    return jet.forward(*inputs, *settings[:2])


def jet(inputs: Inputs, degree: int, activation: str, backend: str | None) -> tuple[Tensor, Tensor, Tensor] | None:
    """(value [B, O], first [d, B, O], second [B, O]) of a layer without its bias; None where it is to be made of single
    operations.

    Served are float32 and float64 tensors on the CPU in plain eager mode, where backend `cpu` is the one chosen.
    """
    settings = JetSettings(degree, activation, backends.resolve(backend))
    if _served(inputs, settings) is None:
        return None
    if not torch.is_grad_enabled():
        return _forward(inputs, settings)
    return _Jet.apply(settings, *map(queryable, inputs))
