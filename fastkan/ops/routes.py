"""How a call reaches the torch ops of registration.py: one router, and the functions that callers use.

No single way serves everything in PyTorch (measured in docs/design.md). Under torch.compile, torch.export and torch.func it is
the raw op, with the kernels of transforms.py; in eager mode that records a graph a Function; else the raw op below autograd.
Exporters that know no custom ops get exported.py. A stack of layers and fused gradients exist in plain eager mode only.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from fastkan import backends
from fastkan.ops import derivatives, transforms
from fastkan.ops.derivatives import Closure
from fastkan.ops.exported import EXPORTED, in_plain_pytorch
from fastkan.ops.registration import library, raw, raw_fused_gradients
from fastkan.ops.table import OPERATIONS, Operation, Settings, Wanted
from fastkan.ops.torch_private import (
    below_autograd,
    dual_active,
    functorch_active,
    observed,
    onnx_exporting,
    queryable,
    tracing_state,
    wanted_inputs,
)

# ---- the router


class Route(Enum):
    """Where a call goes."""

    OP = auto()  # torch.func, torch.compile, torch.export, torch.jit.trace: the raw op
    DECOMPOSED = auto()  # inside torch.compile where an op would lose something: the reference, which PyTorch differentiates
    EXPORTED = auto()  # torch.onnx.export: the operators that are fast in other runtimes
    DUAL = auto()  # forward mode: the eager Function, whose jvp keeps the tangent
    RECORDED = auto()  # eager, with a graph: the eager Function
    PLAIN = auto()  # eager, without a graph (every first-order backward is): the raw op


def _of_a_program() -> Route:
    """The route of a call that a compiler or an exporter sees."""
    if onnx_exporting():
        return Route.DECOMPOSED if functorch_active() else Route.EXPORTED
    # Dynamo's graph enters a level of forward mode without telling Python, so an op in it would not see tangents.
    return Route.DECOMPOSED if dual_active() and not functorch_active() else Route.OP


def route() -> Route:
    """The route of a call made here and now."""
    if torch.compiler.is_compiling():
        return _of_a_program()
    if functorch_active():
        return Route.OP
    if dual_active():
        return Route.DUAL
    if tracing_state():
        return _of_a_program()
    return Route.RECORDED if torch.is_grad_enabled() else Route.PLAIN


def serves_a_stack() -> bool:
    """True if several layers may be one call: no mode or hook observes or changes single operations."""
    return route() in (Route.RECORDED, Route.PLAIN) and not observed() and not torch.is_autocast_enabled("cpu")


# ---- single operations


def _keep(ctx: Any, operation: Operation, inputs: Sequence[Any]) -> None:
    derivatives.save(ctx, operation, inputs)
    ctx.save_for_forward(*inputs[: len(operation.tensors) + 1])
    ctx.set_materialize_grads(False)  # so that an absent tangent is None, not zeros


def _eager_function(operation: Operation) -> type[torch.autograd.Function]:
    """The cheap Function of eager mode: ctx in forward."""
    op = raw[operation.name]

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            _keep(ctx, operation, inputs)
            ctx.present = tuple(t is not None for t in inputs[: len(operation.tensors) + 1])
            with below_autograd():
                return op(*inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            return derivatives.backward(ctx, _closure, operation, wanted_inputs(ctx, ctx.present), q)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, _closure, operation, tangents)

    return Eager


def _routed(operation: Operation) -> Callable[..., Tensor]:
    op, eager = raw[operation.name], _eager_function(operation)
    decomposed, exported = in_plain_pytorch(operation, backends.reference.BACKEND), EXPORTED[operation.name]

    def call(*arguments: Any) -> Tensor:
        way = route()
        if way is Route.PLAIN:
            with below_autograd():
                return op(*arguments)
        if way is Route.RECORDED or way is Route.DUAL:
            return eager.apply(*map(queryable, arguments))
        if way is Route.OP:
            return op(*arguments)
        return (exported if way is Route.EXPORTED else decomposed)(*arguments)

    call.__name__ = operation.name
    return call


routed = {name: _routed(operation) for name, operation in OPERATIONS.items()}


# ---- several gradients of one x in one call


def fused_gradients(
    x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, settings: Settings, nu: int, wanted: Wanted
) -> Sequence[Tensor | None] | None:
    """What is wanted, None in the place of the rest; or None where the route needs single operations.

    Where a graph of the backward pass is recorded, grad_input and forward together become one node of it.
    """
    way = route()
    if way is Route.PLAIN:
        with below_autograd():
            made = raw_fused_gradients(x, weight, grad_output, row_weight, *settings, nu, wanted)
        return [t if want else None for t, want in zip(made, wanted, strict=True)]
    if way is not Route.RECORDED or wanted != InputAndForward.WANTED:
        return None
    slope, y = InputAndForward.apply(*map(queryable, (x, weight, grad_output, row_weight)), *settings, nu)
    return slope, None, None, y


class InputAndForward(torch.autograd.Function):
    """grad_input of order nu + 1 and forward of order nu as one node: the derivatives of grad_input consist of these two."""

    WANTED = Wanted(grad_input=True, grad_weight=False, forward=True)

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs[:5])
        *ctx.settings, ctx.nu = inputs[5:]
        ctx.set_materialize_grads(False)
        with below_autograd():
            slope, _, _, y = raw_fused_gradients(*inputs, InputAndForward.WANTED)
        return slope, y

    @staticmethod
    def backward(ctx: Any, q_slope: Tensor | None, q_y: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, g, r, knots = ctx.saved_tensors
        need_x, need_weight, need_g, need_r, _ = wanted_inputs(ctx, (True,) * 5)
        of_slope: Sequence[Tensor | None] = (None,) * 3
        of_y: Sequence[Tensor | None] = (None,) * 3
        if q_slope is not None:
            node = derivatives.Saved((x, weight, g, knots), ctx.settings, (ctx.nu + 1,))
            of_slope = _closure.grad_input_backward(node, (need_x, need_weight, need_g), q_slope)
        if q_y is not None:
            node = derivatives.Saved((x, weight, r, knots), ctx.settings, (ctx.nu,))
            of_y = _closure.forward_backward(node, (need_x, need_weight, need_r), q_y)
        dx, dweight = (derivatives.total(a, b) for a, b in zip(of_slope[:2], of_y[:2], strict=True))
        return dx, dweight, of_slope[2], of_y[2], *(None,) * 5  # knots, the other settings and nu


_closure = Closure(fused_gradients, **routed)


# ---- the ops' kernels


def _outside() -> Closure | None:
    """This module's closure for a backward pass in plain eager mode, whose routes know more than the raw ops."""
    return _closure if route() in (Route.PLAIN, Route.RECORDED) and not observed() else None


_of_ops = Closure(**raw)
for _operation in OPERATIONS.values():
    transforms.register(_operation, library, raw[_operation.name], _of_ops, _outside)
