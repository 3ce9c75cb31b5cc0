"""The 2:4 sparse forward of backend cuda: when it serves, and weights packed for it (docs/cuda.md).

Letters: B rows, I inputs, O outputs, S splines, M = S + 1 slots, K knots per input (docs/design.md, section 2).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fastkan.compiled import DTYPE_NAMES, _device_and_stream, extension
from fastkan.uniform import spacing

TILES = "small", "large"  # 64 x 64 and 128 x 128 of y
UNIT = 16  # inputs, by which the grid's table is padded

# ---- when

# GPU name -> (operands, buckets of B, I, O, S) -> tile. What is not there is not served: empty until a GPU has run it.
MEASURED: dict[str, dict[tuple[str, tuple[int, ...]], str]] = {}


class Forced(NamedTuple):
    tile: str
    narrow: torch.dtype | None


_forced: ContextVar[Forced | None] = ContextVar("fastkan_sparse", default=None)


@contextmanager
def forced(tile: str = "large", narrow: torch.dtype | None = None) -> Iterator[None]:
    """Every forward of backend cuda in this block runs here with that tile, or raises RuntimeError with the reason why it cannot.

    narrow: torch.float16 or torch.bfloat16, the operands of float32 weights. For tests and benchmarks.
    """
    if tile not in TILES:
        raise ValueError(f"tile: expected one of {', '.join(TILES)}, received {tile!r}")
    token = _forced.set(Forced(tile, narrow))
    try:
        yield
    finally:
        _forced.reset(token)


def key(operand: torch.dtype, sizes: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Of MEASURED: sizes B, I, O, S within a factor of four share a bucket."""
    return DTYPE_NAMES[operand], tuple((size.bit_length() + 1) // 2 for size in sizes)


def _kind_declines(x: Tensor, weight: Tensor, operand: torch.dtype) -> str | None:
    if operand not in (torch.float16, torch.bfloat16):
        return f"it multiplies float16 or bfloat16, received a weight in {weight.dtype}"
    if x.dtype not in (torch.float32, operand):
        return f"x is float32 or {operand}, received {x.dtype}"
    return None if x.numel() else "there is no x"


def declines(x: Tensor, weight: Tensor, row_weight: Tensor | None, degree: int, nu: int, operand: torch.dtype) -> str | None:
    """Why a call cannot be served on any GPU, or None; whether the grid is uniform is asked later, for it costs more."""
    if degree != 3 or nu != 0 or row_weight is not None:
        return f"it serves degree 3, nu 0, no row weight; received degree {degree}, nu {nu}, row weight {row_weight is not None}"
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "it needs compute capability 8.0"
    return _kind_declines(x, weight, operand)


def tile_for(x: Tensor, weight: Tensor, row_weight: Tensor | None, degree: int, nu: int) -> tuple[str | None, torch.dtype]:
    """(tile or None, operands) of a call; RuntimeError where it is forced and cannot be."""
    choice = _forced.get()
    operand = weight.dtype
    if choice is None:
        measured = MEASURED.get(torch.cuda.get_device_name(x.device)) if MEASURED and x.is_cuda else None
        if not measured or declines(x, weight, row_weight, degree, nu, operand):
            return None, operand
        return measured.get(key(operand, (*x.shape, weight.shape[2], weight.shape[1] - 1))), operand
    if operand == torch.float32 and choice.narrow is not None:
        operand = choice.narrow
    reason = declines(x, weight, row_weight, degree, nu, operand)
    if reason is not None:
        raise RuntimeError(f"the sparse forward cannot serve this call: {reason}")
    return choice.tile, operand


# ---- what is kept with a tensor until it is written to


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Changes when a tensor is written to, moved, or given another one's data. (What writes through `.data` escapes it.)"""
    return tensor._version, tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def _capturing(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


class Kept:
    """Values made from tensors on the GPU, one a tensor and setting, freed with it."""

    def __init__(self) -> None:
        self._entries: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._captured: list[Any] = []

    def get(self, tensor: Tensor, setting: Any, make: Callable[[Tensor], Any]) -> Any:
        if tensor.is_inference():  # has no version
            return make(tensor)
        if _capturing(tensor):
            return make(tensor)  # in the graph, which may be run after the tensor has changed
        state, entries = _state(tensor), self._entries.get(tensor)
        if entries is None or entries[0] != state:
            entries = (state, {})
            self._entries[tensor] = entries
        if setting not in entries[1]:
            value = make(tensor)
            entries[1][setting] = (value, *_made_here(tensor))
        value, stream, made = entries[1][setting]
        _wait_here(value, stream, made)
        return value

    def known(self, tensor: Tensor, setting: Any) -> Any:
        """What was made earlier and still holds, or None; it then lives for ever, for a CUDA graph that is being captured."""
        state, entries = _state(tensor), self._entries.get(tensor)
        if entries is None or entries[0] != state or setting not in entries[1]:
            return None
        value, stream, made = entries[1][setting]
        _wait_here(value, stream, made)
        self._captured.append(value)
        return value

    def forget(self, tensor: Tensor) -> None:
        """Make the values anew when they are next asked for: after a write through `.data`."""
        self._entries.pop(tensor, None)

    def __len__(self) -> int:
        return len(self._entries)


def _made_here(tensor: Tensor) -> tuple[Any, Any]:
    """The stream that makes a value, and an event after it."""
    if not tensor.is_cuda:
        return None, None
    stream, made = torch.cuda.current_stream(tensor.device), torch.cuda.Event()
    made.record(stream)
    return stream, made


def _wait_here(value: Any, stream: Any, made: Any) -> None:
    """A stream other than the one that made the value waits for it, and the memory for that stream."""
    if stream is None or not isinstance(value, Tensor):
        return
    current = torch.cuda.current_stream(value.device)
    if current != stream:
        current.wait_event(made)
        value.record_stream(current)


packed_weights = Kept()
grids = Kept()


def grid_table(knots: Tensor) -> Tensor | None:
    """First knot and 1 / h of every input, float32 [I padded, 2], or None where the grid is not uniform: knots [I, K].

    1 / h is rounded up until (last knot - first knot) / h is not below the number of intervals: from the last knot on nothing
    is inside, as for the stored knots.
    """
    found = spacing(knots)
    if found is None:
        return None
    intervals = knots.shape[1] - 1
    start = knots[:, 0].float()
    width = (knots[:, -1].float() - start).double()
    scale = (intervals / width).float()
    for _ in range(2):
        scale = torch.where(width * scale.double() < intervals, scale.nextafter(scale.new_tensor(torch.inf)), scale)
    padding = -len(start) % UNIT
    return torch.nn.functional.pad(torch.stack((start, scale), dim=1), (0, 0, 0, padding)).contiguous()


# ---- the operation


def in_front(
    operations: dict[str, Any], module: Any = extension, where: Callable[[Tensor], tuple[int, int]] = _device_and_stream
) -> dict[str, Any]:
    """The same operations, with forward here where it serves; module and where as in compiled.cuda_operations."""
    dense = operations["forward"]

    def pack(weight: Tensor, operand: torch.dtype) -> Tensor:
        """weight [I, M, O] in the order of the tensor cores, as bytes."""
        weight = weight.contiguous()
        packed = torch.empty(module.cuda_packed_bytes(*weight.shape), dtype=torch.uint8, device=weight.device)
        names = DTYPE_NAMES[weight.dtype], DTYPE_NAMES[operand]
        module.cuda_pack_sparse(weight.data_ptr(), packed.data_ptr(), *weight.shape, *names, *where(weight))
        return packed

    def run(x: Tensor, weight: Tensor, grid: Tensor, num_knots: int, base: str, operand: torch.dtype, tile: str) -> Tensor:
        x, y = x.contiguous(), weight.new_empty((x.shape[0], weight.shape[2]))
        packed = packed_weights.get(weight, operand, lambda tensor: pack(tensor, operand))
        addresses = (tensor.data_ptr() for tensor in (x, grid, packed, y))
        names = (DTYPE_NAMES[dtype] for dtype in (x.dtype, operand, y.dtype))
        module.cuda_forward_sparse(*addresses, *x.shape, weight.shape[2], num_knots, base, *names, tile, *where(x))
        return y

    def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int) -> Tensor:
        if MEASURED or _forced.get() is not None:
            tile, operand = tile_for(x, weight, row_weight, degree, nu)
            if tile is not None:
                grid = grids.known(knots, None) if _capturing(knots) else grids.get(knots, None, grid_table)
                if grid is not None:
                    return run(x, weight, grid, knots.shape[1], base, operand, tile)
                if _forced.get() is not None:
                    raise RuntimeError("the sparse forward cannot serve this call: the grid is not uniform")
        return dense(x, weight, row_weight, knots, degree, base, nu)

    return operations | {"forward": forward}
