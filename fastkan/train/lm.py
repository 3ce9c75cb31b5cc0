"""Levenberg-Marquardt for KAN layers: exact Jacobian in blocks of rows, and a penalty on differences of coefficients.

Damping by Nielsen's rule (Madsen, Nielsen, Tingleff, Methods for Non-Linear Least Squares Problems, 2004).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.nn.jacobian import Columns, RowJacobian
from fastkan.train.objective import Objective, inputs_watched

ATTEMPTS = 12  # how often the damping rises, four times each, before a step counts as failed
LARGE = 1e8  # damping that no step needs
LADDER = [10.0**-k for k in range(2, 17)]  # of smoothness
FOLDS = 4
MANY = 800  # columns, from which a Cholesky decomposition is dear
PANEL = 96  # columns of J^T J at once: its lower half in 0.54 of the time of the whole at 1,026 columns, with 256 in 0.68
CACHED = 2**19  # numbers of the Jacobian at once, which stay in a core's cache
TINY = 1e-15  # damping that never goes away, so that a column of zeros does no harm
FINE = 10  # cells of a grid, from which differences are sixth ones
SLOW = (1e-4, 6)  # six steps that each gain less than a 1e-4th end a fit


class Normal:
    """J^T J / n, J^T r / n and r^T r / n of residuals, added over blocks of rows."""

    def __init__(self, jacobian: RowJacobian, memory: int) -> None:
        size = jacobian.size
        like = jacobian.terms[0].values
        self.matrix, self.gradient, self.value = like.new_zeros(size, size), like.new_zeros(size), 0.0
        for term in jacobian.terms:
            n = term.values.numel()
            self.value += term.values.square().sum().item() / n
            for block, r in jacobian.blocks(term, block_rows(size, term.values.shape[1], memory)):
                for start in range(0, size, PANEL):  # the lower half
                    here = block[:, start : start + PANEL]
                    self.matrix[start:, start : start + PANEL].addmm_(block[:, start:].T, here, alpha=1 / n)
                self.gradient.addmv_(block.T, r, alpha=1 / n)

        self.matrix.tril_()
        self.matrix += self.matrix.tril(-1).T

    @classmethod
    def mean(cls, parts: Sequence["Normal"]) -> "Normal":
        mean = cls.__new__(cls)
        mean.matrix = torch.stack([part.matrix for part in parts]).mean(0)
        mean.gradient = torch.stack([part.gradient for part in parts]).mean(0)
        mean.value = sum(part.value for part in parts) / len(parts)
        return mean


def block_rows(size: int, outputs: int, memory: int) -> int:
    """How many rows of the Jacobian are made at once: 8 bytes a number, the block and what it is made of."""
    return max(1, min(CACHED, memory // 24) // (size * outputs))


def roughness(jacobian: RowJacobian, last: float) -> Tensor:
    """Matrix [P, P] of the squared differences of every spline's coefficients; times `last` for the last layer.

    Differences, not derivatives: a cell's size does not matter, so one smoothness serves every grid. They carry a spline over
    cells without samples: sixth ones as a polynomial of degree 5 (the worst test error of ten fits on 100 cells was 6.3e-8, with
    fourth ones 4.2e-7, with third ones 2.8e-5). On fewer than FINE cells too little would be left to differ.
    """
    blocks = []
    for layer, name in jacobian.parameters:
        parameter = layer.get_parameter(name)
        if name != "weight":
            blocks.append(parameter.new_zeros(parameter.numel(), parameter.numel()))
            continue
        inputs, slots, outputs = parameter.shape
        order = 6 if layer.grid_size >= FINE else 4
        d = parameter.new_zeros(max(slots - 1 - order, 0), slots)
        d[:, :-1] = torch.eye(slots - 1).diff(n=order, dim=0)
        factor = last if layer is jacobian.layers[-1] else 1.0
        one = torch.kron(factor * d.T @ d, torch.eye(outputs, dtype=d.dtype, device=d.device))
        blocks += [one] * inputs
    return torch.block_diag(*blocks)[jacobian.there][:, jacobian.there]


def units(jacobian: RowJacobian, scale: float) -> Tensor:
    """The unit of every column [P]: the last layer's weights have that of y. Damping is the same in all of them.

    Of a formula c f(a x + b) + d it is c and d alone that are in units of y. a is in those of 1 / x, whose size the grid tells:
    for x in thousands 2 sin(3 x + 0.5) - 1 took 18 steps without it, and takes 9 with it.
    """
    sizes = []
    for layer, name in jacobian.parameters:
        size, own = torch.ones_like(layer.get_parameter(name)), scale if layer is jacobian.layers[-1] else 1.0
        if layer.symbolic is not None and name == "symbolic.affine":
            size[:, 0] /= layer.knots.abs().amax(1)[layer.symbolic.inputs]
            size[:, 2:] *= own
        else:
            size *= own
        sizes.append(size.flatten())
    return torch.cat(sizes)[jacobian.there]


class LevenbergMarquardt:
    """One step a call of `step`.

    smooth: weight of the roughness. extra: a matrix [P, P] whose quadratic form is added to the loss.
    slow: (share, count): it is done after so many steps that each gain less than this share of the loss
    """

    def __init__(
        self, objective: Objective, smooth: float, memory: int, mu: float = 1e-2, extra: Tensor | None = None,
        slow: tuple[float, int] = SLOW,
    ) -> None:  # fmt: skip
        self.objective, self.smooth, self.memory, self.mu, self.extra = objective, smooth, memory, mu, extra
        self.least, self.patience = slow
        self.value = math.inf
        self.rough: Tensor | None = None  # of the model's shape alone, as the columns are
        self.columns: Columns | None = None
        self.slow, self.done = 0, False

    def step(self) -> dict[Any, list[Tensor]]:
        """One step that lowers the loss, or `done`. Returns what the layers received before it."""
        with inputs_watched(self.objective.model) as seen:
            jacobian = self.objective.jacobian(self.columns)
        self.columns = jacobian.columns
        normal, w = Normal(jacobian, self.memory), jacobian.weights()
        if self.rough is None:
            self.rough = self.smooth * roughness(jacobian, self.objective.scale**-2)
            if self.extra is not None:
                self.rough += self.extra
        rough = self.rough
        self.value = normal.value + (w @ (rough @ w)).item()
        unit = units(jacobian, self.objective.scale)
        matrix = normal.matrix.add_(rough).mul_(unit[:, None]).mul_(unit)  # in place: a matrix less at its largest
        gradient = (normal.gradient + rough @ w) * unit
        scale, failed = matrix.diagonal().mean(), 0
        while failed < ATTEMPTS and self.mu < LARGE:
            failed += 1
            shifted = matrix.clone()
            shifted.diagonal().add_((self.mu + TINY) * scale)
            factor, info = torch.linalg.cholesky_ex(shifted)
            if not info:
                d = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                new = self._loss(jacobian, w - unit * d, rough)
                if new < self.value:
                    self._take(new, (2 * gradient @ d - d @ (matrix @ d)).item())
                    return seen
                if not math.isfinite(new):  # out of a formula's domain, which says nothing of far shorter steps
                    failed -= 1
            self.mu *= 4
        if not (math.isfinite(self._loss(jacobian, w, rough)) and gradient.isfinite().all()):
            self.value = math.nan
        self.done = True
        return seen

    def _loss(self, jacobian: RowJacobian, w: Tensor, rough: Tensor) -> float:
        jacobian.set_weights(w)
        return self.objective.value() + (w @ (rough @ w)).item()

    def _take(self, new: float, promised: float) -> None:
        ratio = (self.value - new) / max(promised, 1e-300)
        self.mu = max(self.mu * max(0.1, 1 - (2 * ratio - 1) ** 3), 1e-16)
        self.slow = self.slow + 1 if self.value - new < self.least * self.value else 0
        self.value = new
        self.done = self.slow >= self.patience


def choose_smooth(objective: Objective, held: Objective | None, near: float, memory: int) -> float:
    """The smoothness whose linearised fit is the best on rows that it does not see.

    Those are every fourth of the residuals' rows in turn, and the held ones: with the latter alone one far row decides (the
    worst training error of twenty fits was 3e-7, with all of them 2.5e-8).
    near: a guess; with 800 columns or more only what is within a factor of 1,000 of it is tried, on the held rows alone.
    """
    jacobian = objective.jacobian()
    rough, w = roughness(jacobian, objective.scale**-2), jacobian.weights()
    if held is not None and jacobian.size >= MANY:
        pairs = [(Normal(jacobian, memory), Normal(held.jacobian(), memory))]
    else:
        parts = [Normal(jacobian.every(FOLDS, k), memory) for k in range(FOLDS)]
        if held is not None:
            parts.append(Normal(held.jacobian(), memory))
        pairs = [(Normal.mean([part for part in parts if part is not away]), away) for away in parts]
    ladder = [smooth for smooth in LADDER if jacobian.size < MANY or 1e-3 < smooth / near < 1e3]
    scores = [sum(_error(used, away, smooth, rough, w) for used, away in pairs) / len(pairs) for smooth in ladder]
    return ladder[min(range(len(ladder)), key=scores.__getitem__)]


def _error(used: Normal, away: Normal, smooth: float, rough: Tensor, w: Tensor) -> float:
    """Mean squared residual on the rows `away` after one Gauss-Newton step for the rows `used`."""
    matrix = torch.add(used.matrix, rough, alpha=smooth)
    matrix.diagonal().add_(1e-14 * used.matrix.diagonal().mean())
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info:
        return math.inf
    d = torch.cholesky_solve((used.gradient + smooth * (rough @ w))[:, None], factor)[:, 0]
    return max(away.value - (2 * d @ away.gradient - d @ (away.matrix @ d)).item(), 0.0)
