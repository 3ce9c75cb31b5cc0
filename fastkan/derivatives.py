"""The closure of the family under differentiation (docs/design.md, section 3), written once for reverse and forward mode.

Every derivative of one of the five operations is a sum of the same five with nu + 1 and the cotangents in other places, so
three kernels (and gram with its adjoint) give gradients, double backward, Hessians and forward mode of any order.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

FIRST_SETTING = {"forward": 3, "grad_input": 3, "grad_weight": 3, "gram": 2, "quadratic": 2}  # position of `knots`


def times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a * b where None stands for an absent row weight, that is 1."""
    return b if a is None else a if b is None else a * b


def total(*terms: Tensor | None) -> Tensor | None:
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def saved(ctx: Any) -> tuple[Any, ...]:
    return (*ctx.saved_tensors, *ctx.settings, *ctx.orders)


class Closure:
    """Backward and jvp of the five operations, written with whichever five it is given (raw ops, or the routed functions).

    ctx holds `saved_tensors` (the operation's tensors, then knots), `settings` = (degree, base, backend), `orders` = (nu[, mu]).
    """

    def __init__(self, **operations: Callable[..., Tensor]) -> None:
        self.forward, self.grad_input, self.grad_weight, self.gram, self.quadratic = (operations[name] for name in FIRST_SETTING)

    def rules(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(backward, jvp) of one operation."""
        return getattr(self, f"{name}_backward"), getattr(self, f"{name}_jvp")

    def forward_backward(self, ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, r, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, self.grad_input(x, weight, q, *s, nu + 1)) if need[0] else None,
            self.grad_weight(x, q, r, *s, nu) if need[1] else None,
            self.grad_input(x, weight, q, *s, nu) if need[2] else None,
        )

    def forward_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, weight, r, *s, nu = saved(ctx)
        return total(
            None if dx is None else self.forward(x, weight, times(dx, r), *s, nu + 1),
            None if dweight is None else self.forward(x, dweight, r, *s, nu),
            None if dr is None else self.forward(x, weight, dr, *s, nu),
        )

    def grad_input_backward(self, ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, g, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            q * self.grad_input(x, weight, g, *s, nu + 1) if need[0] else None,
            self.grad_weight(x, g, q, *s, nu) if need[1] else None,
            self.forward(x, weight, q, *s, nu) if need[2] else None,
        )

    def grad_input_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dg: Tensor | None) -> Tensor | None:
        x, weight, g, *s, nu = saved(ctx)
        return total(
            None if dx is None else dx * self.grad_input(x, weight, g, *s, nu + 1),
            None if dweight is None else self.grad_input(x, dweight, g, *s, nu),
            None if dg is None else self.grad_input(x, weight, dg, *s, nu),
        )

    def grad_weight_backward(self, ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, g, r, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, self.grad_input(x, q, g, *s, nu + 1)) if need[0] else None,
            self.forward(x, q, r, *s, nu) if need[1] else None,
            self.grad_input(x, q, g, *s, nu) if need[2] else None,
        )

    def grad_weight_jvp(self, ctx: Any, dx: Tensor | None, dg: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, g, r, *s, nu = saved(ctx)
        return total(
            None if dx is None else self.grad_weight(x, g, times(dx, r), *s, nu + 1),
            None if dg is None else self.grad_weight(x, dg, r, *s, nu),
            None if dr is None else self.grad_weight(x, g, dr, *s, nu),
        )

    @staticmethod
    def both_orders(operation: Callable[..., Tensor], x: Tensor, second: Tensor | None, *settings: Any) -> Tensor:
        *s, nu, mu = settings
        return operation(x, second, *s, nu + 1, mu) + operation(x, second, *s, nu, mu + 1)

    def gram_backward(self, ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, r, *s, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, self.both_orders(self.quadratic, x, q, *s)) if need[0] else None,
            self.quadratic(x, q, *s) if need[1] else None,
        )

    def gram_jvp(self, ctx: Any, dx: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, r, *s = saved(ctx)
        return total(
            None if dx is None else self.both_orders(self.gram, x, times(dx, r), *s), None if dr is None else self.gram(x, dr, *s)
        )

    def quadratic_backward(self, ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, form, *s, need = *saved(ctx), ctx.needs_input_grad
        return (
            q * self.both_orders(self.quadratic, x, form, *s) if need[0] else None,
            self.gram(x, q, *s) if need[1] else None,
        )

    def quadratic_jvp(self, ctx: Any, dx: Tensor | None, dform: Tensor | None) -> Tensor | None:
        x, form, *s = saved(ctx)
        return total(
            None if dx is None else dx * self.both_orders(self.quadratic, x, form, *s),
            None if dform is None else self.quadratic(x, dform, *s),
        )


def autograd_rules(name: str, closure: Closure) -> tuple[Callable[..., Any], ...]:
    """(keep for register_autograd, keep for a Function, backward, jvp) with every argument of the op accounted for."""
    first = FIRST_SETTING[name]
    backward, jvp = closure.rules(name)
    settings = 5 if name in ("gram", "quadratic") else 4  # arguments after knots: degree, base, backend, nu[, mu]

    def keep_for_op(ctx, inputs, output):
        ctx.save_for_backward(*inputs[: first + 1])
        ctx.settings, ctx.orders = inputs[first + 1 : first + 4], inputs[first + 4 :]

    def keep(ctx, inputs, output=None):
        keep_for_op(ctx, inputs, output)
        ctx.set_materialize_grads(False)  # so that an absent tangent is None, not zeros
        ctx.save_for_forward(*inputs[: first + 1])

    def backward_all(ctx, q):
        if q is None:
            return (None,) * (first + 1 + settings)
        if ctx.needs_input_grad[first]:
            raise RuntimeError("knots: a gradient was asked for, but knots take no gradient; pass knots.detach()")
        return (*backward(ctx, q), None, *(None,) * settings)

    def jvp_all(ctx, *tangents):
        if tangents[first] is not None:
            raise RuntimeError("knots: a tangent was given, but knots take no derivative; pass knots.detach()")
        return jvp(ctx, *tangents[:first])

    return keep_for_op, keep, backward_all, jvp_all
