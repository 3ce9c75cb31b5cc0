"""The operations on Triton: the arguments of fastkan/reference.py in, a plan made, its kernels launched."""

from typing import Any

from torch import Tensor

from fastkan.kernels import plan as plans
from fastkan.kernels.call import ceil_div
from fastkan.kernels.grad_weight import sum_kernel
from fastkan.kernels.plan import Plan

SUM_BLOCK = 1024
WIDEST = 2**24  # inputs or outputs: row offsets within a tile of 128 rows are 32-bit


def contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.contiguous() for t in tensors]


def _check_widths(I: int, O: int) -> None:
    if max(I, O) > WIDEST:
        raise RuntimeError(f"backend 'triton' serves up to {WIDEST} inputs and outputs, received {I} and {O}")


# ---- running a plan


def run(plan: Plan, operands: tuple[Tensor | None, ...], *answers: Tensor) -> Tensor:
    """Fill the answers and return the last, of which the steps may make partial sums."""
    *others, answer = answers
    if plan.parts:
        return _run_in_parts(plan, *contiguous(*operands), answer)
    partial = answer if plan.splits == 1 else answer.new_empty((plan.splits, *answer.shape), dtype=plan.wide)
    start(plan, operands, *others, partial)
    if plan.splits > 1:
        size = answer.numel()
        sum_kernel[(ceil_div(size, SUM_BLOCK),)](partial, answer, size, plan.splits, BLOCK=SUM_BLOCK)
    return answer


def start(plan: Plan, operands: tuple[Tensor | None, ...], *answers: Tensor) -> None:
    """Launch every step, without the sum of the partial sums."""
    tensors = (*contiguous(*operands), *plan.knots, *answers)
    for step in plan.steps:
        step.kernel[step.grid](*tensors, *step.sizes, **step.settings)


def _run_in_parts(plan: Plan, x: Tensor, weight: Tensor, row_weight: Tensor | None, y: Tensor) -> Tensor:
    """The planes of some rows are written, then multiplied, before those of the next."""
    (locate, multiply), (knots,), parts = plan.steps, plan.knots, plan.parts
    planes, table = weight.new_empty(parts.planes), weight.new_empty(parts.table)
    for first in range(0, len(x), parts.rows):
        part = slice(first, min(first + parts.rows, len(x)))
        rows = part.stop - part.start
        row_tiles = ceil_div(rows, plan.tile.rows)
        padded = row_tiles * plan.tile.rows
        r = None if row_weight is None else row_weight[part]
        locate.kernel[(row_tiles * locate.grid[0],)](
            x[part], r, knots, planes, table, rows, padded, *locate.sizes, **locate.settings
        )
        multiply.kernel[(row_tiles * multiply.grid[0],)](
            planes, table, weight, y[part], rows, padded, *multiply.sizes, **multiply.settings
        )
    return y


# ---- the operations


def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    y = weight.new_empty((x.shape[0], weight.shape[2]))
    _check_widths(x.shape[1], weight.shape[2])
    if not y.numel():
        return y
    return run(plans.forward(x, weight, row_weight, knots, degree, activation, nu), (x, weight, row_weight), y)


def grad_input(x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    grad = x.new_empty(x.shape)
    _check_widths(x.shape[1], weight.shape[2])
    if not grad.numel():
        return grad
    return run(plans.grad_input(x, weight, grad_output, knots, degree, activation, nu), (x, weight, grad_output), grad)


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor:
    grad = grad_output.new_empty((x.shape[1], knots.shape[1] - degree, grad_output.shape[1]))
    _check_widths(x.shape[1], grad_output.shape[1])
    if not grad.numel():
        return grad
    return run(plans.grad_weight(x, grad_output, row_weight, knots, degree, activation, nu), (x, grad_output, row_weight), grad)


def fused_gradients(
    x: Tensor,
    weight: Tensor,
    grad_output: Tensor,
    row_weight: Tensor | None,
    knots: Tensor,
    degree: int,
    activation: str,
    nu: int,
) -> tuple[Tensor, Tensor] | None:
    """(grad_input of order nu + 1, grad_weight of order nu) of a small layer in one launch; None for any other."""
    if not (x.numel() and weight.numel()):
        return None
    plan = plans.fused_gradients(x, weight, grad_output, row_weight, knots, degree, activation, nu)
    if plan is None:
        return None
    grads = x.new_empty(x.shape), weight.new_empty(weight.shape)
    run(plan, (x, weight, grad_output, row_weight), *grads)
    return grads


def gram(x: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Tensor:
    slots = knots.shape[1] - degree
    total = x.new_empty((x.shape[1], slots, slots))
    if not total.numel():
        return total
    by_input = (x.T, None if row_weight is None else row_weight.T)
    return run(plans.gram(x, row_weight, knots, degree, activation, nu, mu), by_input, total)


def quadratic(x: Tensor, form: Tensor, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Tensor:
    answer = x.new_empty(x.shape)
    if not answer.numel():
        return answer
    by_input = x.new_empty(x.shape[::-1])
    run(plans.quadratic(x, form, knots, degree, activation, nu, mu), (x.T, form), by_input)
    return answer.copy_(by_input.T)
