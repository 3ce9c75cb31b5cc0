"""The operations for runtimes without fastkan (ONNX, AOTInductor): PyTorch's own operators, in the order that is fast there.

Forward fills the slots [M, I, B] and ends in one matrix product. Everything else is the reference, as exported models only
run forward. In onnxruntime on two threads, (1024, 256, 256) with G = 5 and p = 3 takes 50 ms; the reference takes 160, because
broadcasting along the last axis splits its work into runs of K numbers. Gathering the p + 1 weights of every x would move
B I O (p + 1) numbers, 1 GB there, and scattering the p + 1 splines takes 130 ms.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fastkan import reference
from fastkan.backends import Backend
from fastkan.ops.registration import compute, compute_several
from fastkan.ops.table import OPERATIONS, Operation
from fastkan.ops.torch_private import tracing_state, untraced
from fastkan.splines.activations import activation_derivative

# Knots times degree up to which every spline is a tensor of its own: half the time of one tensor of all (77 and 182 ms on a busy
# machine), for four operators a spline and degree. With G = 40 the export itself would take 29 s instead of 3.
APART = 100

Each = Callable[..., Any]


def _reciprocal(width: Tensor) -> Tensor:
    """1 / width, and 0 where the knot interval has no width."""
    flat = width == 0
    return torch.where(flat, 0, 1 / torch.where(flat, 1, width))


def _apart(function: Callable[..., Tensor], *lists: Sequence[Tensor]) -> list[Tensor]:
    """function of every spline by itself."""
    return [function(*one) for one in zip(*lists, strict=True)]


def _together(function: Callable[..., Tensor], *stacked: Tensor) -> Tensor:
    """function of all splines at once, stacked along the first axis."""
    return function(*stacked)


def _knots_of(knots: Tensor) -> int:
    return knots.shape[1]


def _splines(x: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, nu: int) -> list[Tensor]:
    """r times the nu-th derivative of every spline, as parts to be joined along the first axis: x, r [I, B] -> S [I, B].

    Cox-de Boor as in the reference. A spline is 0 outside its support because level 0 is, so x may be moved into the knots
    there, and no infinity meets a 0. At NaN the answer may be anything: the base slot's is NaN.
    """
    count = (untraced(_knots_of) if tracing_state() else _knots_of)(knots)
    each: Each = _apart if count * degree <= APART else _together

    def cut(numbers: Tensor, first: int, last: int) -> Any:
        columns = numbers.t()[..., None]
        if each is _together:
            return columns[first:last]
        return [columns[k] for k in range(first, last)]  # one column at a time: a slice is 12 nodes of ONNX, this is one

    near = torch.minimum(torch.maximum(x, knots[:, :1]), knots[:, -1:])
    right = each(lambda t: (x >= t).to(x.dtype), cut(knots, 0, count))
    distance = each(lambda t: near - t, cut(knots, 0, count))
    value = each(torch.sub, right[:-1], right[1:])
    if row_weight is not None:
        value = each(lambda v: v * row_weight, value)
    for k in range(1, degree + 1):
        scale = _reciprocal(knots[:, k:] - knots[:, :-k])
        if k > degree - nu:
            scaled = each(torch.mul, value, cut(k * scale, 0, count - k))
            value = each(torch.sub, scaled[:-1], scaled[1:])
            continue
        scaled = each(torch.mul, value, cut(scale, 0, count - k))
        ends = distance[: -k - 1], scaled[:-1], distance[k + 1 :], scaled[1:]
        value = each(lambda a, v, b, w: a * v - b * w, *ends)
    return value if each is _apart else [value.flatten(0, 1)]


def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    """fastkan.reference.forward: x, r [B, I], weight [I, M, O] -> [B, O]."""
    x = x.t()
    r = None if row_weight is None else row_weight.t()
    base = activation_derivative(x, activation, nu)
    base = base if r is None else base * r
    if nu > degree:
        return base.t() @ weight[:, -1]
    slots = torch.cat((*_splines(x, r, knots, degree, nu), base))
    return (weight.permute(2, 1, 0).flatten(1) @ slots).t()


_RUNTIMES = Backend(
    "exported",
    "PyTorch's own operators, for runtimes without fastkan",
    SimpleNamespace(**{name: getattr(reference, name) for name in OPERATIONS} | {"forward": forward}),
    declines=lambda device, dtype, degree: None,
)


def in_plain_pytorch(operation: Operation, backend: Backend = _RUNTIMES) -> Callable[..., Tensor]:
    """A function with the arguments of the operation's torch op that no tool needs fastkan for."""

    def call(*arguments: Any) -> Tensor:
        run = compute if arguments[0].ndim == 2 else compute_several
        return run(operation, backend, *operation.split(arguments))

    return call


EXPORTED = {name: in_plain_pytorch(operation) for name, operation in OPERATIONS.items()}
