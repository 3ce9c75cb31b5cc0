"""N calls of an operation at once, all tensors with one more dimension in front: what a vmap leaves where nothing folds.

They run one after another below the dispatcher, which costs 7 us a call and not 25. Per-sample gradients are one product.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.dtypes import compute_dtype
from fastkan.ops.table import Settings
from fastkan.splines.activations import activation_derivative

# Rows of a call up to which the slots of all calls are made first, in one call: 128 gradients of one row each, 8 inputs and 32
# outputs, take 0.1 ms so and 1.3 ms one by one.
FEW_ROWS = 4


def calls_of(tensors: Sequence[Tensor | None]) -> Iterator[tuple[Any, ...]]:
    """The tensors of each call."""
    return zip(*(itertools.repeat(None) if t is None else t.unbind() for t in tensors))  # noqa: B905


def check_first(check: Callable[..., None], tensors: Sequence[Any], knots: Tensor, degree: int) -> None:
    """Raise unless all tensors have the same number of calls, and those of a call fit together."""
    count = tensors[0].shape[0]
    present = [t for t in (*tensors, knots) if t is not None]
    if any(t.shape[:1] != (count,) for t in present):
        raise RuntimeError(f"shapes: expected {count} calls, received {', '.join(str(tuple(t.shape)) for t in present)}")
    if count:
        check([None if t is None else t[0] for t in tensors], knots[0], degree)


# ---- grad_weight of few rows each


def products_serve(x: Tensor, knots: Tensor) -> bool:
    """True where per-sample gradients pay as slots times cotangents: few rows, and one grid for all."""
    return len(x) > 1 and 0 < x.shape[1] <= FEW_ROWS and knots.stride(0) == 0 and x.shape[2] > 0


def _slots(grad_input: Callable[..., Tensor], x: Tensor, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    """f_m^(nu)(x) of every slot: x [B, I] -> [B, M, I]. No NaN or infinity in x reaches another slot.

    A row for each spline asks for it alone. The base slot may be infinite, which times 0 is no number, so it stays out of that.
    """
    splines = knots.shape[1] - degree - 1
    unit = torch.eye(splines + 1, splines, dtype=x.dtype, device=x.device)
    values = grad_input(
        x.repeat_interleave(splines, 0), unit.expand(len(knots), -1, -1).contiguous(), unit[:splines].repeat(len(x), 1),
        knots, degree, "zero", nu,
    ).unflatten(0, (len(x), splines))  # fmt: skip
    return torch.cat((values, activation_derivative(x, activation, nu)[:, None]), 1)


def grad_weights(grad_input: Callable[..., Tensor], tensors: Sequence[Any], settings: Settings, nu: int) -> Tensor:
    """grad_weight of N calls [N, I, M, O] on one grid, by the grad_input of a backend. In the compute dtype."""
    (x, grad_output, row_weight), (knots, degree, activation, _) = tensors, settings
    dtype = compute_dtype(x.dtype)
    calls, rows, inputs = x.shape
    values = _slots(grad_input, x.reshape(-1, inputs).to(dtype), knots[0].to(dtype), degree, activation, nu)
    values = values.unflatten(0, (calls, rows))  # [N, B, M, I]
    if row_weight is not None:
        values = values * row_weight.to(dtype)[:, :, None]
    g = grad_output.to(dtype)
    if rows == 1:
        return values[:, 0].mT.contiguous()[..., None] * g[:, :, None]
    return torch.bmm(values.transpose(2, 3).flatten(2).mT, g).unflatten(1, (inputs, -1))
