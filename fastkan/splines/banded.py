"""Symmetric banded systems, solved block by block: n splines cost n and not n^3, and all inputs go together."""

import torch
from torch import Tensor

BLOCK = 64  # unknowns in a block; a grid of fewer splines is one block


class Banded:
    """LU factors of symmetric positive definite matrices [I, n, n], given as band [I, n, b + 1] with b < BLOCK.

    band[:, s, d] stands in row s and column s + d; what lies outside of the matrix is not read.
    """

    def __init__(self, band: Tensor) -> None:
        self.band = band
        self.edges = list(range(0, band.shape[1], BLOCK))
        self.factors: list[tuple[Tensor, Tensor]] = []
        self.below: list[Tensor] = []  # the blocks under the diagonal
        self.above: list[Tensor] = []  # those over it, solved
        for k in self.edges:
            diagonal = self._block(k, k)
            if k:
                beside = self._block(k - BLOCK, k)
                self.below.append(beside.mT)
                self.above.append(torch.linalg.lu_solve(*self.factors[-1], beside))
                diagonal = diagonal - self.below[-1] @ self.above[-1]
            self.factors.append(torch.linalg.lu_factor(diagonal))

    def _block(self, row: int, column: int) -> Tensor:
        """The block of the matrices that begins there, [I, at most BLOCK, at most BLOCK]."""
        end, width = self.band.shape[1], self.band.shape[2]
        a, b = (torch.arange(k, min(k + BLOCK, end), device=self.band.device) for k in (row, column))
        apart = (a[:, None] - b).abs()
        entries = self.band[:, torch.minimum(a[:, None], b), apart.clamp(max=width - 1)]
        return torch.where(apart < width, entries, 0.0)

    def solve(self, right: Tensor) -> Tensor:
        """matrix^-1 right, [I, n, O]."""
        parts: list[Tensor] = []
        for j, (k, factors) in enumerate(zip(self.edges, self.factors, strict=True)):
            part = right[:, k : k + BLOCK]
            if j:
                part = part - self.below[j - 1] @ parts[-1]
            parts.append(torch.linalg.lu_solve(*factors, part))
        for j in range(len(parts) - 2, -1, -1):
            parts[j] = parts[j] - self.above[j] @ parts[j + 1]
        return torch.cat(parts, dim=1)
