"""forward, grad_input and grad_weight with the slots in memory: a kernel writes those of a chunk of rows, cuBLAS multiplies them.

For layers with thousands of outputs, where making the slots is a small part of the work. A chunk takes at most CHUNK_BYTES,
which also keeps it in the L2 of a large GPU between its two uses. Each operation returns None where it does not serve.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkan.kernels.activations import activation_value
from fastkan.kernels.call import TRITON_DTYPE, slots_fit, wide_of
from fastkan.kernels.launch import contiguous
from fastkan.kernels.splines import alive, expanded, first_alive, slot

CHUNK_BYTES = 32 << 20
ROWS, INPUTS = 16, 4


@triton.jit
def slots_of_tile(
    x_ptr, knots_ptr, B, I, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """(slots [ROWS, INPUTS, SLOTS] of this program, their offsets in [B, I, M], whether they exist; the same of x)."""
    S = K - DEGREE - 1
    input_tiles = tl.cdiv(I, INPUTS)
    b = (tl.program_id(0) // input_tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i = tl.program_id(0) % input_tiles * INPUTS + tl.arange(0, INPUTS)[None, :]
    there = (b < B) & (i < I)
    x = tl.load(x_ptr + b * I + i, mask=there, other=0.0).to(WIDE)
    own_knots = tl.minimum(i, I - 1) * K
    first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
    values = expanded(alive(x, first, knots_ptr, own_knots, K, DEGREE, NU), 2, DEGREE)
    m = tl.arange(0, SLOTS)[None, None, :]
    here = slot(first[:, :, None], values, activation_value(x, ACTIVATION, NU)[:, :, None], m, S, DEGREE)
    return here, (b * I + i)[:, :, None] * (S + 1) + m, there[:, :, None] & (m <= S), b * I + i, there


@triton.jit
def expand_kernel(
    x_ptr, row_weight_ptr, knots_ptr, slots_ptr, B, I, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """slots[b, i, m] = r[b,i] f_m(x[b,i])."""
    here, at, exists, x_at, there = slots_of_tile(x_ptr, knots_ptr, B, I, K, DEGREE, ACTIVATION, NU, WIDE, ROWS, INPUTS, SLOTS)
    if WEIGHTED:
        here = here * tl.load(row_weight_ptr + x_at, mask=there, other=0.0).to(WIDE)[:, :, None]
    tl.store(slots_ptr + at, here.to(slots_ptr.dtype.element_ty), mask=exists)


@triton.jit
def contract_kernel(
    x_ptr, pulled_ptr, knots_ptr, grad_ptr, B, I, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """grad[b, i] = sum_m f_m(x[b,i]) pulled[b, i, m]."""
    here, at, exists, x_at, there = slots_of_tile(x_ptr, knots_ptr, B, I, K, DEGREE, ACTIVATION, NU, WIDE, ROWS, INPUTS, SLOTS)
    pulled = tl.load(pulled_ptr + at, mask=exists, other=0.0).to(WIDE)
    grad = tl.sum(tl.where(exists, here, 0.0) * pulled, axis=2)
    tl.store(grad_ptr + x_at, grad.to(grad_ptr.dtype.element_ty), mask=there)


def _chunks(B: int, bytes_per_row: int) -> Iterator[slice]:
    rows = max(1, CHUNK_BYTES // bytes_per_row)
    return (slice(start, min(start + rows, B)) for start in range(0, B, rows))


def _settings(x: Tensor, M: int, degree: int, activation: str, nu: int) -> dict[str, Any]:
    tile = {"ROWS": ROWS, "INPUTS": INPUTS, "SLOTS": triton.next_power_of_2(M)}
    return {
        "DEGREE": degree,
        "ACTIVATION": activation,
        "NU": nu,
        "WIDE": TRITON_DTYPE[wide_of(x)],
        "enable_fp_fusion": True,
        **tile,
    }


def _grid(rows: int, I: int) -> tuple[int]:
    return (triton.cdiv(rows, ROWS) * triton.cdiv(I, INPUTS),)


def _expand(
    x: Tensor, row_weight: Tensor | None, knots: Tensor, M: int, dtype: torch.dtype, settings: dict[str, Any]
) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their slots [rows, I * M] times the row weights, chunk by chunk."""
    B, I = x.shape
    for rows in _chunks(B, I * M * dtype.itemsize):
        size = rows.stop - rows.start
        slots = x.new_empty((size, I * M), dtype=dtype)
        r = None if row_weight is None else row_weight[rows]
        expand_kernel[_grid(size, I)](
            x[rows], r, knots, slots, size, I, knots.shape[1], WEIGHTED=row_weight is not None, **settings
        )
        yield rows, slots


def forward(
    x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor | None:
    if not slots_fit(weight.dtype, row_weight, nu):
        return None
    x, weight, row_weight, knots = contiguous(x, weight, row_weight, knots)
    I, M, O = weight.shape
    y = weight.new_empty((len(x), O))
    for rows, slots in _expand(x, row_weight, knots, M, weight.dtype, _settings(x, M, degree, activation, nu)):
        torch.mm(slots, weight.view(I * M, O), out=y[rows])
    return y


def grad_input(x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    x, weight, grad_output, knots = contiguous(x, weight, grad_output, knots)
    (I, M, O), grad = weight.shape, torch.empty_like(x)
    settings = _settings(x, M, degree, activation, nu)
    for rows in _chunks(len(x), I * M * weight.element_size()):
        pulled = grad_output[rows] @ weight.view(I * M, O).T
        size = len(pulled)
        contract_kernel[_grid(size, I)](x[rows], pulled, knots, grad[rows], size, I, knots.shape[1], **settings)
    return grad


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor | None:
    """The chunks' products are added up in float32 at least, always in the same order."""
    dtype, wide = grad_output.dtype, wide_of(x)
    if not slots_fit(dtype, row_weight, nu):
        return None
    x, grad_output, row_weight, knots = contiguous(x, grad_output, row_weight, knots)
    I, M, O = x.shape[1], knots.shape[1] - degree, grad_output.shape[1]
    total = torch.zeros((I * M, O), dtype=wide, device=x.device)
    for rows, slots in _expand(x, row_weight, knots, M, dtype, _settings(x, M, degree, activation, nu)):
        if slots.is_cuda and dtype != wide:
            total += torch.mm(slots.T, grad_output[rows], out_dtype=wide)
        else:
            total += slots.T.to(wide) @ grad_output[rows].to(wide)
    return total.view(I, M, O).to(dtype)
