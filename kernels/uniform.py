"""Cubic splines on uniform grids with 16-bit or TF32 operands: the fast path of forward, grad_input and grad_weight.

Every spline is the cardinal one, a closed form of u = (x - t_0) / h: a slot costs about ten instructions and no search. Inputs
may have ranges of their own.

forward and grad_weight make the slots in the registers that feed the tensor cores. Triton keeps them there only if every leaf of
the expression is a load or a constant, so vectors are loaded from tables where a scalar would do. A register operand spans one
step of 16: on Hopper a longer one may be overwritten while it is still being read (triton-lang/triton#9433).

kernels/grids.py makes the tables. grid_ptr [4, I] holds 1 / 2h, h^0, h^-1, h^-2. offset_ptr [slots, I] is such that
d = x / 2h + offset = (u - m - 2) / 2 for slot m; its slots are padded to whole chunks. row_weight_ptr may be None.
"""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.grad_input import pull_back

CHUNK = tl.constexpr(8)  # slots per chunk
STEP = tl.constexpr(16)  # inputs (rows in grad_weight) per product: the depth of one 16-bit tensor-core instruction
NOWHERE = tl.constexpr(-1000.0)  # an offset at which every spline is 0
GROUP = tl.constexpr(8)  # row tiles that share a column tile of the weight in L2


@triton.jit
def cardinal(d, NU: tl.constexpr):
    """nu-th derivative in u of the cubic B-spline on |d| < 1, times 3/4 for nu = 0 (see `unit`); NaN at NaN, 0 at infinity."""
    a = tl.maximum(1.0 - tl.abs(d), 0.0, propagate_nan=tl.PropagateNan.ALL)
    if NU == 0:
        b = tl.maximum(1.5874010519681994 * a - 0.7937005259840998, 0.0)  # 2 c a - c with c = 2^(-1/3)
        value = a * a * a - b * b * b
    else:
        b = tl.maximum(2.0 * a - 1.0, 0.0)
        if NU == 1:
            right = 2.0 * (b * b - a * a)
            value = tl.where(d < 0.0, -right, right)
        else:
            value = 2.0 * a - 4.0 * b
    return value


@triton.jit
def unit(NU: tl.constexpr):
    """What the sum of `cardinal` values is multiplied by in the end."""
    return 4.0 / 3.0 if NU == 0 else 1.0


@triton.jit
def uniform_forward_kernel(
    x_ptr, weight_ptr, row_weight_ptr, grid_ptr, offset_ptr, y_ptr, B, I, O, S,
    ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, COLUMNS] of y: splines chunk by chunk for 16 inputs at a time, then the base slots."""
    row_tiles, column_tiles = tl.cdiv(B, ROWS), tl.cdiv(O, COLUMNS)
    first_tile = tl.program_id(0) // (GROUP * column_tiles) * GROUP
    group = tl.minimum(row_tiles - first_tile, GROUP)
    within = tl.program_id(0) % (GROUP * column_tiles)
    first_row = (first_tile + within % group).to(tl.int64) * ROWS
    o = within // group * COLUMNS + tl.arange(0, COLUMNS)
    b = tl.arange(0, ROWS)
    row_there = (b < B - first_row)[:, None]
    column_there = (o < O)[None, :]
    x_row = x_ptr + first_row * I + b[:, None] * I
    chunks = tl.cdiv(S, CHUNK)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(0, tl.cdiv(I, STEP) * chunks):
        chunk = step % chunks
        i = step // chunks * STEP + tl.arange(0, STEP)
        there = i < I
        scale = tl.load(grid_ptr + i, mask=there, other=0.0)[None, :]
        offset = tl.load(offset_ptr + chunk * CHUNK * I + i, mask=there, other=NOWHERE)[None, :]
        x = tl.load(x_row + i[None, :], mask=row_there & there[None, :], other=0.0).to(tl.float32)
        d = x * scale + offset
        if WEIGHTED:
            r = tl.load(row_weight_ptr + first_row * I + b[:, None] * I + i[None, :], mask=row_there & there[None, :], other=0.0)
        if NU > 0:
            slope = tl.load(grid_ptr + (1 + NU) * I + i, mask=there, other=0.0)[None, :]
        w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + chunk * CHUNK) * O + o[None, :]
        for k in tl.static_range(CHUNK):
            w = tl.load(w_row + k * O, mask=there[:, None] & column_there & (chunk * CHUNK + k < S), other=0.0).to(OPERAND)
            left = cardinal(d - k * 0.5, NU)
            if NU > 0:
                left = left * slope
            if WEIGHTED:
                left = left * r.to(tl.float32)
            total = tl.dot(left.to(OPERAND), w, total, input_precision=PRECISION)
    total = total * unit(NU)
    for i0 in range(0, I, 4 * STEP):
        for q in tl.static_range(4):
            i = i0 + q * STEP + tl.arange(0, STEP)
            there = row_there & (i < I)[None, :]
            left = activation_value(tl.load(x_row + i[None, :], mask=there, other=0.0).to(tl.float32), ACTIVATION, NU)
            if WEIGHTED:
                r = tl.load(row_weight_ptr + first_row * I + b[:, None] * I + i[None, :], mask=there, other=0.0)
                left = left * r.to(tl.float32)
            w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + S) * O + o[None, :]
            w = tl.load(w_row, mask=(i < I)[:, None] & column_there, other=0.0).to(OPERAND)
            total = tl.dot(left.to(OPERAND), w, total, input_precision=PRECISION)
    y = y_ptr + first_row * O + b[:, None] * O + o[None, :]
    tl.store(y, total.to(y_ptr.dtype.element_ty), mask=row_there & column_there)


@triton.jit
def uniform_grad_input_kernel(
    x_ptr, weight_ptr, grad_output_ptr, grid_ptr, offset_ptr, grad_ptr, B, I, O, S,
    ACTIVATION: tl.constexpr, NU: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, INPUTS] of the answer. Columns of the product are (slot, input): a thread then holds all slots of an x."""
    input_tiles = tl.cdiv(I, INPUTS)
    first_row = (tl.program_id(0) // input_tiles).to(tl.int64) * ROWS
    first_input = tl.program_id(0) % input_tiles * INPUTS
    b = tl.arange(0, ROWS)
    i = first_input + tl.arange(0, INPUTS)
    column = tl.arange(0, CHUNK * INPUTS)
    column_input, column_slot = first_input + column % INPUTS, column // INPUTS
    row_there = (b < B - first_row)[:, None]
    there = row_there & (i < I)[None, :]
    x = tl.load(x_ptr + first_row * I + b[:, None] * I + i[None, :], mask=there, other=0.0).to(tl.float32)
    g_row = grad_output_ptr + first_row * O + b[:, None] * O
    w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + S) * O
    grad = pull_back(g_row, w_row, row_there, (i < I)[:, None], O, OPERAND, tl.float32, PRECISION, OUTPUTS)
    grad = grad * activation_value(x, ACTIVATION, NU)
    scale = tl.load(grid_ptr + i, mask=i < I, other=0.0)[None, :]
    slope = tl.load(grid_ptr + (1 + NU) * I + i, mask=i < I, other=0.0)[None, :] * unit(NU)
    for chunk in range(0, tl.cdiv(S, CHUNK)):
        slot = chunk * CHUNK + column_slot
        slot_row = weight_ptr + (column_input.to(tl.int64) * (S + 1) + slot)[:, None] * O
        slot_there = ((column_input < I) & (slot < S))[:, None]
        pulled = pull_back(g_row, slot_row, row_there, slot_there, O, OPERAND, tl.float32, PRECISION, OUTPUTS)
        d = x * scale + tl.load(offset_ptr + chunk * CHUNK * I + i, mask=i < I, other=NOWHERE)[None, :]
        half = tl.arange(0, CHUNK).to(tl.float32)[None, :, None] * 0.5
        values = cardinal(d[:, None, :] - half, NU) * slope[:, None, :]
        grad += tl.sum(tl.reshape(pulled, (ROWS, CHUNK, INPUTS)) * values, axis=1)
    tl.store(grad_ptr + first_row * I + b[:, None] * I + i[None, :], grad.to(grad_ptr.dtype.element_ty), mask=there)


