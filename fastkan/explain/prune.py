"""Smaller models: edges, nodes and inputs that matter little go, and what is left is rebuilt without them."""

import math
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.explain.attribute import attribute
from fastkan.nn.edges import alive
from fastkan.nn.grid import normal_tensors, ranks
from fastkan.nn.kan import KAN
from fastkan.nn.shrink import shrunk
from fastkan.nn.stack import columns, double, rows, spread, stages

EDGES, NODES = 0.03, 0.01  # thresholds, as in pykan


class PruneReport(NamedTuple):
    """What went from a model.

    edges: how many there were, and how many are left
    nodes: one list for each layer of hidden nodes: the places of those that went, in the model before
    inputs: the columns of x that are not read any more
    change: of the outputs on the samples: its root mean square, relative to the outputs' standard deviation
    """

    edges: tuple[int, int]
    nodes: list[list[int]]
    inputs: list[int]
    change: float


# ---- what goes first


class _Order(NamedTuple):
    """scores of the units that may go, ascending, and the place [I, O] or [I, 1] of every edge's unit among them."""

    scores: Tensor
    places: list[Tensor]

    def first(self, count: int) -> list[Tensor]:
        """Which edges go with the first `count` units."""
        return [place < count for place in self.places]


def _order(model: KAN, x: Tensor, part: str) -> _Order:
    """Units are edges; or nodes or inputs, which are the edges out of them."""
    scores = attribute(model, x)
    units = []
    for k, ((layer, _), node, edge) in enumerate(zip(stages(model), scores.nodes[:-1], scores.edges, strict=True)):
        there = alive(layer)
        if part == "edges":
            units.append((edge, there))
        else:
            counts = part == ("nodes" if k else "inputs")
            units.append((node[:, None], there.any(1, keepdim=True) & counts))
    ordered, order = torch.cat([score[there] for score, there in units]).sort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    places = []
    for (_, there), part_places in zip(units, place.split([int(there.sum()) for _, there in units]), strict=True):
        places.append(torch.full_like(there, len(order), dtype=torch.long).masked_scatter(there, part_places))
    return _Order(ordered, places)


# ---- how much goes


class _Criterion(NamedTuple):
    name: str
    value: float


def _criterion(default: float, threshold: float | None, keep: int | None, allowed: float | None) -> _Criterion:
    given = {"threshold": threshold, "keep": keep, "allowed": allowed}
    found = [(name, value) for name, value in given.items() if value is not None]
    if len(found) > 1:
        raise ValueError(
            f"threshold, keep, allowed: expected at most one of them, received {', '.join(name for name, _ in found)}"
        )
    name, value = found[0] if found else ("threshold", default)
    if name == "keep":
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"keep: expected a whole number of at least 1, received {value!r}")
    elif isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, received {value!r}")
    return _Criterion(name, value)


class _Samples:
    """Samples, and the outputs that the model had on them."""

    def __init__(self, model: KAN, x: Tensor) -> None:
        if ranks() > 1:
            raise RuntimeError(
                f"prune: expected one process, received {ranks()}, whose samples would give different models; "
                "prune before torch.distributed runs, and give every rank the smaller model"
            )
        self.x = rows(model, x)
        self.y = double(model)(self.x)
        self.deviation = spread(self.y).square().mean().sqrt()
        if not self.deviation > 0:
            raise ValueError("x: expected samples on which the outputs differ, received none")

    def change(self, model: KAN) -> float:
        return float((double(model)(self.x) - self.y).square().mean().sqrt() / self.deviation)


class _Progress(NamedTuple):
    """A model on its way, and where its hidden nodes were at the start."""

    model: KAN
    hidden: list[list[int]]

    def without(self, gone: list[Tensor], samples: _Samples) -> "_Progress | None":
        made = shrunk(self.model, samples.x, gone)
        if made is None:
            return None
        return _Progress(made.model, [[old[n] for n in new] for old, new in zip(self.hidden, made.hidden, strict=True)])


def _within(progress: _Progress, samples: _Samples, part: str, allowed: float) -> _Progress:
    """As many units as the allowed change bears, found by bisection; then again by the scores of what is left."""
    while True:
        order = _order(progress.model, samples.x, part)
        low, high, best = 0, len(order.scores), None
        while high - low > 1:
            middle = (low + high) // 2
            trial = progress.without(order.first(middle), samples)
            if trial is None or samples.change(trial.model) > allowed:
                high = middle
            else:
                low, best = middle, trial
        if best is None:
            return progress
        progress = best


def _step(progress: _Progress, samples: _Samples, part: str, criterion: _Criterion) -> _Progress:
    name, value = criterion
    if name == "allowed":
        return _within(progress, samples, part, value)
    order = _order(progress.model, samples.x, part)
    total = len(order.scores)
    if name == "keep" and value > total:
        raise ValueError(f"keep: expected at most {total}, which is how many {part} there are, received {value}")
    count = int((order.scores <= value).sum()) if name == "threshold" else total - int(value)
    made = progress.without(order.first(count), samples)
    if made is None:
        raise ValueError(f"{name}: expected one that leaves a path from an input to an output, received {value}")
    return made


