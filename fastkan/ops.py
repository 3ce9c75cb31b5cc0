"""The five operations as torch ops, a family closed under differentiation: gradients of every order, reverse and forward.

    F_nu(x, W; r) forward      X_nu(x, W, g) grad_input      A_nu(x, g; r) grad_weight      (docs/design.md, section 3)
    N_nu,mu(x; r) gram         Q_nu,mu(x, C) quadratic, the adjoint of gram

Each derivative of one of them is a sum of the same five with nu + 1 and the cotangents in the places of W, g, C or r.
Three routes lead to the same raw ops (measured in docs/design.md): under torch.compile and torch.export the raw op with
`register_autograd`; under torch.func a Function with setup_context; in plain eager mode a cheaper Function.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan import derivatives, reference
from fastkan.compat import below_autograd, dual_active, functorch_active, jvp_depth, queryable, wanted_inputs
from fastkan.derivatives import FIRST_SETTING, Closure
from fastkan.library import SCHEMAS, compute, provider_of, raw

EAGER: dict[str, type[torch.autograd.Function]] = {}
FUNCTORCH: dict[str, type[torch.autograd.Function]] = {}


def _route(name: str) -> Callable[..., Tensor]:
    op = raw[name]

    def call(*arguments: Any) -> Tensor:
        if torch.compiler.is_compiling():  # also under export and the ONNX exporter
            if functorch_active() or dual_active():  # plain PyTorch, which these transforms can differentiate
                return compute(name, reference, arguments)
            return op(*arguments)
        if functorch_active():
            if jvp_depth() > 1:
                raise NotImplementedError(
                    "forward mode over forward mode gives zeros in PyTorch (pytorch/pytorch#197867): "
                    "use torch.func.jacrev for one of the two"
                )
            return FUNCTORCH[name].apply(*arguments)
        if not torch.is_grad_enabled() and not dual_active():  # every first-order backward comes here too
            with below_autograd():
                return op(*arguments)
        return EAGER[name].apply(*map(queryable, arguments))

    call.__name__ = name
    return call


forward, grad_input, grad_weight, gram, quadratic = (_route(name) for name in SCHEMAS)


def _keep(ctx: Any, name: str, inputs: Sequence[Any]) -> None:
    derivatives.save(ctx, name, inputs)
    ctx.save_for_forward(*inputs[: FIRST_SETTING[name] + 1])
    ctx.set_materialize_grads(False)  # so that an absent tangent is None, not zeros


def _eager_function(name: str, closure: Closure) -> type[torch.autograd.Function]:
    """The cheap Function of plain eager mode: ctx in forward."""
    op = raw[name]

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            _keep(ctx, name, inputs)
            ctx.present = tuple(t is not None for t in inputs[: FIRST_SETTING[name] + 1])
            with below_autograd():
                return op(*inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            return derivatives.backward(ctx, closure, name, wanted_inputs(ctx, ctx.present), q)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, closure, name, tangents)

    return Eager


def _functorch_function(name: str, closure: Closure) -> type[torch.autograd.Function]:
    """The Function that torch.func can transform; its apply costs 4-10x as much."""
    op = raw[name]

    class Functorch(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Tensor:
            return op(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _keep(ctx, name, inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            return derivatives.backward(ctx, closure, name, ctx.needs_input_grad, q)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, closure, name, tangents)

    return Functorch


# ---- several operations of one x in one call, where a backend makes them together


def _transformed() -> bool:
    return torch.compiler.is_compiling() or functorch_active() or dual_active()


def gradients(x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, *settings: Any) -> Any:
    """(grad_input of order nu + 1, grad_weight of order nu) from a backend that makes both in one go; None where none does, or
    where a transform or a graph of the backward pass needs operations it can differentiate."""
    if torch.is_grad_enabled() or _transformed():
        return None
    if provider_of(x, settings[1], settings[3]).gradients is None:
        return None
    return torch.ops.fastkan.gradients.default(x, weight, grad_output, row_weight, *settings)


def sweep(x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor, *settings: Any) -> Any:
    """What is wanted (the last setting) of a Backend's sweep, else None; where a graph of the backward pass is recorded, only
    grad_input and forward together, as one node of it. None where the backend or a transform wants single operations."""
    *settings, wanted = settings  # type: ignore[assignment]
    if _transformed() or provider_of(x, settings[1], settings[3]).sweep is None:
        return None
    if not torch.is_grad_enabled():
        made = torch.ops.fastkan.sweep.default(x, weight, grad_output, row_weight, *settings, wanted)
        return [t if want else None for t, want in zip(made, wanted, strict=True)]
    if wanted != Sweep.WANTED:
        return None
    slope, y = Sweep.apply(*map(queryable, (x, weight, grad_output, row_weight)), *settings)
    return slope, None, None, y


class Sweep(torch.autograd.Function):
    """X_{nu+1}(x, W, g) and F_nu(x, W; r), of which the derivatives of X_nu consist, as one node."""

    WANTED = (True, False, False, True)

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs[:5])
        ctx.settings = inputs[5:]
        ctx.set_materialize_grads(False)
        with below_autograd():
            slope, _, _, y = torch.ops.fastkan.sweep.default(*inputs, Sweep.WANTED)
        return slope, y

    @staticmethod
    def backward(ctx: Any, q_slope: Tensor | None, q_y: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, g, r, knots = ctx.saved_tensors
        *settings, nu = ctx.settings
        need_x, need_weight, need_g, need_r, _ = wanted_inputs(ctx, (True,) * 5)
        of_slope: Sequence[Tensor | None] = (None,) * 3
        of_y: Sequence[Tensor | None] = (None,) * 3
        if q_slope is not None:
            node = derivatives.Saved((x, weight, g, knots), tuple(settings), (nu + 1,))
            of_slope = _closure.grad_input_backward(node, (need_x, need_weight, need_g), q_slope)
        if q_y is not None:
            node = derivatives.Saved((x, weight, r, knots), tuple(settings), (nu,))
            of_y = _closure.forward_backward(node, (need_x, need_weight, need_r), q_y)
        dx, dweight = (derivatives.total(a, b) for a, b in zip(of_slope[:2], of_y[:2], strict=True))
        return dx, dweight, of_slope[2], of_y[2], *(None,) * 5  # knots and settings


_closure = Closure(
    gradients, sweep, forward=forward, grad_input=grad_input, grad_weight=grad_weight, gram=gram, quadratic=quadratic
)
for _name in SCHEMAS:
    EAGER[_name], FUNCTORCH[_name] = _eager_function(_name, _closure), _functorch_function(_name, _closure)
