"""The closure of the family under differentiation (docs/design.md, section 3), written once for reverse and forward mode.

Every derivative of one of the five operations is a sum of the same five with nu + 1 and the cotangents in other places, so
three kernels (and gram with its adjoint) give gradients, double backward, Hessians and forward mode of any order.
"""

from collections.abc import Callable

from torch import Tensor

FIRST_SETTING = {"forward": 3, "grad_input": 3, "grad_weight": 3, "gram": 2, "quadratic": 2}  # position of `knots`


def times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a * b where None stands for an absent row weight, that is 1."""
    return b if a is None else a if b is None else a * b


def total(*terms: Tensor | None) -> Tensor | None:
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def closure(forward, grad_input, grad_weight, gram, quadratic) -> dict[str, tuple[Callable, Callable]]:
    """(backward, jvp) of the five operations, written with whichever five are passed in.

    ctx holds `saved_tensors` (the tensors, then knots), `settings` = (degree, base, backend) and `orders` = (nu[, mu]).
    """

    def forward_backward(ctx, q):
        x, weight, r, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, grad_input(x, weight, q, *s, nu + 1)) if need[0] else None,
            grad_weight(x, q, r, *s, nu) if need[1] else None,
            grad_input(x, weight, q, *s, nu) if need[2] else None,
        )

    def forward_jvp(ctx, dx, dweight, dr):
        x, weight, r, *s, nu = saved(ctx)
        return total(
            None if dx is None else forward(x, weight, times(dx, r), *s, nu + 1),
            None if dweight is None else forward(x, dweight, r, *s, nu),
            None if dr is None else forward(x, weight, dr, *s, nu),
        )

    def grad_input_backward(ctx, q):
        x, weight, g, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            q * grad_input(x, weight, g, *s, nu + 1) if need[0] else None,
            grad_weight(x, g, q, *s, nu) if need[1] else None,
            forward(x, weight, q, *s, nu) if need[2] else None,
        )

    def grad_input_jvp(ctx, dx, dweight, dg):
        x, weight, g, *s, nu = saved(ctx)
        return total(
            None if dx is None else dx * grad_input(x, weight, g, *s, nu + 1),
            None if dweight is None else grad_input(x, dweight, g, *s, nu),
            None if dg is None else grad_input(x, weight, dg, *s, nu),
        )

    def grad_weight_backward(ctx, q):
        x, g, r, *s, nu, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, grad_input(x, q, g, *s, nu + 1)) if need[0] else None,
            forward(x, q, r, *s, nu) if need[1] else None,
            grad_input(x, q, g, *s, nu) if need[2] else None,
        )

    def grad_weight_jvp(ctx, dx, dg, dr):
        x, g, r, *s, nu = saved(ctx)
        return total(
            None if dx is None else grad_weight(x, g, times(dx, r), *s, nu + 1),
            None if dg is None else grad_weight(x, dg, r, *s, nu),
            None if dr is None else grad_weight(x, g, dr, *s, nu),
        )

    def both_orders(operation, x, second, *settings):
        *s, nu, mu = settings
        return operation(x, second, *s, nu + 1, mu) + operation(x, second, *s, nu, mu + 1)

    def gram_backward(ctx, q):
        x, r, *s, need = *saved(ctx), ctx.needs_input_grad
        return (
            times(r, both_orders(quadratic, x, q, *s)) if need[0] else None,
            quadratic(x, q, *s) if need[1] else None,
        )

    def gram_jvp(ctx, dx, dr):
        x, r, *s = saved(ctx)
        return total(
            None if dx is None else both_orders(gram, x, times(dx, r), *s), None if dr is None else gram(x, dr, *s)
        )

    def quadratic_backward(ctx, q):
        x, form, *s, need = *saved(ctx), ctx.needs_input_grad
        return (
            q * both_orders(quadratic, x, form, *s) if need[0] else None,
            gram(x, q, *s) if need[1] else None,
        )

    def quadratic_jvp(ctx, dx, dform):
        x, form, *s = saved(ctx)
        return total(
            None if dx is None else dx * both_orders(quadratic, x, form, *s),
            None if dform is None else quadratic(x, dform, *s),
        )

    return {
        "forward": (forward_backward, forward_jvp),
        "grad_input": (grad_input_backward, grad_input_jvp),
        "grad_weight": (grad_weight_backward, grad_weight_jvp),
        "gram": (gram_backward, gram_jvp),
        "quadratic": (quadratic_backward, quadratic_jvp),
    }


def saved(ctx) -> tuple:
    return (*ctx.saved_tensors, *ctx.settings, *ctx.orders)


def rules(name: str, backward: Callable, jvp: Callable) -> tuple[Callable, Callable, Callable, Callable]:
    """(keep for register_autograd, keep for a Function, backward, jvp) with every argument of the op accounted for."""
    first = FIRST_SETTING[name]
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
