"""Backward elimination: one edge after another goes, each time the one whose absence a refit mends best."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.nn import KAN, KANLinear
from fastkan.nn.edges import alive, edge_deviations, edge_values, slot_moments
from fastkan.nn.grid import normal_tensors, plan_cover, take
from fastkan.nn.jacobian import active, parameters_of
from fastkan.nn.shrink import shrunk
from fastkan.nn.stack import stages, walk
from fastkan.train.lm import LevenbergMarquardt
from fastkan.train.objective import OfData, inputs_watched
from fastkan.train.stages import MARGIN, USED, USED_WITHIN

SMOOTH = 1e-9
SLOW = (1e-2, 3)  # three steps that each gain less than a hundredth end a refit: edges are told apart by factors of 3
STRAIGHT = 1.0  # weight of the squared second differences of edges that are held straight
LAMBS, ROUNDS = (1e-2, 3e-3), 6  # the penalty, in standard deviations of y, and how often it is reweighted
LEAST = 1e-3  # a deviation, in those of y, below which the penalty is quadratic
NOTHING = 1e-2  # an edge whose effect is so small goes at once
TRIED = 3  # edges of the least effect that are tried before one goes
GOOD = 1.2  # an edge goes untried by others if the error rises by no more than this factor
WORST = 0.7  # of y's deviation: the elimination ends
REACH, TINY = 100.0, 1e-5  # and where the error is so many times the lowest that was met, or that of rounding in its place


class Candidate(NamedTuple):
    """A model with so many edges, and its root mean squared error on held-back rows, in standard deviations of y."""

    edges: int
    error: float
    model: KAN


class Rows(NamedTuple):
    """What is fitted. straight: the places of the layers whose edges are held to straight lines."""

    x: Tensor
    y: Tensor
    scale: float
    straight: Sequence[int] = ()

    def objective(self, model: KAN) -> OfData:
        return OfData(model, self.x, self.y, scale=self.scale)

    def error(self, model: KAN) -> float:
        return self.objective(model).score() / self.scale


def count(model: KAN) -> int:
    return sum(int(alive(stage.layer).sum()) for stage in stages(model))


# ---- refits


@normal_tensors
def _follow(seen: dict[KANLinear, list[Tensor]], used: float, multiple: int = 1) -> None:
    for layer, inputs in seen.items():
        plan = plan_cover(layer, torch.cat(inputs).double(), multiple * layer.grid_size, MARGIN, used)
        if plan is not None:
            take(layer, plan)


def cover(model: KAN, x: Tensor, used: float, multiple: int = 1) -> None:
    """Lay grids of `multiple` times as many cells over what the layers receive."""
    with inputs_watched(model) as seen, torch.no_grad():
        model(x)
    _follow(seen, used, multiple)


def refit(model: KAN, rows: Rows, steps: int, mu: float, smooth: float = SMOOTH, lamb: float = 0.0) -> None:
    """Steps of Levenberg-Marquardt, with the penalty where lamb is not 0."""
    extra = _straightness(model, rows) if rows.straight else None
    if lamb:
        penalty = _penalty(model, rows, lamb)
        extra = penalty if extra is None else extra + penalty
    stepper = LevenbergMarquardt(rows.objective(model), smooth, 2**28, mu, extra, SLOW)
    for _ in range(steps):
        if stepper.done:
            return
        seen = stepper.step()
        if not lamb:  # the penalty is one of the grid as it is
            _follow(seen, USED_WITHIN)


# ---- quadratic forms [P, P] of the Jacobian's columns


def _form(model: KAN, of_weight: Callable[[KANLinear], Sequence[Tensor]]) -> Tensor:
    """The form of blocks, one for each input of a layer's weight; 0 for what is no weight."""
    blocks: list[Tensor] = []
    parameters = parameters_of(model)
    for layer, name in parameters:
        size = layer.get_parameter(name).numel()
        blocks += of_weight(layer) if name == "weight" else [layer.weight.new_zeros(size, size)]
    columns = torch.cat([active(layer, name) for layer, name in parameters])
    return torch.block_diag(*blocks)[columns][:, columns]


