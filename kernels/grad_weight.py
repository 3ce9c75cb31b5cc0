"""sum_b r[b,i] f_m(x[b,i]) g[b,o]: a matrix product over the rows, first in parts, which are then added in a fixed order."""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.splines import alive, expanded, first_alive, scaled, spline


@triton.jit
def grad_weight_tile(
    tile, split, x_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, partial_ptr, B, I, O, K, rows_per_split,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, SPLINES: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The tile [INPUTS, SLOTS, COLUMNS] of one split's partial sum, of splines or (SLOTS = 1) of the base slot.

    The contraction runs over ROWS rows at a time.
    """
    S = K - DEGREE - 1
    column_tiles = tl.cdiv(O, COLUMNS)
    slot_tiles = tl.cdiv(S, SLOTS) if SPLINES else 1
    o = (tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)
    m = (tile // column_tiles % slot_tiles) * SLOTS + tl.arange(0, SLOTS)
    i = tile // (column_tiles * slot_tiles) * INPUTS + tl.arange(0, INPUTS)
    own_knots = tl.minimum(i, I - 1)[:, None] * K
    start = split.to(tl.int64) * rows_per_split
    stop = tl.minimum(start + rows_per_split, B)
    b = tl.arange(0, ROWS)
    # Always 1, which the compiler cannot know: it keeps the base slot's operand in shared memory. An operand in registers would
    # span two steps in TF32, and on Hopper the first step may be overwritten while it is read (kernels/uniform.py).
    one = (stop > start).to(WIDE)
    total = tl.zeros((INPUTS * SLOTS, COLUMNS), WIDE)
    for b0 in range(start, stop, ROWS):
        row_there = b < stop - b0
        there = (i < I)[:, None] & row_there[None, :]
        at = b[None, :] * I + i[:, None]
        x = tl.load(x_ptr + b0 * I + at, mask=there, other=0.0).to(WIDE)
        r = tl.load(row_weight_ptr + b0 * I + at, mask=there, other=0.0).to(WIDE) if WEIGHTED else 1.0
        if SPLINES:
            first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
            values = alive(x, first, knots_ptr, own_knots, K, DEGREE, NU)
            values = expanded(scaled(values, r, DEGREE), 1, DEGREE)
            left = spline(first[:, None, :], values, m[None, :, None], DEGREE)
            left = tl.reshape(left, (INPUTS * SLOTS, ROWS))
        else:
            left = activation_value(x, ACTIVATION, NU) * r * one
        g_there = row_there[:, None] & (o < O)[None, :]
        g = tl.load(grad_output_ptr + b0 * O + b[:, None] * O + o[None, :], mask=g_there, other=0.0)
        total = tl.dot(left.to(OPERAND), g.to(OPERAND), total, input_precision=PRECISION, out_dtype=WIDE)
    slot = m if SPLINES else m + S
    row = tl.reshape(i.to(tl.int64)[:, None] * (S + 1) + slot[None, :], (INPUTS * SLOTS, 1))
    stored = tl.reshape((i < I)[:, None] & (slot < S + (1 - SPLINES))[None, :], (INPUTS * SLOTS, 1)) & (o < O)[None, :]
    out = partial_ptr + (split.to(tl.int64) * I * (S + 1) + row) * O + o[None, :]
    tl.store(out, total.to(partial_ptr.dtype.element_ty), mask=stored)


@triton.jit
def grad_weight_kernel(
    x_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, partial_ptr, B, I, O, K, rows_per_split,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, SPLINES: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Programs (tile, split). The base slots have a launch of their own: among the splines they would pad 8 slots to 16."""
    grad_weight_tile(
        tl.program_id(0), tl.program_id(1), x_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, partial_ptr, B, I, O, K,
        rows_per_split, DEGREE, ACTIVATION, NU, WEIGHTED, SPLINES, OPERAND, WIDE, PRECISION, ROWS, COLUMNS, INPUTS, SLOTS,
    )  # fmt: skip


@triton.jit
def sum_kernel(partial_ptr, total_ptr, size, splits, BLOCK: tl.constexpr):
    """total[k] = sum of partial[split, k], the splits always in the same order."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), partial_ptr.dtype.element_ty)
    for _ in range(splits):
        total += tl.load(partial_ptr + k, mask=k < size, other=0.0)
        partial_ptr += size
    tl.store(total_ptr + k, total.to(total_ptr.dtype.element_ty), mask=k < size)
