"""Steppers: what one step of a fit does, one class a family of optimizers. Each has step() -> None, `value`, the loss before
the step, and `done`."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fastkan.train.objective import Objective

Penalty = Callable[[nn.Module], Tensor]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def batches(rows: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Indices of batches without end: every row once an epoch, in a new order."""
    while True:
        yield from torch.randperm(rows, generator=generator).to(device).split(size)


class TorchSteps:
    """Steps of a torch.optim.Optimizer, on all rows or on batches."""

    def __init__(
        self, objective: Objective, optimizer: torch.optim.Optimizer, penalty: Penalty | None, order: Iterator[Tensor] | None
    ) -> None:
        self.objective, self.optimizer, self.penalty, self.order = objective, optimizer, penalty, order
        self.value, self.done = math.inf, False
        self.taken = 0  # batches

    def skip(self, batches: int) -> None:
        """Go on after so many batches."""
        for _ in range(batches):
            self._next()

    def _next(self) -> Tensor | None:
        self.taken += 1
        return None if self.order is None else next(self.order)

    def step(self) -> None:
        index = self._next()

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.objective.loss(index)
            if self.penalty is not None:
                loss = loss + self.penalty(self.objective.model)
            loss.backward()
            return loss

        with torch.enable_grad():
            loss: Any = self.optimizer.step(closure)  # type: ignore[arg-type]
        self.value = loss.item()


def lbfgs(model: nn.Module, lr: float | None) -> torch.optim.LBFGS:
    """20 iterations a step. The tolerances of torch end a fit at an error of 1e-5, and a history of 10 is 100 times worse."""
    return torch.optim.LBFGS(
        trainable(model), lr=1.0 if lr is None else lr, max_iter=20, history_size=100, line_search_fn="strong_wolfe",
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip


class SelfScaledBFGS:
    """BFGS whose inverse Hessian [P, P] is scaled before each update (Al-Baali, 1998), with a strong Wolfe line search.

    For residuals of differential equations, in float64: it gets further than L-BFGS there.
    """

    def __init__(self, objective: Objective, penalty: Penalty | None) -> None:
        try:
            from scipy.optimize import line_search
        except ImportError as error:
            raise ImportError("optimizer 'ssbroyden' needs scipy: pip install 'fastkan[train]'") from error
        self.line_search = line_search
        self.objective, self.penalty = objective, penalty
        self.parameters = trainable(objective.model)
        self.w = parameters_to_vector(self.parameters).detach()
        self.value, self.gradient = self._evaluate(self.w)
        self.inverse: Tensor | None = None  # a multiple of 1 before the first step
        self.before: float | None = None
        self.done = False

    def _evaluate(self, w: Tensor) -> tuple[float, Tensor]:
        with torch.no_grad():
            vector_to_parameters(w, self.parameters)
        with torch.enable_grad():
            loss = self.objective.loss()
            if self.penalty is not None:
                loss = loss + self.penalty(self.objective.model)
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return loss.item(), parameters_to_vector(gradients)

    def step(self) -> None:
        seen: dict[bytes, tuple[float, Any]] = {}

        def both(w: Any) -> tuple[float, Any]:
            key = w.tobytes()
            if key not in seen:
                value, gradient = self._evaluate(torch.from_numpy(w.copy()).to(self.w))
                seen[key] = value, gradient.double().cpu().numpy()
            return seen[key]

        direction = -self.gradient if self.inverse is None else -(self.inverse @ self.gradient)
        if not direction @ self.gradient < 0:
            self.inverse, direction = None, -self.gradient
        w, d, g = (t.double().cpu().numpy() for t in (self.w, direction, self.gradient))
        length, *_ = self.line_search(
            lambda u: both(u)[0], lambda u: both(u)[1], w, d, g, self.value, self.before, c1=1e-4, c2=0.9, maxiter=15
        )
        if length is None:
            self.done = self.inverse is None
            self.inverse = None
            self._evaluate(self.w)
            return
        new = self.w + length * direction
        value, gradient = self._evaluate(new)
        self._update(new - self.w, gradient - self.gradient, length)
        self.before, self.w, self.value, self.gradient = self.value, new, value, gradient

    def _update(self, s: Tensor, y: Tensor, length: float) -> None:
        sy = (s @ y).item()
        if not sy > 0:
            return
        if self.inverse is None:
            self.inverse = torch.eye(len(s), dtype=s.dtype, device=s.device) * (sy / (y @ y).item())
        hy = self.inverse @ y
        h = (y @ hy).item()
        tau = min(1.0, sy / max(-length * (s @ self.gradient).item(), 1e-300))
        v = s / sy - hy / h
        self.inverse = (self.inverse - torch.outer(hy, hy) / h + h * torch.outer(v, v)) / tau + torch.outer(s, s) / sy


def make_stepper(
    objective: Objective,
    kind: str | torch.optim.Optimizer,
    lr: float | None,
    batch_size: int | None,
    seed: int,
    penalty: Penalty | None,
) -> "TorchSteps | SelfScaledBFGS":
    """The steps of an optimizer by name (lm has its own file), or of the user's own."""
    if kind == "ssbroyden":
        return SelfScaledBFGS(objective, penalty)
    if kind == "lbfgs":
        optimizer: torch.optim.Optimizer = lbfgs(objective.model, lr)
    elif kind == "adamw":
        parameters = trainable(objective.model)
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters) or None  # 41 us for two layers, else 104
        optimizer = torch.optim.AdamW(parameters, lr=1e-2 if lr is None else lr, weight_decay=0.0, fused=fused)
    else:
        optimizer = kind  # type: ignore[assignment]
    order = None
    if batch_size is not None and objective.rows is not None:
        device = trainable(objective.model)[0].device
        order = batches(objective.rows, batch_size, torch.Generator().manual_seed(seed), device)
    return TorchSteps(objective, optimizer, penalty, order)
