"""How float32 layers multiply on tensor cores; read at every call.

TF32 itself is torch's setting: `torch.backends.cuda.matmul.fp32_precision = "tf32"`.
"""

import torch

float16_for_tf32 = False
"""Where TF32 is allowed, let large layers multiply in float16 with a power-of-two scale instead: 11 bits either way, at twice the
rate. The difference: entries below 2^-24 of the largest in a weight or gradient count as 0, where TF32 keeps them."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 computes in float64, everything else in float32 (design section 4)."""
    return torch.float64 if dtype == torch.float64 else torch.float32
