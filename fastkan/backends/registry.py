"""The backends in order of preference, and the choice among them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAX_DEGREE = 8  # of the native module (fixed-size local arrays in csrc/core/splines.h) and the Triton kernels


class Stack(NamedTuple):
    """Several layers in one call, forward and backward (docs/design.md, section 5); float32 or float64, one for all tensors.

    Layer l takes widths[l] features to widths[l + 1] and has num_knots[l] knots an input. weights, knots and biases are
    contiguous and not empty.
    """

    forward: Callable[..., list[Tensor]]
    gradients: Callable[..., tuple[list[Tensor | None], list[Tensor | None]]]


class Jet(NamedTuple):
    """A layer's value, first and second derivatives from those of its inputs in one call, and their gradients
    (docs/design.md, section 3); float32 or float64, one for all tensors.
    """

    forward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    gradients: Callable[..., list[Tensor | None]]


@dataclass(frozen=True)
class Backend:
    """Who computes operations, with the arguments of fastkan/reference.py.

    operations: what has them as its attributes, such as a module. An operation that is absent is not served.
    declines(device, dtype, degree): None, or the reason why it cannot serve.
    fused_gradients(x, weight, grad_output, row_weight, knots, degree, activation, nu, wanted): the four results that
        fastkan.ops.table.Wanted names, None for those that are not wanted; or None where it does not fuse this combination.
    stack: several layers in one call. jet: a layer with its derivatives in one call.
    takes_16_bit: it takes float16 and bfloat16 tensors as they are; others are given float32 copies.
    """

    name: str
    what: str
    operations: Any
    declines: Callable[[torch.device, torch.dtype, int], str | None]
    fused_gradients: Callable[..., Sequence[Tensor | None] | None] | None = None
    stack: Stack | None = None
    jet: Jet | None = None
    takes_16_bit: bool = False


_table: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a backend, after those that are there already in the order of preference; or replace the backend of the same name."""
    _table[backend.name] = backend
    select.cache_clear()


@contextmanager
def replaced(name: str, **fields: Any) -> Iterator[Backend]:
    """For tests and benchmarks: replace fields of a backend inside the block. Yields the original backend."""
    before = _table[check_name(name)]
    register(dataclasses.replace(before, **fields))
    try:
        yield before
    finally:
        register(before)


def table() -> tuple[Backend, ...]:
    """All backends in order of preference."""
    return tuple(_table.values())


def names() -> tuple[str, ...]:
    """Their names, in the same order."""
    return tuple(_table)


# ---- choice


def check_name(name: str) -> str:
    """The name itself, or ValueError naming the backends there are."""
    if name not in _table:
        raise ValueError(f"backend: expected one of {', '.join(_table)} or None, received {name!r}")
    return name


@functools.cache
def environment_choice() -> str:
    """FASTKAN_BACKEND or '', read once: no call pays for it."""
    name = os.environ.get("FASTKAN_BACKEND", "")
    return check_name(name) if name else ""


_choice: ContextVar[str | None] = ContextVar("fastkan_backend", default=None)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use the named backend for every call inside the block that does not name one itself, in this thread or task.

    raises: ValueError for an unknown name

    >>> import torch, fastkan
    >>> layer = fastkan.KANLinear(2, 1)
    >>> with fastkan.use_backend("reference"):
    ...     y = layer(torch.zeros(3, 2))
    """
    token = _choice.set(check_name(name))
    try:
        yield
    finally:
        _choice.reset(token)


def resolve(name: str | None) -> str:
    """The name that an op is given: the argument, else that of `use_backend`, else FASTKAN_BACKEND, else '' (automatic).

    Dynamo cannot trace a ContextVar. So while it compiles, the choice is left to the op itself, at run time.
    """
    if name is not None:
        return check_name(name)
    return "" if torch.compiler.is_compiling() else _choice.get() or environment_choice()


@functools.lru_cache(maxsize=256)
def select(name: str, device: torch.device, dtype: torch.dtype, degree: int, operation: str = "forward") -> Backend:
    """The named backend, or for '' the first that serves; RuntimeError with the reasons where there is none."""
    reasons = {}
    for candidate in table():
        if name not in ("", candidate.name):
            continue
        reason = candidate.declines(device, dtype, degree)
        if reason is None and not hasattr(candidate.operations, operation):
            reason = f"it has no {operation}"
        if reason is None:
            return candidate
        reasons[candidate.name] = reason
    raise RuntimeError("; ".join(f"backend {name!r} cannot serve this call: {reason}" for name, reason in reasons.items()))


def available(device: str = "cpu", degree: int = 3) -> list[str]:
    """Names of the backends that serve float32 tensors on a device, in order of preference."""
    return [b.name for b in table() if b.declines(torch.device(device), torch.float32, degree) is None]
