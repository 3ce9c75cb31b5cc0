"""Is a grid uniform? Asked once per grid, not once per call."""

import torch
from torch import Tensor

UNIFORM = 1e-5  # largest distance of a knot from its uniform place, in intervals: a tenth of float16's rounding of a slot
FAR = 2**10  # grid offset over interval up to which u = (x - t_0) / h keeps 12 bits behind the point in float32


def spacing(knots: Tensor) -> tuple[Tensor, Tensor] | None:
    """First knot and interval width [I, 1] of knots [I, K], in float64, or None where a grid is not uniform or far from 0.

    Makes the host wait for the GPU.
    """
    wide = knots.double()
    intervals = knots.shape[1] - 1
    first, h = wide[:, :1], (wide[:, -1:] - wide[:, :1]) / intervals
    places = first + h * torch.arange(intervals + 1, device=knots.device)
    irregular = ((wide - places).abs() > UNIFORM * h).any() | (wide.abs() > FAR * h).any() | (h <= 0).any()
    return None if bool(irregular) else (first, h)
