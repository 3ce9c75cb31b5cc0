"""Calls of torch ops that sum a weight's gradient over rows, for a caller that wants the rows apart (fastkan.nn.jacobian)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fastkan.ops.registration import raw, raw_fused_gradients
from fastkan.ops.table import FUSED_TENSORS, OPERATIONS, Settings, Wanted


class GradWeightCall(NamedTuple):
    """grad_weight of order nu, asked for alone or among fused gradients."""

    x: Tensor
    grad_output: Tensor
    row_weight: Tensor | None
    settings: Settings
    nu: int

    def without(self, op: Any, arguments: Sequence[Any]) -> Any:
        """What the call returns, with zeros in the place of grad_weight, which is not made."""
        if self.x.ndim != 2:
            raise NotImplementedError("residuals: expected one weight for all rows, received a vmap over weights")
        inputs, slots = len(self.settings.knots), self.settings.knots.shape[1] - self.settings.degree
        zeros = self.grad_output.new_zeros(1).expand(inputs, slots, self.grad_output.shape[1])
        if op is not raw_fused_gradients:
            return zeros
        *others, flags = arguments
        made = op(*others, Wanted(*flags)._replace(grad_weight=False))
        return made[0], zeros, *made[2:]


def grad_weight_call(op: Any, arguments: Sequence[Any]) -> GradWeightCall | None:
    """What a call of a torch op says, or None if it makes no grad_weight."""
    if op is raw["grad_weight"]:
        (x, grad_output, row_weight), settings, (nu,) = OPERATIONS["grad_weight"].split(arguments)
        return GradWeightCall(x, grad_output, row_weight, settings, nu)
    if op is raw_fused_gradients and Wanted(*arguments[-1]).grad_weight:
        x, _, grad_output, row_weight = arguments[: len(FUSED_TENSORS)]
        return GradWeightCall(x, grad_output, row_weight, Settings(*arguments[len(FUSED_TENSORS) : -2]), arguments[-2])
    return None
