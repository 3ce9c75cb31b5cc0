"""Both gradients of a small layer in one launch: each alone leaves most of a GPU idle and takes less time than its launch."""

import triton
import triton.language as tl

from fastkan.kernels.grad_input import grad_input_tile
from fastkan.kernels.grad_weight import grad_weight_tile


@triton.jit
def fused_gradients_kernel(
    x_ptr, weight_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, grad_ptr, partial_ptr,
    B, I, O, K, rows_per_split, splits, input_programs, spline_tiles, base_tiles,
    DEGREE: tl.constexpr, ACTIVATION: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr,
    WIDE: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr, SUM_OPERAND: tl.constexpr, SUM_PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr, SLOTS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """grad_input of order nu + 1, and grad_weight of order nu.

    The first programs make grad_input, the next the splines of grad_weight (split after split), the last its base slots.
    """
    program = tl.program_id(0)
    spline_programs = input_programs + splits * spline_tiles
    if program < input_programs:
        grad_input_tile(
            program, x_ptr, weight_ptr, grad_output_ptr, knots_ptr, grad_ptr, B, I, O, K,
            DEGREE, ACTIVATION, NU + 1, OPERAND, WIDE, PRECISION, ROWS, DEPTH, INPUTS, SLOTS,
        )  # fmt: skip
    elif program < spline_programs:
        tile = program - input_programs
        grad_weight_tile(
            tile % spline_tiles, tile // spline_tiles, x_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, partial_ptr,
            B, I, O, K, rows_per_split,
            DEGREE, ACTIVATION, NU, WEIGHTED, True, SUM_OPERAND, WIDE, SUM_PRECISION, DEPTH, COLUMNS, INPUTS, SLOTS,
        )  # fmt: skip
    else:
        tile = program - spline_programs
        grad_weight_tile(
            tile % base_tiles, tile // base_tiles, x_ptr, grad_output_ptr, row_weight_ptr, knots_ptr, partial_ptr,
            B, I, O, K, rows_per_split,
            DEGREE, ACTIVATION, NU, WEIGHTED, False, SUM_OPERAND, WIDE, SUM_PRECISION, DEPTH, COLUMNS, INPUTS * SLOTS, 1,
        )  # fmt: skip
