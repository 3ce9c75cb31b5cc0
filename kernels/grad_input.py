"""sum_m f_m(x[b,i]) sum_o W[i,m,o] g[b,o]: the matrix product g W^T, multiplied by the slots and summed before it is stored."""

import triton
import triton.language as tl

from fastkan.kernels.activations import activation_value
from fastkan.kernels.splines import alive, expanded, first_alive, spline


@triton.jit
def pull_back(
    g_row, w_row, g_there, w_there, O,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """sum_o g[b,o] W[row,o]. g_row and w_row are columns of pointers to rows; g_there and w_there say which of them exist."""
    total = tl.zeros((g_there.shape[0], w_there.shape[0]), WIDE)
    for o0 in range(0, O, OUTPUTS):
        o = o0 + tl.arange(0, OUTPUTS)[None, :]
        g = tl.load(g_row + o, mask=g_there & (o < O), other=0.0).to(OPERAND)
        w = tl.load(w_row + o, mask=w_there & (o < O), other=0.0).to(OPERAND)
        total = tl.dot(g, tl.trans(w), total, input_precision=PRECISION, out_dtype=WIDE)
    return total


@triton.jit
def grad_input_tile(
    tile, x_ptr, weight_ptr, grad_output_ptr, knots_ptr, grad_ptr, B, I, O, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, INPUTS] of the answer; SLOTS slots at a time, the contraction runs over OUTPUTS outputs at a time."""
    S = K - DEGREE - 1
    input_tiles = tl.cdiv(I, INPUTS)
    first_row = (tile // input_tiles).to(tl.int64) * ROWS
    i = (tile % input_tiles) * INPUTS + tl.arange(0, INPUTS)
    b = tl.arange(0, ROWS)
    row_there = b < B - first_row
    there = row_there[:, None] & (i < I)[None, :]
    at = first_row * I + b[:, None] * I + i[None, :]
    x = tl.load(x_ptr + at, mask=there, other=0.0).to(WIDE)
    own_knots = tl.minimum(i, I - 1)[None, :] * K
    first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
    values = alive(x, first, knots_ptr, own_knots, K, DEGREE, NU)
    base = activation_value(x, ACTIVATION, NU)
    g_row = grad_output_ptr + first_row * O + b[:, None] * O
    g_there = row_there[:, None]
    w_row = i.to(tl.int64)[:, None] * (S + 1)
    grad = pull_back(g_row, weight_ptr + (w_row + S) * O, g_there, (i < I)[:, None], O, OPERAND, WIDE, PRECISION, OUTPUTS) * base
    for m0 in range(0, S, SLOTS):
        m = m0 + tl.arange(0, SLOTS)[None, :]
        slot_row = weight_ptr + tl.reshape(w_row + m, (INPUTS * SLOTS, 1)) * O
        slot_there = tl.reshape((i < I)[:, None] & (m < S), (INPUTS * SLOTS, 1))
        pulled = pull_back(g_row, slot_row, g_there, slot_there, O, OPERAND, WIDE, PRECISION, OUTPUTS)
        here = spline(first[:, :, None], expanded(values, 2, DEGREE), m[None, :, :], DEGREE)
        grad += tl.sum(tl.reshape(pulled, (ROWS, INPUTS, SLOTS)) * here, axis=2)
    tl.store(grad_ptr + at, grad.to(grad_ptr.dtype.element_ty), mask=there)


@triton.jit
def grad_input_kernel(
    x_ptr, weight_ptr, grad_output_ptr, knots_ptr, grad_ptr, B, I, O, K,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One tile a program."""
    grad_input_tile(
        tl.program_id(0), x_ptr, weight_ptr, grad_output_ptr, knots_ptr, grad_ptr, B, I, O, K,
        DEGREE, ACTIVATION, NU, OPERAND, WIDE, PRECISION, ROWS, OUTPUTS, INPUTS, SLOTS,
    )  # fmt: skip
