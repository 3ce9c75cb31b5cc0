"""gram, sum_b r[b,i] f_m(x[b,i]) f_n(x[b,i]), and its adjoint quadratic, sum_mn f_m(x[b,i]) C[i,m,n] f_n(x[b,i]).

A program works on one input. x and r come transposed, [I, B], so that the rows of an input lie side by side.
"""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.splines import alive, expanded, first_alive, scaled, slot


@triton.jit
def gram_kernel(
    x_ptr, row_weight_ptr, knots_ptr, partial_ptr, B, I, K, rows_per_split,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, MU: tl.constexpr, WEIGHTED: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The tile [SLOTS, SLOTS] of one input and one split; the contraction runs over ROWS rows at a time."""
    S = K - DEGREE - 1
    slot_tiles = tl.cdiv(S + 1, SLOTS)
    i = (tl.program_id(0) // (slot_tiles * slot_tiles)).to(tl.int64)
    m = (tl.program_id(0) // slot_tiles % slot_tiles) * SLOTS + tl.arange(0, SLOTS)
    n = (tl.program_id(0) % slot_tiles) * SLOTS + tl.arange(0, SLOTS)
    start = tl.program_id(1).to(tl.int64) * rows_per_split
    stop = tl.minimum(start + rows_per_split, B)
    total = tl.zeros((SLOTS, SLOTS), WIDE)
    for b0 in range(start, stop, ROWS):
        b = tl.arange(0, ROWS)
        there = b < stop - b0
        x = tl.load(x_ptr + i * B + b0 + b, mask=there, other=0.0).to(WIDE)
        first = first_alive(x, knots_ptr + i * K, 0, K, DEGREE)
        values = alive(x, first, knots_ptr + i * K, 0, K, DEGREE, NU)
        base = activation_value(x, ACTIVATION, NU)
        r = there.to(WIDE)  # rows past the end weigh nothing
        if WEIGHTED:
            r = tl.load(row_weight_ptr + i * B + b0 + b, mask=there, other=0.0).to(WIDE)
        left = slot(first[None, :], expanded(scaled(values, r, DEGREE), 0, DEGREE), (base * r)[None, :], m[:, None], S, DEGREE)
        values = alive(x, first, knots_ptr + i * K, 0, K, DEGREE, MU)
        right = slot(
            first[:, None], expanded(values, 1, DEGREE), activation_value(x, ACTIVATION, MU)[:, None], n[None, :], S, DEGREE
        )
        total = tl.dot(left, right, total, input_precision="ieee", out_dtype=WIDE)
    out = partial_ptr + ((tl.program_id(1).to(tl.int64) * I + i) * (S + 1) + m[:, None]) * (S + 1) + n[None, :]
    tl.store(out, total.to(partial_ptr.dtype.element_ty), mask=(m[:, None] <= S) & (n[None, :] <= S))


@triton.jit
def quadratic_kernel(
    x_ptr, form_ptr, knots_ptr, out_ptr, B, I, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, MU: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """ROWS answers of one input."""
    S = K - DEGREE - 1
    row_tiles = tl.cdiv(B, ROWS)
    i = (tl.program_id(0) // row_tiles).to(tl.int64)
    b = (tl.program_id(0) % row_tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    x = tl.load(x_ptr + i * B + b, mask=b < B, other=0.0).to(WIDE)[:, None]
    first = first_alive(x, knots_ptr + i * K, 0, K, DEGREE)
    left_values = alive(x, first, knots_ptr + i * K, 0, K, DEGREE, NU)
    right_values = alive(x, first, knots_ptr + i * K, 0, K, DEGREE, MU)
    left_base, right_base = activation_value(x, ACTIVATION, NU), activation_value(x, ACTIVATION, MU)
    answer = tl.zeros((ROWS,), WIDE)
    for n0 in range(0, S + 1, SLOTS):
        n = n0 + tl.arange(0, SLOTS)
        product = tl.zeros((ROWS, SLOTS), WIDE)
        for m0 in range(0, S + 1, SLOTS):
            m = m0 + tl.arange(0, SLOTS)
            form_row = form_ptr + (i * (S + 1) + m[:, None]) * (S + 1)
            form = tl.load(form_row + n[None, :], mask=(m[:, None] <= S) & (n[None, :] <= S), other=0.0).to(WIDE)
            left = slot(first, left_values, left_base, m[None, :], S, DEGREE)
            product = tl.dot(left, form, product, input_precision="ieee", out_dtype=WIDE)
        right = slot(first, right_values, right_base, n[None, :], S, DEGREE)
        answer += tl.sum(product * tl.where(n[None, :] <= S, right, 0.0), axis=1)
    tl.store(out_ptr + i * B + b, answer.to(out_ptr.dtype.element_ty), mask=b < B)
