"""The tables of kernels/uniform.py for a uniform grid; made once per grid, not once per call."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.backends.cache import VersionedCache, capturing
from fastkan.kernels.uniform import CHUNK
from fastkan.splines.uniform import spacing


class UniformGrid(NamedTuple):
    """grid [4, I] and offset [slots, I], float32, on the knots' device."""

    grid: Tensor
    offset: Tensor


_tables = VersionedCache()


def uniform_grid(knots: Tensor) -> UniformGrid | None:
    """The tables of cubic knots [I, K], or None where the grid is not uniform or lies too far from 0.

    Asking makes the host wait for the GPU, so the answer is kept until the knots are written to. While a CUDA graph is captured
    nothing may wait: an unknown grid then counts as one that is not uniform.
    """
    if capturing(knots):
        return _tables.known(knots, None)
    return _tables.get(knots, None, _make)


def _make(knots: Tensor) -> UniformGrid | None:
    found = spacing(knots)
    if found is None:
        return None
    first, h = found
    slots = -(-(knots.shape[1] - 4) // CHUNK.value) * CHUNK.value
    half = torch.arange(slots, device=knots.device, dtype=torch.float64)[:, None] / 2
    grid = torch.cat((0.5 / h, torch.ones_like(h), 1 / h, 1 / h**2), dim=1).T
    return UniformGrid(grid.float().contiguous(), (-1 - 0.5 * first.T / h.T - half).float())
