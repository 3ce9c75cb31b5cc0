"""The forward pass of large layers in 16 bit, any degree and knots: a kernel finds the splines alive at x, another multiplies.

`locate_kernel` writes planes: the number of the first spline alive, the degree + 1 values from it on, and the base slot. Row
weights are multiplied in, and every number is rounded once.

`placed_forward_kernel` multiplies by the weight. It makes the slots from the planes in the registers that feed the tensor cores:
slot m is sum_q value_q [first == m - q]. At most one bracket is 1, so the sum is exact. A slot costs one comparison and
degree + 1 multiply-adds on pairs of numbers. NaN times 0 is NaN, so a NaN reaches every slot of its input, as the contract wants.

Planes lie as [blocks of 16 inputs, first | values | base, rows, 16], inputs and rows padded: a step reads whole sectors and needs
no mask. As in kernels/uniform.py every leaf of the operand's expression is a load or a constant, and a register operand spans
one step of 16.
"""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.splines import alive, first_alive
from fastkan.kernels.uniform import GROUP, STEP


@triton.jit(do_not_specialize=["rows"])  # the last part of the rows has any number of them
def locate_kernel(
    x_ptr, row_weight_ptr, knots_ptr, planes_ptr, table_ptr, rows, padded_rows, I, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The planes of ROWS rows and STEP inputs; the first program also writes table [chunks, STEP], every chunk's first slot."""
    OPERAND: tl.constexpr = planes_ptr.dtype.element_ty
    row_tiles = padded_rows // ROWS
    block = tl.program_id(0) // row_tiles
    b = (tl.program_id(0) % row_tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    i = block * STEP + tl.arange(0, STEP)[None, :]
    there = (b < rows) & (i < I)
    at = b.to(tl.int64) * I + i
    x = tl.load(x_ptr + at, mask=there, other=0.0).to(WIDE)
    own_knots = tl.minimum(i, I - 1) * K
    first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
    values = alive(x, first, knots_ptr, own_knots, K, DEGREE, NU) + (activation_value(x, ACTIVATION, NU),)
    plane = planes_ptr + (block * (DEGREE + 3) * padded_rows + b) * STEP + tl.arange(0, STEP)[None, :]
    tl.store(plane, first.to(tl.float32).to(OPERAND))
    if WEIGHTED:
        r = tl.load(row_weight_ptr + at, mask=there, other=0.0).to(WIDE)
    for q in tl.static_range(DEGREE + 2):
        value = values[q]
        if WEIGHTED:
            value = value * r
        tl.store(plane + (q + 1) * padded_rows * STEP, value.to(OPERAND))
    if tl.program_id(0) == 0:
        for chunk in range(0, tl.cdiv(K - DEGREE - 1, SLOTS)):
            start = tl.zeros((STEP,), tl.float32) + chunk * SLOTS
            tl.store(table_ptr + chunk * STEP + tl.arange(0, STEP), start.to(OPERAND))


# ---- two 16-bit values at a time. Triton's interpreter runs no assembly: PACKED is False there, and values are float32.


@triton.jit
def less(a, b, PACKED: tl.constexpr):
    """a - b, exact wherever it can be one of a chunk's slots."""
    if not PACKED:
        return a - b
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("sub.rn.f16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise("sub.rn.bf16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.bfloat16, is_pure=True, pack=2)


@triton.jit
def equals(a, number: tl.constexpr, PACKED: tl.constexpr):
    """1 where a is the number, else 0."""
    b = tl.full(a.shape, number, a.dtype)
    if not PACKED:
        return (a == b).to(tl.float32)
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("set.eq.f16x2.f16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise("set.eq.bf16x2.bf16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.bfloat16, is_pure=True, pack=2)


@triton.jit
def multiply_add(a, b, c, PACKED: tl.constexpr):
    if not PACKED:
        return a * b + c
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise(
            "fma.rn.bf16x2 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.bfloat16, is_pure=True, pack=2
        )


@triton.jit
def unpacked(a, PACKED: tl.constexpr):
    return a if PACKED else a.to(tl.float32)


@triton.jit(do_not_specialize=["rows"])
def placed_forward_kernel(
    planes_ptr, table_ptr, weight_ptr, y_ptr, rows, padded_rows, I, O, S,
    DEGREE: tl.constexpr, PACKED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, COLUMNS] of y: splines chunk by chunk for 16 inputs at a time, then the base slots."""
    OPERAND: tl.constexpr = planes_ptr.dtype.element_ty
    row_tiles, column_tiles = tl.cdiv(rows, ROWS), tl.cdiv(O, COLUMNS)
    first_tile = tl.program_id(0) // (GROUP * column_tiles) * GROUP
    group = tl.minimum(row_tiles - first_tile, GROUP)
    within = tl.program_id(0) % (GROUP * column_tiles)
    b = (first_tile + within % group) * ROWS + tl.arange(0, ROWS)
    o = within // group * COLUMNS + tl.arange(0, COLUMNS)
    column_there = (o < O)[None, :]
    lane = tl.arange(0, STEP)
    chunks = tl.cdiv(S, SLOTS)
    plane_size = padded_rows * STEP
    own = planes_ptr + b[:, None] * STEP + lane[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(0, tl.cdiv(I, STEP) * chunks):
        chunk = step % chunks
        block = step // chunks
        plane = own + block * (DEGREE + 3) * plane_size
        start = unpacked(tl.load(table_ptr + chunk * STEP + lane)[None, :], PACKED)
        distance = unpacked(tl.load(plane), PACKED)
        distance = less(distance, tl.broadcast_to(start, (ROWS, STEP)), PACKED)
        values = ()
        for q in tl.static_range(1, DEGREE + 2):
            values = values + (unpacked(tl.load(plane + q * plane_size), PACKED),)
        brackets = ()  # [distance == -degree], ..., and one more for every slot
        for k in tl.static_range(DEGREE):
            brackets = brackets + (equals(distance, k - DEGREE, PACKED),)
        i = block * STEP + lane
        w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + chunk * SLOTS) * O + o[None, :]
        for k in tl.static_range(SLOTS):
            w = tl.load(w_row + k * O, mask=(i < I)[:, None] & column_there & (chunk * SLOTS + k < S), other=0.0)
            brackets = brackets + (equals(distance, k, PACKED),)
            left = tl.full(distance.shape, 0.0, distance.dtype)
            for q in tl.static_range(DEGREE + 1):
                left = multiply_add(values[q], brackets[k + DEGREE - q], left, PACKED)
            total = tl.dot(left.to(OPERAND), w, total)
    for i0 in range(0, I, 4 * STEP):
        for q in tl.static_range(4):
            i = i0 + q * STEP + lane
            base = own + ((i0 // STEP + q) * (DEGREE + 3) + DEGREE + 2) * plane_size
            left = tl.load(base, mask=(i < I)[None, :], other=0.0)
            w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + S) * O + o[None, :]
            w = tl.load(w_row, mask=(i < I)[:, None] & column_there, other=0.0)
            total = tl.dot(left, w, total)
    y = y_ptr + b.to(tl.int64)[:, None] * O + o[None, :]
    tl.store(y, total.to(y_ptr.dtype.element_ty), mask=(b < rows)[:, None] & column_there)