def _pruned(model: KAN, x: Tensor, steps: dict[str, _Criterion]) -> tuple[KAN, PruneReport]:
    samples = _Samples(model, x)
    hidden = [list(range(stage.nodes.out_features)) for stage in stages(model)[:-1]]
    nothing = [torch.zeros_like(alive(layer)) for layer in model.layers]
    progress = _Progress(model, hidden).without(nothing, samples)  # what has no effect goes in any case
    if progress is None:
        raise ValueError("model: expected a path from an input to an output, received none")
    for part, criterion in steps.items():
        progress = _step(progress, samples, part, criterion)
    before, after = (sum(int(alive(layer).sum()) for layer in m.layers) for m in (model, progress.model))
    went = [sorted(set(nodes) - set(left)) for nodes, left in zip(hidden, progress.hidden, strict=True)]
    inputs = sorted(set(columns(model)) - set(columns(progress.model)))
    return progress.model, PruneReport((before, after), went, inputs, samples.change(progress.model))


# ---- what users call


@normal_tensors
def prune_edges(
    model: KAN, x: Tensor, threshold: float | None = None, keep: int | None = None, allowed: float | None = None
) -> tuple[KAN, PruneReport]:
    """A smaller copy of a KAN without the edges that matter least on samples x [..., I].

    threshold: edges whose backward score (see `attribute`) is at most that go; 0.03 where nothing else is asked for
    keep: at most so many edges stay; those that would lead nowhere go too
    allowed: as many go as change the outputs on x by at most that: root mean square, relative to their standard deviation
    returns: the smaller model and what went. The means of edges that go move into biases; nodes and inputs without edges go too.
        The model takes the same x as before. Dtype, device, training mode and requires_grad stay; make a new optimizer.
    raises: TypeError for a model that is no KAN; ValueError for two of the three criteria, for one that would leave a constant,
        and for samples without rows, with NaN or infinity, or on which the outputs do not differ

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, 5, 1], seed=0)
    >>> smaller, report = fastkan.explain.prune_edges(net, torch.rand(100, 2), keep=6)
    >>> report.edges
    (15, 5)
    """
    return _pruned(model, x, {"edges": _criterion(EDGES, threshold, keep, allowed)})


@normal_tensors
def prune_nodes(
    model: KAN, x: Tensor, threshold: float | None = None, keep: int | None = None, allowed: float | None = None
) -> tuple[KAN, PruneReport]:
    """A smaller copy of a KAN without the hidden nodes, sums and products, that matter least on samples x [..., I].

    threshold, keep, allowed: as prune_edges', for hidden nodes; threshold is 0.01 where nothing else is asked for
    returns: the smaller model and what went, as prune_edges
    raises: as prune_edges

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, (3, 2), 1], seed=0)
    >>> smaller, report = fastkan.explain.prune_nodes(net, torch.rand(100, 2), keep=2)
    >>> sum(len(nodes) for nodes in report.nodes)
    3
    """
    return _pruned(model, x, {"nodes": _criterion(NODES, threshold, keep, allowed)})


@normal_tensors
def prune_inputs(
    model: KAN, x: Tensor, threshold: float | None = None, keep: int | None = None, allowed: float | None = None
) -> tuple[KAN, PruneReport]:
    """A smaller copy of a KAN that does not read the inputs that matter least on samples x [..., I].

    threshold, keep, allowed: as prune_edges', for inputs; threshold is 0.01 where nothing else is asked for
    returns: the smaller model and what went, as prune_edges; it takes the same x, and picks its columns
    raises: as prune_edges

    >>> import torch, fastkan
    >>> net = fastkan.KAN([4, 3, 1], seed=0)
    >>> smaller, report = fastkan.explain.prune_inputs(net, torch.rand(100, 4), keep=3)
    >>> smaller.widths[0], len(report.inputs), smaller(torch.rand(5, 4)).shape
    (3, 1, torch.Size([5, 1]))
    """
    return _pruned(model, x, {"inputs": _criterion(NODES, threshold, keep, allowed)})


@normal_tensors
def prune(model: KAN, x: Tensor, threshold: float | None = None, allowed: float | None = None) -> tuple[KAN, PruneReport]:
    """A smaller copy of a KAN without the hidden nodes, and then without the edges, that matter least on samples x [..., I].

    threshold: for both; where nothing is asked for it is 0.01 for nodes and 0.03 for edges, as in pykan
    allowed: of the change of the outputs, for both together
    returns: the smaller model and what went, as prune_edges
    raises: as prune_edges

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, 5, 1], seed=0)
    >>> smaller, report = fastkan.prune(net, torch.rand(100, 2), allowed=0.2)
    >>> report.change <= 0.2
    True
    """
    steps = {"nodes": _criterion(NODES, threshold, None, allowed), "edges": _criterion(EDGES, threshold, None, allowed)}
    return _pruned(model, x, steps)
