"""float32 arrays and the bits of 16-bit numbers."""

import numpy as np


def float16_bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).astype(np.float16).view(np.uint16).astype(np.uint32)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """To nearest even; NaN is 0x7fff."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(np.uint32)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded)


def float16_values(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint16).view(np.float16).astype(np.float32)


def bfloat16_values(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def tf32_values(bits: np.ndarray) -> np.ndarray:
    """Tensor cores do not see the low 13 bits."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


BITS = {"f16": float16_bits, "bf16": bfloat16_bits}
VALUES = {"f16": float16_values, "bf16": bfloat16_values, "tf32": tf32_values}


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """To the 16-bit type and back, in float64."""
    return VALUES[kind](BITS[kind](np.asarray(values, np.float32))).astype(np.float64)
