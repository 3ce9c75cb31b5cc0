"""fastkan: KAN (Kolmogorov-Arnold network) layers as fused kernels for PyTorch."""

import torch  # noqa: F401  first: the compiled core then shares torch's OpenMP runtime instead of starting a second one

from fastkan import functional, grid, info, nn, ops, reference
from fastkan.backends import backend
from fastkan.nn import KAN, KANLinear, ReplaceReport, replace_linear

__version__ = "0.1.0"
__all__ = [
    "KAN",
    "KANLinear",
    "ReplaceReport",
    "backend",
    "functional",
    "grid",
    "info",
    "nn",
    "ops",
    "reference",
    "replace_linear",
]
