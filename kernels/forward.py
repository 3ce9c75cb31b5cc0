"""y[b,o] = sum_i r[b,i] sum_m f_m(x[b,i]) W[i,m,o]: a matrix product whose left operand, the slots, is made from x as it goes."""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.splines import alive, expanded, first_alive, scaled, spline


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, row_weight_ptr, knots_ptr, y_ptr, B, I, O, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, COLUMNS] of y; the contraction runs over SLOTS splines of INPUTS inputs at a time, then the base slots."""
    S = K - DEGREE - 1
    column_tiles = tl.cdiv(O, COLUMNS)
    first_row = (tl.program_id(0) // column_tiles).to(tl.int64) * ROWS
    o = (tl.program_id(0) % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)
    b = tl.arange(0, ROWS)
    row_there = b < B - first_row
    row = first_row * I + b[:, None] * I
    total = tl.zeros((ROWS, COLUMNS), WIDE)
    for i0 in range(0, I, INPUTS):
        i = i0 + tl.arange(0, INPUTS)
        there = row_there[:, None] & (i < I)[None, :]
        x = tl.load(x_ptr + row + i[None, :], mask=there, other=0.0).to(WIDE)
        own_knots = tl.minimum(i, I - 1)[None, :] * K
        first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
        values = alive(x, first, knots_ptr, own_knots, K, DEGREE, NU)
        if WEIGHTED:
            values = scaled(values, tl.load(row_weight_ptr + row + i[None, :], mask=there, other=0.0).to(WIDE), DEGREE)
        values = expanded(values, 2, DEGREE)
        for m0 in range(0, S, SLOTS):
            m = m0 + tl.arange(0, SLOTS)
            left = spline(first[:, :, None], values, m[None, None, :], DEGREE)
            left = tl.reshape(left, (ROWS, INPUTS * SLOTS)).to(OPERAND)
            w_row = tl.reshape(i.to(tl.int64)[:, None] * (S + 1) + m[None, :], (INPUTS * SLOTS, 1))
            w_there = tl.reshape((i < I)[:, None] & (m < S)[None, :], (INPUTS * SLOTS, 1)) & (o < O)[None, :]
            w = tl.load(weight_ptr + w_row * O + o[None, :], mask=w_there, other=0.0).to(OPERAND)
            total = tl.dot(left, w, total, input_precision=PRECISION, out_dtype=WIDE)
    for i0 in range(0, I, INPUTS * SLOTS):
        i = i0 + tl.arange(0, INPUTS * SLOTS)
        there = row_there[:, None] & (i < I)[None, :]
        base = activation_value(tl.load(x_ptr + row + i[None, :], mask=there, other=0.0).to(WIDE), ACTIVATION, NU)
        if WEIGHTED:
            base = base * tl.load(row_weight_ptr + row + i[None, :], mask=there, other=0.0).to(WIDE)
        w_row = i.to(tl.int64)[:, None] * (S + 1) + S
        w = tl.load(weight_ptr + w_row * O + o[None, :], mask=(i < I)[:, None] & (o < O)[None, :], other=0.0).to(OPERAND)
        total = tl.dot(base.to(OPERAND), w, total, input_precision=PRECISION, out_dtype=WIDE)
    y = total.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + first_row * O + b[:, None] * O + o[None, :], y, mask=row_there[:, None] & (o < O)[None, :])