@triton.jit
def uniform_grad_weight_kernel(
    x_ptr, grad_output_ptr, row_weight_ptr, grid_ptr, offset_ptr, partial_ptr, B, I, O, S, rows_per_split,
    ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, SPLINES: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    COLUMNS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Programs (tile, split): SLOTS splines or the base slot of INPUTS inputs, COLUMNS outputs, STEPS x 16 rows at a time.

    Rows of the tile are (slot, input): x is loaded once for each of its slots, the same addresses from L1.
    """
    tile, split = tl.program_id(0), tl.program_id(1)
    column_tiles = tl.cdiv(O, COLUMNS)
    chunks = tl.cdiv(S, SLOTS) if SPLINES else 1
    line = tl.arange(0, SLOTS * INPUTS)
    i = tile // (column_tiles * chunks) * INPUTS + line % INPUTS
    slot = line // INPUTS + (tile // column_tiles % chunks * SLOTS if SPLINES else S)
    there = i < I
    o = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    start = split.to(tl.int64) * rows_per_split
    stop = tl.minimum(start + rows_per_split, B)
    total = tl.zeros((SLOTS * INPUTS, COLUMNS), tl.float32)
    for b0 in range(start, stop, STEPS * STEP):
        if SPLINES:
            scale = tl.load(grid_ptr + i, mask=there, other=0.0)[:, None]
            offset = tl.load(offset_ptr + slot * I + i, mask=there, other=NOWHERE)[:, None]
        for q in tl.static_range(STEPS):
            b = q * STEP + tl.arange(0, STEP)
            row_there = b < stop - b0
            at = b0 * I + b[None, :] * I + i[:, None]
            x = tl.load(x_ptr + at, mask=row_there[None, :] & there[:, None], other=0.0).to(tl.float32)
            g = grad_output_ptr + b0 * O + b[:, None] * O + o[None, :]
            g = tl.load(g, mask=row_there[:, None] & (o < O)[None, :], other=0.0).to(OPERAND)
            if SPLINES:
                left = cardinal(x * scale + offset, NU)
            else:
                left = activation_value(x, ACTIVATION, NU)
            if WEIGHTED:
                left = left * tl.load(row_weight_ptr + at, mask=row_there[None, :] & there[:, None], other=0.0).to(tl.float32)
            total = tl.dot(left.to(OPERAND), g, total, input_precision=PRECISION)
    if SPLINES:
        total = total * (tl.load(grid_ptr + (1 + NU) * I + i, mask=there, other=0.0) * unit(NU))[:, None]
    stored = (there & (slot < S + (1 - SPLINES)))[:, None] & (o < O)[None, :]
    row = split.to(tl.int64) * I * (S + 1) + i.to(tl.int64) * (S + 1) + slot
    tl.store(partial_ptr + row[:, None] * O + o[None, :], total.to(partial_ptr.dtype.element_ty), mask=stored)
