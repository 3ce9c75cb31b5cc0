"""sparsify: from a model with too many edges to one with those that the data ask for.

Levenberg-Marquardt with a reweighted group penalty on the standard deviations of edges, then backward elimination with refits.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.nn import KAN
from fastkan.nn.edges import alive, edge_deviations, edge_values, present, slot_moments
from fastkan.nn.grid import normal_tensors, plan_cover, take
from fastkan.nn.jacobian import RowJacobian
from fastkan.nn.shrink import shrunk
from fastkan.nn.stack import stages, walk
from fastkan.train import checks
from fastkan.train.lm import LevenbergMarquardt
from fastkan.train.objective import OfData, inputs_watched
from fastkan.train.stages import MARGIN, USED, USED_WITHIN

SMOOTH = 1e-9
LAMBS, ROUNDS = (1e-2, 3e-3), 6  # the penalty, in standard deviations of y, and how often it is reweighted
LEAST = 1e-3  # a deviation, in those of y, below which the penalty is quadratic
NOTHING = 1e-2  # an edge whose effect is so small goes at once
TRIED = 3  # edges of the least effect that are tried before one goes
GOOD = 1.2  # an edge goes untried by others if the error rises by no more than this factor
WORST = 0.7  # of y's deviation: the elimination ends
FACTOR = 3.0  # what an edge must gain: so much in the error
FINER = (2, 4)  # multiples of the grid size at which candidates are compared, so that knots do not stand in for edges
MANY = 12  # edges up to which a candidate is refined
HELD = 4  # one row in four is held back


class Candidate(NamedTuple):
    """A model with so many edges, and its root mean squared error on held-back rows, in standard deviations of y."""

    edges: int
    error: float
    model: KAN


def count(model: KAN) -> int:
    return sum(int(alive(stage.layer).sum()) for stage in stages(model))


class _Rows(NamedTuple):
    x: Tensor
    y: Tensor
    scale: float

    def objective(self, model: KAN) -> OfData:
        return OfData(model, self.x, self.y, scale=self.scale)


@normal_tensors
def _cover(model: KAN, x: Tensor, used: float, multiple: int = 1) -> None:
    with inputs_watched(model) as seen:
        model(x)
    for layer, inputs in seen.items():
        plan = plan_cover(layer, torch.cat(inputs).double(), multiple * layer.grid_size, MARGIN, used)
        if plan is not None:
            take(layer, plan)


def _refit(model: KAN, rows: _Rows, steps: int, mu: float, extra: Tensor | None = None, smooth: float = SMOOTH) -> None:
    stepper = LevenbergMarquardt(rows.objective(model), smooth, 2**28, mu, extra)
    for _ in range(steps):
        if stepper.done:
            return
        stepper.step()
        if extra is None:  # which is of the grid as it is
            _cover(model, rows.x, USED_WITHIN)


def _penalty(model: KAN, rows: _Rows, lamb: float) -> Tensor:
    """lamb times the sum of the edges' deviations, as a quadratic form [P, P] that touches it at the present weights."""
    jacobian = RowJacobian(model, rows.objective(model).residuals)
    inputs = {stage.layer: x for stage, x in walk(model, rows.x)}
    last, blocks = stages(model)[-1].layer, []
    with torch.no_grad():
        for layer, name in jacobian.parameters:
            if name == "bias":
                blocks.append(layer.weight.new_zeros(layer.out_features, layer.out_features))
                continue
            moments = slot_moments(layer, inputs[layer])
            unit = rows.scale if layer is last else 1.0
            heavy = 1 / (edge_deviations(layer, inputs[layer], moments) / unit + LEAST) / unit**2
            for covariance, own in zip(moments.covariance, heavy, strict=True):
                blocks.append(torch.einsum("mn,op->monp", covariance, own.diag()).reshape(len(covariance) * len(own), -1))
    return torch.block_diag(*blocks)[jacobian.columns][:, jacobian.columns] * (lamb / 2)


def _effects(model: KAN, rows: _Rows) -> list[Tensor]:
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


def _without(model: KAN, x: Tensor, gone: Sequence[Tensor]) -> KAN | None:
    made = shrunk(model, x, gone)
    return None if made is None else made.model


def _eliminated(model: KAN, rows: _Rows, held: OfData) -> list[Candidate]:
    """One edge after another goes, the one whose absence a refit mends best. From all edges to the last that y needs."""
    path = [Candidate(count(model), _error(model, held), model)]
    while path[-1].edges > 1:
        model = path[-1].model
        effects = _effects(model, rows)
        places = [
            (effects[k][i, o].item(), k, i, o) for k, s in enumerate(stages(model)) for i, o in alive(s.layer).nonzero().tolist()
        ]
        best: Candidate | None = None
        for _, k, i, o in sorted(places)[:TRIED]:
            gone = [torch.zeros_like(effect, dtype=torch.bool) for effect in effects]
            gone[k][i, o] = True
            trial = _without(model, rows.x, gone)
            if trial is None:
                continue
            _cover(trial, rows.x, USED)
            _refit(trial, rows, 15, 1e-3)
            error = _error(trial, held)
            if best is None or error < best.error:
                best = Candidate(count(trial), error, trial)
            if error < GOOD * path[-1].error:
                break
        if best is None or best.error > WORST:
            return path
        path.append(best)
    return path


