"""The dtypes that fastkan computes in (docs/design.md, section 4)."""

import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DTYPE_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in DTYPES}  # as the native module knows them


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 computes in float64, everything else in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