@torch.no_grad()
def _straightness(model: KAN, rows: Rows) -> Tensor:
    """The squared second differences of the coefficients of straight layers."""
    layers = [stage.layer for stage in stages(model)]
    straight = [layers[k] for k in rows.straight]

    def of_weight(layer: KANLinear) -> Sequence[Tensor]:
        inputs, slots, outputs = layer.weight.shape
        if layer not in straight:
            return [layer.weight.new_zeros(slots * outputs, slots * outputs)] * inputs
        eye = torch.eye(slots - 1, dtype=layer.weight.dtype, device=layer.weight.device)
        d = torch.nn.functional.pad(eye.diff(n=2, dim=0), (0, 1))
        factor = STRAIGHT / (rows.scale**2 if layer is layers[-1] else 1)
        return [factor * torch.kron(d.T @ d, torch.eye(outputs, dtype=d.dtype, device=d.device))] * inputs

    return _form(model, of_weight)


@torch.no_grad()
def _penalty(model: KAN, rows: Rows, lamb: float) -> Tensor:
    """lamb times the sum of the edges' deviations; it touches that at the present weights."""
    inputs = {stage.layer: x for stage, x in walk(model, rows.x)}
    last = stages(model)[-1].layer

    def of_weight(layer: KANLinear) -> Sequence[Tensor]:
        moments = slot_moments(layer, inputs[layer])
        unit = rows.scale if layer is last else 1.0
        heavy = 1 / (edge_deviations(layer, inputs[layer], moments) / unit + LEAST) / unit**2
        return [lamb / 2 * torch.kron(one, own.diag()) for one, own in zip(moments.covariance, heavy, strict=True)]

    return _form(model, of_weight)


# ---- edges that go


def _effects(model: KAN, rows: Rows) -> list[Tensor]:
    """Each edge's [I, O] share in y: the root mean square of its deviation from its mean times dy / d(its sum), over y's."""
    traced = list(walk(model, rows.x))
    sums: list[Tensor] = []
    x = traced[0][1]
    with torch.enable_grad():
        for stage, _ in traced:
            sums.append(stage.layer(x).detach().requires_grad_() if not sums else stage.layer(x))
            x = stage.nodes(sums[-1])
        slopes = [torch.autograd.grad(column.sum(), sums, retain_graph=True) for column in x.unbind(1)]
    found = []
    for k, (stage, inputs) in enumerate(traced):
        values = edge_values(stage.layer, inputs).detach()
        squares = (values - values.mean(0)).square()
        slope = torch.stack([one[k].square() for one in slopes]).sum(0)
        effect = (squares * slope[:, None]).mean(0).sqrt() / rows.scale
        found.append(torch.where(alive(stage.layer), effect, 0))
    return found


def _without(model: KAN, rows: Rows, gone: Sequence[Tensor]) -> KAN | None:
    """A smaller copy; None if it would be a constant."""
    made = shrunk(model, rows.x, gone)
    return None if made is None else made.model


def penalised(model: KAN, rows: Rows) -> KAN:
    """The model after the penalty, without the edges that it has put out."""
    cover(model, rows.x, USED)
    refit(model, rows, 25, 1e-2)
    for lamb in LAMBS:
        for _ in range(ROUNDS):
            refit(model, rows, 4, 1e-3, lamb=lamb)
            cover(model, rows.x, USED_WITHIN)
    smaller = _without(model, rows, [effect < NOTHING for effect in _effects(model, rows)])
    model = model if smaller is None else smaller
    cover(model, rows.x, USED)
    refit(model, rows, 25, 1e-2)
    return model


def eliminated(model: KAN, rows: Rows, held: Rows) -> list[Candidate]:
    """From all edges to the last that y needs."""
    path = [Candidate(count(model), held.error(model), model)]
    while path[-1].edges > 1:
        best = _with_one_less(path[-1], rows, held)
        lowest = min(candidate.error for candidate in path)
        if best is None or best.error > min(WORST, REACH * max(lowest, TINY)):
            return path
        path.append(best)
    return path


def _with_one_less(candidate: Candidate, rows: Rows, held: Rows) -> Candidate | None:
    """Without one of the edges of the least effects; None where each leaves a constant."""
    effects = _effects(candidate.model, rows)
    places = [
        (effects[k][place].item(), k, place) for k in range(len(effects)) for place in map(tuple, effects[k].nonzero().tolist())
    ]
    best: Candidate | None = None
    for _, k, place in sorted(places)[:TRIED]:
        gone = [torch.zeros_like(effect, dtype=torch.bool) for effect in effects]
        gone[k][place] = True
        trial = _without(candidate.model, rows, gone)
        if trial is None:
            continue
        cover(trial, rows.x, USED)
        refit(trial, rows, 15, 1e-3)
        error = held.error(trial)
        if best is None or error < best.error:
            best = Candidate(count(trial), error, trial)
        if error < GOOD * candidate.error:
            break
    return best
