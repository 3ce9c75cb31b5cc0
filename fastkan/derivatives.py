"""The closure of the family under differentiation (docs/design.md, section 3), written once for reverse and forward mode.

Every derivative of one of the five operations is a sum of the same five with nu + 1 and the cotangents in other places, so
three kernels (and gram with its adjoint) give gradients, double backward, Hessians and forward mode of any order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

FIRST_SETTING = {"forward": 3, "grad_input": 3, "grad_weight": 3, "gram": 2, "quadratic": 2}  # position of `knots`


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
    return (*ctx.saved_tensors, *ctx.settings, *ctx.orders)


class Closure:
    """Backward and jvp of the five operations, written with whichever five it is given (raw ops, or the routed functions).

    ctx holds `saved_tensors` (the operation's tensors, then knots), `settings` = (degree, base, backend), `orders` = (nu[, mu]).
    """

    def __init__(
        self,
        gradients: Callable[..., tuple[Tensor, Tensor] | None] | None = None,
        sweep: Callable[..., Sequence[Tensor | None] | None] | None = None,
        **operations: Callable[..., Tensor],
    ) -> None:
        """gradients, sweep: those of a Backend where it makes them and the route allows it; they return None where not."""
        self.gradients, self.sweep = gradients, sweep
        self.forward, self.grad_input, self.grad_weight, self.gram, self.quadratic = (operations[name] for name in FIRST_SETTING)

    def _gradients(
        self, need: Sequence[bool], x: Tensor, weight: Tensor, g: Tensor, r: Tensor | None, s: Sequence[Any], nu: int, last: str
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """X_{nu+1}(x, W, g), A_nu(x, g; r) and the operation `last`, X_nu(x, W, g) or F_nu(x, W; r), each where it is needed."""
        of_rows = last == "grad_input"
        if self.sweep and need[2] and (need[0] or need[1]):
            made = self.sweep(x, weight, g, r, *s, nu, (need[0], need[1], of_rows, not of_rows))
            if made is not None:
                return made[0], made[1], made[2] if of_rows else made[3]
        both = self.gradients(x, weight, g, r, *s, nu) if self.gradients and need[0] and need[1] else None
        dx, dweight = both or (
            self.grad_input(x, weight, g, *s, nu + 1) if need[0] else None,
            self.grad_weight(x, g, r, *s, nu) if need[1] else None,
        )
        if not need[2]:
            return dx, dweight, None
        return dx, dweight, self.grad_input(x, weight, g, *s, nu) if of_rows else self.forward(x, weight, r, *s, nu)

    def forward_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, r, *s, nu = saved(ctx)
        dx, dweight, dr = self._gradients(need, x, weight, q, r, s, nu, "grad_input")
        return None if dx is None else times(r, dx), dweight, dr

    def forward_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, weight, r, *s, nu = saved(ctx)
        return total(
            None if dx is None else self.forward(x, weight, times(dx, r), *s, nu + 1),
            None if dweight is None else self.forward(x, dweight, r, *s, nu),
            None if dr is None else self.forward(x, weight, dr, *s, nu),
        )

    def grad_input_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, g, *s, nu = saved(ctx)
        dx, dweight, dg = self._gradients(need, x, weight, g, q, s, nu, "forward")
        return None if dx is None else q * dx, dweight, dg

    def grad_input_jvp(self, ctx: Any, dx: Tensor | None, dweight: Tensor | None, dg: Tensor | None) -> Tensor | None:
        x, weight, g, *s, nu = saved(ctx)
        return total(
            None if dx is None else dx * self.grad_input(x, weight, g, *s, nu + 1),
            None if dweight is None else self.grad_input(x, dweight, g, *s, nu),
            None if dg is None else self.grad_input(x, weight, dg, *s, nu),
        )

    def grad_weight_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, g, r, *s, nu = saved(ctx)
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

    def gram_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, r, *s = saved(ctx)
        return (
            times(r, self.both_orders(self.quadratic, x, q, *s)) if need[0] else None,
            self.quadratic(x, q, *s) if need[1] else None,
        )

    def gram_jvp(self, ctx: Any, dx: Tensor | None, dr: Tensor | None) -> Tensor | None:
        x, r, *s = saved(ctx)
        return total(
            None if dx is None else self.both_orders(self.gram, x, times(dx, r), *s), None if dr is None else self.gram(x, dr, *s)
        )

    def quadratic_backward(self, ctx: Any, need: Sequence[bool], q: Tensor) -> tuple[Tensor | None, ...]:
        x, form, *s = saved(ctx)
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


def save(ctx: Any, name: str, inputs: Sequence[Any]) -> None:
    """Keep on ctx what backward and jvp of an operation need."""
    first = FIRST_SETTING[name]
    ctx.save_for_backward(*inputs[: first + 1])
    ctx.settings, ctx.orders = inputs[first + 1 : first + 4], inputs[first + 4 :]


def backward(ctx: Any, closure: Closure, name: str, need: Sequence[bool], q: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients for every argument of an operation, those of its settings None."""
    first = FIRST_SETTING[name]
    rest = (None,) * (4 + len(ctx.orders))  # knots, degree, base, backend, nu[, mu]
    if q is None:
        return (None,) * first + rest
    if need[first]:
        raise RuntimeError("knots: a gradient was asked for, but knots take no gradient; pass knots.detach()")
    return (*getattr(closure, f"{name}_backward")(ctx, need, q), *rest)


def jvp(ctx: Any, closure: Closure, name: str, tangents: Sequence[Tensor | None]) -> Tensor | None:
    """Tangent of an operation from those of its arguments."""
    first = FIRST_SETTING[name]
    if tangents[first] is not None:
        raise RuntimeError("knots: a tangent was given, but knots take no derivative; pass knots.detach()")
    return getattr(closure, f"{name}_jvp")(ctx, *tangents[:first])
