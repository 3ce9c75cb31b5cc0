"""float32 operands as float16 with a power-of-two scale: the mantissa of TF32 at twice its rate (fastkan/precision.py)."""

import torch
from torch import Tensor

from fastkan import precision


def wanted(values: Tensor) -> bool:
    return precision.float16_for_tf32 and values.dtype == torch.float32


def halved(values: Tensor) -> tuple[Tensor, Tensor]:
    """(float16 values, scale) with values = halves * scale and no half above 1; the host never waits for the maximum."""
    largest = torch.linalg.vector_norm(values, ord=torch.inf)
    exponent = torch.frexp(largest).exponent
    scale = torch.where(largest.isfinite() & (largest > 0), torch.ldexp(torch.ones_like(largest), exponent), 1.0)
    return (values / scale).half(), scale


def restored(answer: Tensor, *scales: Tensor) -> Tensor:
    for scale in scales:
        answer.mul_(scale)
    return answer
