"""The closure of the operations under differentiation (docs/design.md, section 3), written once for reverse and forward mode.

Every derivative of an operation is a sum of the same five with nu + 1 and the cotangents in other places. So three kernels (and
gram with its adjoint) give gradients, double backward, Hessians and forward mode of any order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fastkan.ops.table import OPERATIONS, Operation, Settings, Wanted


def times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a * b where None stands for an absent row weight, that is 1."""
    return b if a is None else a if b is None else a * b


def total(*terms: Tensor | None) -> Tensor | None:
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


class Saved(NamedTuple):
    """What `saved` reads of a ctx, for a node that stands for several operations."""

    saved_tensors: tuple[Any, ...]
    settings: tuple[Any, ...]
    orders: tuple[int, ...]


def saved(ctx: Any) -> tuple[Any, ...]:
    """(*tensors, Settings, *orders) that `save` has kept."""
    *tensors, knots = ctx.saved_tensors
    return (*tensors, Settings(knots, *ctx.settings), *ctx.orders)


class Closure:
    """Backward and jvp of the five operations, written with the five operations that it is given (raw ops, or the routed
    functions).

    ctx holds `saved_tensors` (the operation's tensors, then knots), `settings` = (degree, activation, backend), `orders` =
    (nu[, mu]).
    """

    def __init__(
        self, fused_gradients: Callable[..., Sequence[Tensor | None] | None] | None = None, **operations: Callable[..., Tensor]
    ) -> None:
        """fused_gradients makes what is `wanted` in one call, or returns None where the route needs single operations."""
        self.fused_gradients = fused_gradients
        self.forward, self.grad_input, self.grad_weight, self.gram, self.quadratic = (operations[name] for name in OPERATIONS)

    def _gradients(
        self, need: Sequence[bool], x: Tensor, weight: Tensor, g: Tensor, r: Tensor | None, s: Settings, nu: int, last: str
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """grad_input of order nu + 1, grad_weight of order nu, and `last` of order nu (grad_input or forward), where needed."""
        of_rows = last == "grad_input"
        if self.fused_gradients and sum(need[:3]) > 1:
            wanted = Wanted(need[0], need[1], need[2] and of_rows, need[2] and not of_rows)
            made = self.fused_gradients(x, weight, g, r, s, nu, wanted)
            if made is not None:
                return made[0], made[1], made[2] if of_rows else made[3]
        if need[2]:
            third = self.grad_input(x, weight, g, *s, nu) if of_rows else self.forward(x, weight, r, *s, nu)
        return (
            self.grad_input(x, weight, g, *s, nu + 1) if need[0] else None,
            self.grad_weight(x, g, r, *s, nu) if need[1] else None,
            third if need[2] else None,
        )

    def forward_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, r, s, nu = saved(ctx)
        dx, dweight, dr = self._gradients(need, x, weight, q, r, s, nu, "grad_input")
        return None if dx is None else times(r, dx), dweight, dr

    def forward_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, weight, r, s, nu = saved(ctx)
        return total(
            None if dx is None else self.forward(x, weight, times(dx, r), *s, nu + 1),
            None if dweight is None else self.forward(x, dweight, r, *s, nu),
            None if dr is None else self.forward(x, weight, dr, *s, nu),
        )

    def grad_input_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, g, s, nu = saved(ctx)
        dx, dweight, dg = self._gradients(need, x, weight, g, q, s, nu, "forward")
        return None if dx is None else q * dx, dweight, dg

    def grad_input_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dg: Tensor | None) -> Tensor | None:
        x, weight, g, s, nu = saved(ctx)
        return total(
            None if dx is None else dx * self.grad_input(x, weight, g, *s, nu + 1),
            None if dweight is None else self.grad_input(x, dweight, g, *s, nu),
            None if dg is None else self.grad_input(x, weight, dg, *s, nu),
        )

    def grad_weight_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, g, r, s, nu = saved(ctx)
        return (
            times(r, self.grad_input(x, q, g, *s, nu + 1)) if need[0] else None,
            self.forward(x, q, r, *s, nu) if need[1] else None,
            self.grad_input(x, q, g, *s, nu) if need[2] else None,
        )

    def grad_weight_jvp(self, ctx: Any, dx: Tensor | None, dg: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, g, r, s, nu = saved(ctx)
        return total(
            None if dx is None else self.grad_weight(x, g, times(dx, r), *s, nu + 1),
            None if dg is None else self.grad_weight(x, dg, r, *s, nu),
            None if dr is None else self.grad_weight(x, g, dr, *s, nu),
        )

    @staticmethod
    def both_orders(operation: Callable[..., Tensor], x: Tensor, second: Tensor | None, s: Settings, nu: int, mu: int) -> Tensor:
        return operation(x, second, *s, nu + 1, mu) + operation(x, second, *s, nu, mu + 1)

    def gram_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, r, s, *orders = saved(ctx)
        return (
            times(r, self.both_orders(self.quadratic, x, q, s, *orders)) if need[0] else None,
            self.quadratic(x, q, *s, *orders) if need[1] else None,
        )

    def gram_jvp(self, ctx: Any, dx: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, r, s, *orders = saved(ctx)
        return total(
            None if dx is None else self.both_orders(self.gram, x, times(dx, r), s, *orders),
            None if dr is None else self.gram(x, dr, *s, *orders),
        )

    def quadratic_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, form, s, *orders = saved(ctx)
        return (
            q * self.both_orders(self.quadratic, x, form, s, *orders) if need[0] else None,
            self.gram(x, q, *s, *orders) if need[1] else None,
        )

    def quadratic_jvp(self, ctx: Any, dx: Tensor | None, dform: Tensor | None) -> Tensor | None:
        x, form, s, *orders = saved(ctx)
        return total(
            None if dx is None else dx * self.both_orders(self.quadratic, x, form, s, *orders),
            None if dform is None else self.quadratic(x, dform, *s, *orders),
        )


def save(ctx: Any, operation: Operation, inputs: Sequence[Any]) -> None:
    """Keep on ctx what backward and jvp of an operation need."""
    first = operation.first_setting  # of the knots, the first of the settings
    ctx.save_for_backward(*inputs[: first + 1])
    ctx.settings, ctx.orders = inputs[first + 1 : first + 4], inputs[first + 4 :]


def backward(
    ctx: Any, closure: Closure, operation: Operation, need: Sequence[bool], q: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients for every argument of an operation, those of its settings None."""
    tensors = len(operation.tensors)
    rest = (None,) * (len(Settings._fields) + len(operation.orders))
    if q is None:
        return (None,) * tensors + rest
    if need[tensors]:
        raise RuntimeError("knots: a gradient was asked for, but knots take no gradient; pass knots.detach()")
    return (*getattr(closure, f"{operation.name}_backward")(ctx, need, q), *rest)


def jvp(ctx: Any, closure: Closure, operation: Operation, tangents: Sequence[Tensor | None]) -> Tensor | None:
    """Tangent of an operation from those of its arguments."""
    tensors = len(operation.tensors)
    if tangents[tensors] is not None:
        raise RuntimeError("knots: a tangent was given, but knots take no derivative; pass knots.detach()")
    return getattr(closure, f"{operation.name}_jvp")(ctx, *tangents[:tensors])
