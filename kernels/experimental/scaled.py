"""float32 operands as float16 with a power-of-two scale wherever TF32 is allowed: the same 11 bits of mantissa at twice the rate.

Entries below 2^-24 of the largest in a weight or gradient count as 0, where TF32 keeps them. Each operation returns None where
it does not serve: it takes layers on uniform grids, in the orders and without the row weights that could leave float16's range.
"""

import torch
from torch import Tensor

from fastkan.kernels import plan as plans
from fastkan.kernels.launch import run


def halved(values: Tensor) -> tuple[Tensor, Tensor]:
    """(float16 values, scale) with values = halves * scale and no half above 1; the host never waits for the maximum."""
    largest = torch.linalg.vector_norm(values, ord=torch.inf)
    exponent = torch.frexp(largest).exponent
    scale = torch.where(largest.isfinite() & (largest > 0), torch.ldexp(torch.ones_like(largest), exponent), 1.0)
    return (values / scale).half(), scale


def restored(answer: Tensor, *scales: Tensor) -> Tensor:
    for scale in scales:
        answer.mul_(scale)
    return answer


def forward(
    x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor | None:
    settings = (row_weight, knots, degree, activation, nu)
    if nu or row_weight is not None or weight.dtype != torch.float32 or plans.forward(x, weight, *settings).path != "uniform":
        return None
    halves, scale = halved(weight)
    y = weight.new_empty((x.shape[0], weight.shape[2]))
    return restored(run(plans.forward(x, halves, *settings), (x, halves, None), y), scale)


def grad_input(
    x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor | None:
    settings = (knots, degree, activation, nu)
    if weight.dtype != torch.float32 or plans.grad_input(x, weight, grad_output, *settings).path != "uniform":
        return None
    (halves, scale), (g, g_scale) = halved(weight), halved(grad_output)
    answer = run(plans.grad_input(x, halves, g, *settings), (x, halves, g), x.new_empty(x.shape))
    return restored(answer, scale, g_scale)


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor | None:
    settings = (row_weight, knots, degree, activation, nu)
    if nu or row_weight is not None or grad_output.dtype != torch.float32:
        return None
    if plans.grad_weight(x, grad_output, *settings).path != "uniform":
        return None
    g, scale = halved(grad_output)
    answer = grad_output.new_empty((x.shape[1], knots.shape[1] - degree, grad_output.shape[1]))
    return restored(run(plans.grad_weight(x, g, *settings), (x, g, None), answer), scale)
