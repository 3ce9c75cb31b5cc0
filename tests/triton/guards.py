"""What Triton's interpreter does not see by itself, made visible: memory faults, races between programs, integer overflow.

The interpreter runs one program after the other on the CPU and touches real memory. Each guard is a context that holds for
every kernel launched inside it. TRITON_INTERPRET=1 must be set before triton is imported.
"""

import contextlib
import ctypes
import dataclasses
import mmap
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


# ---- memory


def fenced(tensor: Tensor, side: str) -> Tensor:
    """A contiguous copy whose memory ends ("after") or begins ("before") at a page that kills whoever touches it."""
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // PAGE)
    block = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    for fence in (address, address + (pages + 1) * PAGE):
        if _libc.mprotect(fence, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = PAGE + (pages * PAGE - size if side == "after" else 0)
    memory = torch.frombuffer(block, dtype=torch.uint8, count=size, offset=offset) if size else torch.empty(0, dtype=torch.uint8)
    return memory.view(tensor.dtype).view(tensor.shape).copy_(tensor)


@contextlib.contextmanager
def fences(side: str) -> Iterator[None]:
    """Every tensor that a kernel is given lies against a fence. A stray access is SIGSEGV: use it in a process of its own."""
    place, bring_back = GridExecutor._init_args_hst, GridExecutor._restore_args_dev

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.is_contiguous():
            raise ValueError(
                f"a kernel was given shape {tuple(value.shape)} with strides {value.stride()}: no fence fits around it"
            )
        return fenced(value, side)

    def fetch(given: Any, used: Any) -> None:
        if isinstance(given, Tensor):
            given.copy_(used)

    def placed(executor: Any, arguments: Any, keywords: dict[str, Any]) -> tuple:
        return [put(value) for value in arguments], {name: put(value) for name, value in keywords.items()}

    def brought_back(executor: Any, arguments: Any, used: Any, keywords: dict[str, Any], keywords_used: dict[str, Any]) -> None:
        for given, value in zip(arguments, used, strict=True):
            fetch(given, value)
        for name, given in keywords.items():
            fetch(given, keywords_used[name])

    GridExecutor._init_args_hst, GridExecutor._restore_args_dev = placed, brought_back
    try:
        yield
    finally:
        GridExecutor._init_args_hst, GridExecutor._restore_args_dev = place, bring_back


def giant(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor as large as you like: address space only, until something touches it."""
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        return torch.empty(shape, dtype=dtype)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextlib.contextmanager
def programs(pick: Callable[[tuple[int, int, int]], list[tuple[int, int, int]]]) -> Iterator[None]:
    """Of every launch only the programs run that `pick` names, given the size of the grid: for grids too large to run."""
    begin, set_size, set_index = GridExecutor.__init__, InterpreterBuilder.set_grid_dim, InterpreterBuilder.set_grid_idx
    size, chosen = (1, 1, 1), []

    def begin_picked(executor: Any, function: Any, names: Any, grid: Any, *rest: Any) -> None:
        def picked(arguments: dict[str, Any]) -> tuple[int]:
            nonlocal size, chosen
            given = tuple(grid(arguments) if callable(grid) else grid)
            size = (*given, 1, 1)[:3]
            chosen = pick(size)
            return (len(chosen),)

        begin(executor, function, names, picked, *rest)

    GridExecutor.__init__ = begin_picked
    InterpreterBuilder.set_grid_dim = lambda builder, *count: set_size(builder, *size)
    InterpreterBuilder.set_grid_idx = lambda builder, number, *zeros: set_index(builder, *chosen[number])
    try:
        yield
    finally:
        GridExecutor.__init__, InterpreterBuilder.set_grid_dim, InterpreterBuilder.set_grid_idx = begin, set_size, set_index


# ---- races


class Overlap:
    """Addresses which two programs of one launch touch, one of them writing, without an atomic: in `conflicts`."""

    def __enter__(self) -> "Overlap":
        self.conflicts: list[tuple[str, int]] = []
        self.stored = 0
        hooks = ("create_masked_store", "create_masked_load", "set_grid_dim")
        self._kept = {name: getattr(InterpreterBuilder, name) for name in hooks}
        kept, overlap = self._kept, self

        def new_launch(builder: Any, *sizes: int) -> None:
            overlap._writer, overlap._readers = {}, {}
            kept["set_grid_dim"](builder, *sizes)

        def store(builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            addresses = _live(pointers, mask)
            if len(addresses) < np.count_nonzero(mask.data):
                overlap.conflicts.append(("two lanes of one store", addresses[0]))
            overlap._note_store(builder.grid_idx, addresses)
            return kept["create_masked_store"](builder, pointers, value, mask, *rest)

        def load(builder: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
            overlap._note_load(builder.grid_idx, _live(pointers, mask))
            return kept["create_masked_load"](builder, pointers, mask, *rest)

        for name, replacement in zip(hooks, (store, load, new_launch), strict=True):
            setattr(InterpreterBuilder, name, replacement)
        return self

    def __exit__(self, *error: object) -> None:
        for name, original in self._kept.items():
            setattr(InterpreterBuilder, name, original)

    def _note_store(self, program: tuple, addresses: list[int]) -> None:
        self.stored += len(addresses)
        for address in addresses:
            if self._writer.setdefault(address, program) != program:
                self.conflicts.append(("write after write", address))
            if self._readers.get(address, set()) - {program}:
                self.conflicts.append(("write after read", address))

    def _note_load(self, program: tuple, addresses: list[int]) -> None:
        for address in addresses:
            self._readers.setdefault(address, set()).add(program)
            if self._writer.get(address, program) != program:
                self.conflicts.append(("read after write", address))


def _live(pointers: Any, mask: Any) -> list[int]:
    return np.unique(pointers.data[mask.data.astype(bool)]).tolist()


# ---- integers and assertions


@contextlib.contextmanager
def checked_arithmetic() -> Iterator[None]:
    """Integer overflow and a failed tl.device_assert raise InterpreterError; the interpreter has both switched off."""
    builder = interpreter.interpreter_builder
    kept = builder.options
    builder.options = dataclasses.replace(kept, debug=True, sanitize_overflow=True)
    try:
        yield
    finally:
        builder.options = kept


def compiled_range(*bounds: Any) -> Iterator[Any]:
    """range() for kernels whose bounds are int64: as compiled, the counter is int64 too; the interpreter makes it a Python
    number, which products with int32 take for int32. Put it into the kernel's module as `range`."""
    wide = any(getattr(bound, "dtype", None) == tl.int64 for bound in bounds)
    for number in range(*map(operator.index, bounds)):
        yield interpreter.interpreter_semantic.scalar_constant(number, tl.int64) if wide else number
