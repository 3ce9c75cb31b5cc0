"""Is a grid uniform, and the tables of kernels/uniform.py for it; asked once per grid, not once per call."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

CHUNK = 8  # as in kernels/uniform.py
UNIFORM = 1e-5  # largest distance of a knot from its uniform place, in intervals: a tenth of float16's rounding of a slot
FAR = 2**10  # grid offset over interval up to which u = (x - t_0) / h keeps 12 bits behind the point in float32


@dataclass(frozen=True)
class UniformGrid:
    """Tables for kernels/uniform.py: grid [4, I] and offset [slots, I], float32, on the knots' device."""

    grid: Tensor
    offset: Tensor


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def uniform_grid(knots: Tensor) -> UniformGrid | None:
    """The tables of cubic knots [I, K], or None where the grid is not uniform or lies too far from 0.

    The answer is kept with the tensor until it is written to (its version counter tells), because asking makes the host wait
    for the GPU. While a CUDA graph is captured nothing may wait: an unknown grid is then taken for a general one.
    """
    known = _known.get(knots)
    if known is not None and known[0] == knots._version:
        return known[1]
    if knots.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    answer = _tables(knots)
    _known[knots] = (knots._version, answer)
    return answer


def _tables(knots: Tensor) -> UniformGrid | None:
    wide = knots.double()
    intervals = knots.shape[1] - 1
    first, h = wide[:, :1], (wide[:, -1:] - wide[:, :1]) / intervals
    places = first + h * torch.arange(intervals + 1, device=knots.device)
    irregular = ((wide - places).abs() > UNIFORM * h).any() | (wide.abs() > FAR * h).any() | (h <= 0).any()
    if bool(irregular):
        return None
    slots = -(-(knots.shape[1] - 4) // CHUNK) * CHUNK
    half = torch.arange(slots, device=knots.device, dtype=torch.float64)[:, None] / 2
    grid = torch.cat((0.5 / h, torch.ones_like(h), 1 / h, 1 / h**2), dim=1).T
    return UniformGrid(grid.float().contiguous(), (-1 - 0.5 * first.T / h.T - half).float())
