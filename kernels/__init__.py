"""The Triton kernels, imported as `fastkan.kernels` and by `fastkan.backends` only, when a GPU tensor first arrives."""

from typing import Any

from torch import Tensor

from fastkan.kernels import launch
from fastkan.kernels.experimental import in_front
from fastkan.kernels.launch import gram, quadratic

__all__ = ["forward", "fused_gradients", "grad_input", "grad_weight", "gram", "quadratic"]

forward, grad_input, grad_weight = map(in_front, (launch.forward, launch.grad_input, launch.grad_weight))


def fused_gradients(
    x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    """(grad_input of order nu + 1, grad_weight of order nu) with settings degree, activation, nu; one launch for small layers."""
    both = launch.fused_gradients(x, weight, grad_output, row_weight, knots, *settings)
    if both is not None:
        return both
    *others, nu = settings
    return grad_input(x, weight, grad_output, knots, *others, nu + 1), grad_weight(x, grad_output, row_weight, knots, *settings)