def _error(model: KAN, held: OfData) -> float:
    own = OfData(model, held.x, held.y, scale=held.scale)
    return own.score() / held.scale


def _refined(candidate: Candidate, rows: _Rows, held: OfData) -> float:
    """The error on finer grids, while it falls by a fifth."""
    best, smooth, model = candidate.error, SMOOTH, candidate.model
    for multiple in FINER:
        model = copy.deepcopy(model)
        _cover(model, rows.x, USED, multiple if multiple == FINER[0] else multiple // FINER[0])
        smooth /= 10
        _refit(model, rows, 15, 1e-3, smooth=smooth)
        error = _error(model, held)
        if error > 0.8 * best:
            break
        best = error
    return best


def sparsify(model: KAN, x: Tensor, y: Tensor, *, starts: int = 3, seed: int = 0) -> tuple[KAN, list[Candidate]]:
    """A smaller model with the edges that the data ask for, fitted to x, y.

    An edge is kept if the error on held-back rows is at least three times as large without it.

    model: a KAN in float64 without formulas. It stays as it is; the first start is from its weights.
    x, y: rows [B, I] and targets [B, O]
    starts: how many starts; the best end is taken. With product nodes all but the first are of these alone, with the identity as
        activation.
    returns: the model, and how the error rose as edges went: what was compared, fewest edges first
    raises: TypeError, ValueError naming the argument

    >>> import torch, fastkan
    >>> x = torch.rand(400, 2, dtype=torch.float64) * 2 - 1
    >>> y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    >>> small, candidates = fastkan.sparsify(fastkan.KAN([2, 3, 1], dtype=torch.float64, seed=0), x, y)
    >>> small.widths
    [2, 1, 1]
    """
    checks.check_model(model)
    stages(model)
    checks.check_whole("starts", starts, 1)
    checks.check_rows("x", x, model)
    checks.check_targets("y", x, y, model, "mse")
    if next(model.parameters()).dtype != torch.float64:
        raise ValueError("model: expected one in float64, received another dtype; use model.double()")
    if len(x) < 2 * HELD:
        raise ValueError(f"x: expected at least {2 * HELD} rows, received {len(x)}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    scale, cut = float(y.std()) or 1.0, len(x) // HELD
    rows = _Rows(x[order[cut:]], y[order[cut:]], scale)
    held = OfData(model, x[order[:cut]], y[order[:cut]], scale=scale)
    pool: list[Candidate] = []
    for k in range(starts):
        start = copy.deepcopy(model)
        if k:
            _products_only(start)
            start.reset_parameters(1000 * seed + k)
        pool += _eliminated(_penalised(start, rows), rows, held)
    found = _compared(pool, rows, held)
    best = min(candidate.error for candidate in found)
    most = next(candidate.edges for candidate in found if candidate.error == best)
    chosen = next(c for c in found if c.error <= best * FACTOR ** max(0, most - c.edges))
    final = copy.deepcopy(chosen.model)
    _refit(final, _Rows(x, y, scale), 15, 1e-4)
    return final, found


def _penalised(model: KAN, rows: _Rows) -> KAN:
    """The model after the penalty, without the edges that it has put out."""
    _cover(model, rows.x, USED)
    _refit(model, rows, 25, 1e-2)
    for lamb in LAMBS:
        for _ in range(ROUNDS):
            _refit(model, rows, 4, 1e-3, _penalty(model, rows, lamb))
            _cover(model, rows.x, USED_WITHIN)
    without = _without(model, rows.x, [effect < NOTHING for effect in _effects(model, rows)])
    model = model if without is None else without
    _cover(model, rows.x, USED)
    _refit(model, rows, 25, 1e-2)
    return model


def _products_only(model: KAN) -> None:
    """In a model with product nodes, take the edges into sums beside them away, and make the activation the identity.

    Sums of squares imitate a product, and are easier to find; with SiLU in the factors, too (no x y in 3 of 3 seeds).
    """
    found = stages(model)
    if not any(stage.nodes.arities for stage in found):
        return
    for layer, nodes in found:
        layer.activation = "identity"
        if nodes.arities:
            mask = present(layer)
            mask[:, : nodes.sums] = False
            layer.set_mask(mask)


def _compared(pool: Sequence[Candidate], rows: _Rows, held: OfData) -> list[Candidate]:
    """The best candidate of every number of edges, at its error on finer grids, fewest edges first."""
    best: dict[int, Candidate] = {}
    for candidate in pool:
        if candidate.edges not in best or candidate.error < best[candidate.edges].error:
            best[candidate.edges] = candidate
    found = []
    for edges in sorted(best):
        candidate = best[edges]
        error = _refined(candidate, rows, held) if edges <= MANY or edges == min(best) else candidate.error
        found.append(candidate._replace(error=error))
    return found
