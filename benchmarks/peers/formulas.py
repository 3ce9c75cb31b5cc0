"""The cubic expansion on a uniform grid as pointwise formulas in PyTorch: what one unfused kernel computes."""

import torch
from torch import Tensor


def cardinal(c: Tensor, nu: int) -> Tensor:
    """The cubic B-spline centred on 0 with knots at -2 .. 2, or its first derivative."""
    outer, inner = (2 - c.abs()).clamp(min=0), (1 - c.abs()).clamp(min=0)
    if nu == 0:
        return (outer**3 - 4 * inner**3) / 6
    return c.sign() * (2 * inner**2 - outer**2 / 2)


def silu(x: Tensor, nu: int) -> Tensor:
    s = torch.sigmoid(x)
    return x * s if nu == 0 else s * (1 + x * (1 - s))


def slots(x: Tensor, start: float, spacing: float, splines: int, nu: int) -> Tensor:
    """f_m^(nu)(x) [B, I, M] in float32; `start` is the first extended knot."""
    x = x.float()
    centre = torch.arange(splines, device=x.device) + 2
    values = cardinal(((x - start) / spacing)[..., None] - centre, nu) / spacing**nu
    return torch.cat((values, silu(x, nu)[..., None]), -1)
