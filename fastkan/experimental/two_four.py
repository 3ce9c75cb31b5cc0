"""The 2:4 sparse forward of backend cuda: when it serves, and weights packed for it (docs/explanation/cuda.md).

Letters: B rows, I inputs, O outputs, S splines, M = S + 1 slots, K knots per input (docs/design.md, section 2).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastkan import experimental
from fastkan.backends.cache import VersionedCache, capturing
from fastkan.dtypes import DTYPE_NAMES
from fastkan.splines.uniform import spacing

UNIT = 16  # inputs, by which the grid's table is padded

# ---- when

# GPU name -> (operands, buckets of B, I, O, S) -> tile. What is not there is not served: empty until a GPU has run it.
MEASURED: dict[str, dict[tuple[str, tuple[int, ...]], str]] = {}


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
    """(tile or None, operands) of a call; RuntimeError where it is switched on and cannot serve."""
    choice = experimental.chosen()
    operand = weight.dtype
    if choice.two_four is None:
        measured = MEASURED.get(torch.cuda.get_device_name(x.device)) if MEASURED and x.is_cuda else None
        if not measured or declines(x, weight, row_weight, degree, nu, operand):
            return None, operand
        return measured.get(key(operand, (*x.shape, weight.shape[2], weight.shape[1] - 1))), operand
    if operand == torch.float32 and choice.round_to is not None:
        operand = choice.round_to
    reason = declines(x, weight, row_weight, degree, nu, operand)
    if reason is not None:
        raise RuntimeError(f"the 2:4 sparse forward cannot serve this call: {reason}")
    return choice.two_four, operand


packed_weights = VersionedCache()
grids = VersionedCache()


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


def in_front(operations: dict[str, Any], module: Any, where: Callable[[Tensor], tuple[int, int]]) -> dict[str, Any]:
    """The same operations, with forward here where it serves; module and where as in fastkan.backends.cuda.operations."""
    usual = operations["forward"]

    def pack(weight: Tensor, operand: torch.dtype) -> Tensor:
        """weight [I, M, O] in the order of the tensor cores, as bytes."""
        weight = weight.contiguous()
        packed = torch.empty(module.cuda_two_four_bytes(*weight.shape), dtype=torch.uint8, device=weight.device)
        names = DTYPE_NAMES[weight.dtype], DTYPE_NAMES[operand]
        module.cuda_two_four_pack(weight.data_ptr(), packed.data_ptr(), *weight.shape, *names, *where(weight))
        return packed

    def run(x: Tensor, weight: Tensor, grid: Tensor, num_knots: int, activation: str, operand: torch.dtype, tile: str) -> Tensor:
        x, y = x.contiguous(), weight.new_empty((x.shape[0], weight.shape[2]))
        packed = packed_weights.get(weight, operand, lambda tensor: pack(tensor, operand))
        addresses = (tensor.data_ptr() for tensor in (x, grid, packed, y))
        names = (DTYPE_NAMES[dtype] for dtype in (x.dtype, operand, y.dtype))
        module.cuda_two_four_forward(*addresses, *x.shape, weight.shape[2], num_knots, activation, *names, tile, *where(x))
        return y

    def forward(
        x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
    ) -> Tensor:
        if MEASURED or experimental.chosen().two_four:
            tile, operand = tile_for(x, weight, row_weight, degree, nu)
            if tile is not None:
                grid = grids.known(knots, None) if capturing(knots) else grids.get(knots, None, grid_table)
                if grid is not None:
                    return run(x, weight, grid, knots.shape[1], activation, operand, tile)
                if experimental.chosen().two_four:
                    raise RuntimeError("the 2:4 sparse forward cannot serve this call: the grid is not uniform")
        return usual(x, weight, row_weight, knots, degree, activation, nu)

    return operations | {"forward": forward}
