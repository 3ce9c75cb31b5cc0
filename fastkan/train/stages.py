"""The course of a fit: starts, a stage for each grid size, the choice among them. What it needs to go on is in a checkpoint."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn import KANLinear
from fastkan.nn.grid import normal_tensors, plan_cover, plan_refine, take
from fastkan.nn.jacobian import RowJacobian
from fastkan.train.checkpoint import Checkpoint, pack, unpack
from fastkan.train.choice import Done, gets_worse, smallest_good
from fastkan.train.grids import carried_state, warn_outside
from fastkan.train.history import History
from fastkan.train.lm import FOLDS, MANY, LevenbergMarquardt, choose_smooth
from fastkan.train.loop import Loop, Stopped, restore, state_of
from fastkan.train.objective import Objective, OfData, OfResidual, inputs_watched
from fastkan.train.optimizers import Penalty, TorchSteps, make_stepper
from fastkan.train.starts import best_of, restart, trains_splines

STEPS = {"lm": 50, "lbfgs": 20, "ssbroyden": 500}
OTHER_STEPS = 1000
STARTS, STARTS_OF_MANY = 8, 2  # of lm; the latter from 800 weights on: a step takes long, and wide models seldom stick
MARGIN = 0.02  # of a grid past the samples, as a share of their range
USED = 0.97  # a grid of which less is needed is laid anew at a stage; 0.6 within one, so that it does not follow every step
USED_WITHIN = 0.6
SMOOTH = 1e-8  # of the first stage; the choice on held-back rows follows it
BARELY = 1e-15  # smoothness for residuals, which have no held-back rows
CHUNKS = 20  # parts of a stage of another optimizer than lm; grids follow the samples between them
START = 1e-2  # damping of lm
NEAR = 1e-8  # damping of steps that start near the end
ROWS_OF_A_WEIGHT = 3  # residuals for each weight in the first steps, which need not be exact
REFIT = 15  # steps of lm on all rows, after the choice of a grid size


class Plan(NamedTuple):
    """The checked arguments of fit."""

    optimizer: Any
    lr: float | None
    steps: int | None
    batch_size: int | None
    grids: list[int] | None
    update_grid: bool
    starts: int | None
    seed: int
    penalty: Penalty | None
    memory: int
    refit_all: bool


class Stages:
    """One fit. Its parts are run one after another; between them stands all that a checkpoint keeps."""

    def __init__(
        self, model: nn.Module, train: Objective, held: OfData | None, plan: Plan, checkpoint: Checkpoint | None, limits: tuple
    ) -> None:
        self.model, self.train, self.held, self.plan, self.checkpoint = model, train, held, plan, checkpoint
        self.layers = [module for module in model.modules() if isinstance(module, KANLinear)]
        self.history = History()
        self.loop = Loop(model, train, held, self.history, *limits)
        self.grids = plan.grids or [self.layers[0].grid_size]
        self.resize = plan.grids is not None
        self.stage, self.part = -1, 0  # stage -1: the starts
        self.smooth = SMOOTH if isinstance(train, OfData) else BARELY
        self.done: list[Done] = []
        self.stepper: Any = None
        self.name = plan.optimizer if isinstance(plan.optimizer, str) else ""

    def run(self) -> History:
        self._resume()
        if self.name == "lm" and isinstance(self.train, OfResidual):
            RowJacobian(self.model, self.train.residuals).check(self.train.residuals)
        try:
            while self.stage < len(self.grids):
                if self.stage < 0:
                    self._start()
                    ended = True
                else:
                    ended = self._advance()
                self.part += 1
                if ended:
                    self.stage, self.part = self.stage + 1, 0
                self._keep()
            self.history.stopped = self.history.stopped or "done"
        except Stopped as reason:
            self.history.stopped = str(reason)
        except KeyboardInterrupt:
            self.history.stopped = "interrupted"
        self._finish()
        return self.history

    # ---- grids

    def _inputs(self) -> dict[KANLinear, list[Tensor]]:
        with inputs_watched(self.model) as seen:
            self.train.loss()
        return seen

    @normal_tensors
    def _cover(self, seen: dict[KANLinear, list[Tensor]], size: int | None, used: float) -> None:
        """Lay grids over what the layers received."""
        plans = []
        for layer, inputs in seen.items():
            samples = torch.cat(inputs).double() if inputs else layer.knots.new_zeros(0, layer.in_features)
            if self.plan.update_grid and len(samples) and samples.isfinite().all():
                plans.append((layer, plan_cover(layer, samples, size or layer.grid_size, MARGIN, used)))
            elif size not in (None, layer.grid_size):
                plans.append((layer, plan_refine(layer, size)))
        optimizer = getattr(self.stepper, "optimizer", None)
        changed = [(layer, plan) for layer, plan in plans if plan is not None]
        states = []
        if optimizer is not None and changed:
            if isinstance(optimizer, torch.optim.LBFGS):
                optimizer.state.clear()  # its history is of another function
            else:
                states = [(layer, carried_state(optimizer, layer, plan)) for layer, plan in changed]
        for layer, plan in changed:
            take(layer, plan)
        for layer, state in states:
            if state:
                optimizer.state[layer.weight] = state  # type: ignore[union-attr]

    def _follow(self, seen: Any) -> None:
        if self.plan.update_grid:
            self._cover(seen, None, USED_WITHIN)

    # ---- starts

    def _start(self) -> None:
        self._cover(self._inputs(), self.grids[0] if self.resize else None, USED)
        count = self.plan.starts or self._usual_starts()
        if count == 1 or not trains_splines(self.model):
            return
        states = [state_of(self.model)]
        for k in range(1, count):
            restore(self.model, states[0])
            restart(self.model, 1000 * self.plan.seed + k)
            self._cover(self._inputs(), None, USED)
            if self.train.loss().isfinite():  # a formula may not be defined for what these splines give it
                states.append(state_of(self.model))
        steps = 10 if self.name == "lm" else max(1, self._steps() // 20)

        def advance(state: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
            restore(self.model, state)
            self.stepper = self._make(SMOOTH * 10 if self.name == "lm" else 0.0, few=True)
            self.loop.run(self.stepper, steps, self.grids[0], self._follow)
            return self.train.loss().item(), state_of(self.model)

        restore(self.model, best_of(states, advance))
        self.stepper = None

    def _usual_starts(self) -> int:
        if self.name != "lm":
            return 1
        return STARTS if self._weights() < MANY else STARTS_OF_MANY

    def _weights(self) -> int:
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    # ---- stages

    def _steps(self) -> int:
        return self.plan.steps or STEPS.get(self.name, OTHER_STEPS)

    def _make(self, smooth: float, mu: float = START, few: bool = False) -> Any:
        if self.name == "lm":
            train = self.train.few(ROWS_OF_A_WEIGHT * self._weights()) if few else self.train
            return LevenbergMarquardt(train, smooth, self.plan.memory, mu)
        return make_stepper(
            self.train, self.plan.optimizer, self.plan.lr, self.plan.batch_size, self.plan.seed, self.plan.penalty
        )

    def _advance(self) -> bool:
        """One part of a stage; True if it was the last."""
        size = self.grids[self.stage]
        if self.part == 0:
            self.loop.new_stage()
            self._cover(self._inputs(), size if self.resize else None, USED)
            self.smooth = self.smooth / 10 if self.stage and self.name == "lm" else self.smooth
        if self.name == "lm":
            ended = self._lm_part(size)
        else:
            self.stepper = self.stepper if self._lives_on() else self._make(0.0)
            chunk = max(1, self._steps() // CHUNKS)
            left = self._steps() - self.part * chunk
            self.loop.run(self.stepper, min(chunk, left), size)
            ended = left <= chunk or self.stepper.done or self.loop.tired
            if not ended:
                self._cover(self._inputs(), None, USED_WITHIN)
        return self._leave(size) if ended else False

    def _lives_on(self) -> bool:
        """True if the stepper's state is still one of this model: a first-order optimizer's moments follow a change of grid."""
        return isinstance(self.stepper, TorchSteps) and (self.name != "lbfgs" or self.part > 0)

    def _lm_part(self, size: int) -> bool:
        """Steps on some of the rows, then twice: choose the smoothness of splines, steps on all."""
        chooses = isinstance(self.train, OfData) and (self.train.rows or 0) >= 2 * FOLDS and trains_splines(self.model)
        if self.part == 0:
            self.stepper = self._make(self.smooth, few=chooses)
            self.loop.run(self.stepper, self._steps() // 2 if chooses else self._steps(), size, self._follow)
            return not chooses
        self.stepper = None  # which holds matrices
        chosen = choose_smooth(self.train, self.held, self.smooth, self.plan.memory)
        near = 0.05 < chosen / self.smooth < 20
        self.smooth = chosen
        self.stepper = self._make(chosen, mu=NEAR)
        self.loop.run(self.stepper, max(1, self._steps() // 4), size, self._follow)
        return near or self.part == 2

    def _leave(self, size: int) -> bool:
        """End a stage with the best weights that it saw. True; the fit goes on with the next grid size, or past the last."""
        if self.loop.best is not None and self.name != "lm":
            restore(self.model, self.loop.best[1])
        errors = self.held.squared_errors() if isinstance(self.held, OfData) and self.held.squares else None
        val = None if self.held is None else self.held.score()
        self.history.grids[size] = (self.train.score(), val)
        self.done.append(Done(size, self.smooth, state_of(self.model), val, errors))
        if gets_worse(self.done):
            self.stage = len(self.grids) - 1
            self.history.stopped = "finer grids made the error on held-back rows no smaller"
        return True

    # ---- the choice

    def _finish(self) -> None:
        chosen = smallest_good(self.done, ended=self.history.stopped == "done")
        if chosen is None:
            restore(self.model, self.loop.latest if self.loop.best is None else self.loop.best[1])
        else:
            restore(self.model, chosen.state)
            if self.plan.refit_all and self.name == "lm" and isinstance(self.train, OfData):
                self._refit(chosen)
        self.history.grid_size = self.layers[0].grid_size
        warn_outside(self.model, self._inputs())

    def _refit(self, chosen: Done) -> None:
        """Some steps on all rows, those held back too: they are no longer needed."""
        train, held = self.train, self.held
        whole = train.joined(held)  # type: ignore[attr-defined]
        stepper = LevenbergMarquardt(whole, chosen.smooth, self.plan.memory, mu=NEAR)
        for _ in range(REFIT):
            if stepper.done:
                break
            self._follow(stepper.step())
        self.history.grids[chosen.grid_size] = (whole.score(), self.history.grids[chosen.grid_size][1])

    # ---- checkpoints

    def _keep(self) -> None:
        if self.checkpoint is None:
            return
        tensors: dict[str, Tensor] = {}
        optimizer = getattr(self.stepper, "optimizer", None)
        rest = {
            "stage": self.stage,
            "part": self.part,
            "smooth": self.smooth,
            "history": [self.history.rows, list(self.history.grids.items()), self.history.stopped],
            "model": pack("model", state_of(self.model), tensors),
            "best": pack("best", self.loop.best, tensors),
            "waited": self.loop.waited,
            "done": pack("done", [tuple(done) for done in self.done], tensors),
            "optimizer": pack("optimizer", None if optimizer is None else optimizer.state_dict(), tensors),
            "batches": getattr(self.stepper, "taken", 0),
            "fit": self._fingerprint(),
        }
        self.checkpoint.save(tensors, rest)

    def _fingerprint(self) -> str:
        """What must be the same for a checkpoint to be gone on from."""
        plan = self.plan
        name = self.name or type(plan.optimizer).__name__
        rows = [self.train.rows, None if self.held is None else self.held.rows]
        return (
            f"{name} {plan.lr} {self._steps()} {plan.batch_size} {self.grids} {plan.update_grid} {plan.starts} {plan.seed} {rows}"
        )

    def _resume(self) -> None:
        found = None if self.checkpoint is None else self.checkpoint.load()
        if found is None:
            return
        tensors, rest = found
        if rest["fit"] != self._fingerprint():
            raise ValueError(f"checkpoint: expected one of this fit ({self._fingerprint()}), received one of {rest['fit']}")
        restore(self.model, unpack(rest["model"], tensors))
        self.stage, self.part, self.smooth = rest["stage"], rest["part"], rest["smooth"]
        self.history.rows[:], grids, self.history.stopped = rest["history"]
        self.history.grids.update({size: tuple(pair) for size, pair in grids})
        best = unpack(rest["best"], tensors)
        self.loop.best, self.loop.waited = None if best is None else (best[0], best[1]), rest["waited"]
        self.loop.good = self.loop.latest = state_of(self.model)
        self.done = [Done(*entry) for entry in unpack(rest["done"], tensors)]
        state = unpack(rest["optimizer"], tensors)
        if state is not None:
            self.stepper = self._make(0.0)
            self.stepper.optimizer.load_state_dict(state)
            self.stepper.skip(rest["batches"])
