"""The steps of one part of a fit: history, best weights, and what ends it."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.nn import load_state_dict
from fastkan.train.history import History
from fastkan.train.objective import Objective, inputs_watched

State = dict[str, Tensor]
LOOKS = 100  # how often a stage looks at the held-back rows


def state_of(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def restore(model: nn.Module, state: State) -> None:
    load_state_dict(model, state, resize=True)


class Stopped(Exception):
    """Ends a fit; the reason."""


class Loop:
    """Steps of a fit, one after another over all its stages."""

    def __init__(
        self,
        model: nn.Module,
        train: Objective,
        held: Objective | None,
        history: History,
        patience: int | None,
        seconds: float | None,
        callback: Callable[[History, nn.Module], Any] | None,
        bar: Any,
    ) -> None:
        self.model, self.train, self.held, self.history = model, train, held, history
        self.patience, self.seconds, self.callback, self.bar = patience, seconds, callback, bar
        self.began = time.perf_counter()
        self.good = state_of(model)  # the last one whose loss is known to be finite
        self.latest = self.good  # after the last look
        self.best: tuple[float, State] | None = None  # on held-back rows, in this stage
        self.waited = 0

    def new_stage(self) -> None:
        self.best, self.waited = None, 0

    @property
    def tired(self) -> bool:
        """True if the held-back error has not fallen for `patience` looks."""
        return self.patience is not None and self.waited >= self.patience

    def run(self, stepper: Any, steps: int, grid_size: int, between: Callable[[Any], None] | None = None) -> None:
        """At most `steps` steps. between: called with what a step returned, before the next."""
        every = 1 if steps < LOOKS else steps // LOOKS
        for k in range(steps):
            if (seen := stepper.step()) is not None and between is not None:
                between(seen)
            if not math.isfinite(stepper.value):
                self._refuse(stepper.value)
            self.good = self.latest  # as the step after it began with a finite loss
            last = k == steps - 1 or stepper.done
            if last or (k + 1) % every == 0:
                self._look(stepper.value, grid_size)
            self._ask()
            if stepper.done or self.tired:
                return

    def _look(self, loss: float, grid_size: int) -> None:
        train = self.train.scale * max(loss, 0.0) ** 0.5 if self.train.squares else loss
        val = None if self.held is None else self.held.score()
        if val is not None and not math.isfinite(val):
            self._refuse(val)
        seconds = time.perf_counter() - self.began
        row = {
            "step": len(self.history.rows),
            "grid_size": grid_size,
            "loss": loss,
            "train": train,
            "val": val,
            "seconds": seconds,
        }
        self.history.rows.append(row)
        self.latest = state_of(self.model)
        if val is not None:
            self.waited += 1
            if self.best is None or val < self.best[0]:
                self.best, self.waited = (val, self.latest), 0
        if self.bar is not None:
            self.bar.set_postfix(grid=grid_size, train=f"{train:.2e}", **({} if val is None else {"val": f"{val:.2e}"}))
            self.bar.update()

    def _ask(self) -> None:
        if self.seconds is not None and time.perf_counter() - self.began > self.seconds:
            raise Stopped("the seconds were over")
        if self.callback is not None and self.callback(self.history, self.model) is True:
            raise Stopped("the callback said so")

    def _refuse(self, value: float) -> None:
        """Restore the last finite state and say where the trouble began."""
        wrong = next((name for name, p in self.model.named_parameters() if not p.isfinite().all()), None)
        restore(self.model, self.good)
        with inputs_watched(self.model) as seen, torch.enable_grad():
            loss = self.train.loss()
            trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True, materialize_grads=True)
        steep = next((name for name, g in zip(trained, gradients, strict=True) if not g.isfinite().all()), None)
        names = {module: name for name, module in self.model.named_modules()}
        blind = [names[layer] for layer, inputs in seen.items() if not all(x.isfinite().all() for x in inputs)]
        if blind:
            culprit = f"layer {blind[0]} receives NaN or infinity"
        elif not loss.isfinite():
            culprit = "what every layer receives is finite, so it is the loss itself"
        elif wrong is not None:
            culprit = f"parameter {wrong} became NaN or infinite; a smaller lr may help"
        elif steep is not None:
            culprit = f"its gradient towards {steep} is not finite"
        else:
            culprit = "the weights grew too large; a smaller lr may help"
        raise FloatingPointError(
            f"step {len(self.history.rows)}: the loss became {value}; {culprit}. The model is as it was before"
        )
