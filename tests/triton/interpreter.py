"""Triton's interpreter with bfloat16 repaired: by itself it truncates where a GPU rounds, and multiplies bit patterns in tl.dot.

Import this before any kernel runs under TRITON_INTERPRET=1. Products of bfloat16 are exact in float32, as on a GPU, and so are
the sums' operands; only the order of the sums differs. Element-wise arithmetic on bfloat16 stays wrong: the kernels have none.
"""

import warnings

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from fastkan.backends import triton


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 to the nearest bfloat16, ties to even, as bits; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), nearest)


def _repair() -> None:
    cast, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot

    def cast_impl(builder, source, target):
        from_dtype, to_dtype = source.dtype.scalar, target.scalar
        if from_dtype == to_dtype:
            return TensorHandle(source.data, to_dtype)
        if from_dtype == tl.bfloat16:
            source = TensorHandle(widened(source.data), tl.float32)
            return source if to_dtype == tl.float32 else cast(builder, source, target)
        if to_dtype == tl.bfloat16:
            return TensorHandle(rounded(source.data.astype(np.float32)), tl.bfloat16)
        return cast(builder, source, target)

    def create_dot(builder, a, b, total, *options):
        a, b = (TensorHandle(widened(t.data), tl.float32) if t.dtype.scalar == tl.bfloat16 else t for t in (a, b))
        return dot(builder, a, b, total, *options)

    for name in ("create_fp_ext", "create_fp_trunc"):
        setattr(InterpreterBuilder, name, lambda builder, source, target: cast_impl(builder, source, target))
    InterpreterBuilder.create_fp_to_fp = lambda builder, source, target, rounding: cast_impl(builder, source, target)
    InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot = cast_impl, create_dot


_repair()
triton.INTERPRETER_DECLINES.clear()
warnings.filterwarnings("ignore", category=RuntimeWarning, module="triton.runtime.interpreter")  # NaN and infinity on purpose
