"""From a pruned KAN to formulas: names for all edges in one batch, and combinations of names, the likeliest first."""

import heapq
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.formulas.fits import fits
from fastkan.formulas.named import Named, edges_of
from fastkan.formulas.polish import polished
from fastkan.nn import FUNCTIONS, KAN
from fastkan.nn.edges import edge_values
from fastkan.nn.stack import stages, walk

# Not tried unless asked for: each imitates another that is simpler (cos a sine, cosh an exponential), or has no slope.
UNUSUAL = frozenset({"0", "abs", "sign", "cos", "acos", "cosh", "sinh", "asinh", "x**5", "1/x**3", "1/x**4", "1/x**5"})
TRIES, KEPT = 10, 4  # combinations of a model; names of an edge
ENOUGH = 1e-11  # of y's deviation: an error that ends the search
FEW, BEST = 250, 3  # rows that all combinations are fitted to; how many of them are then fitted to all rows
NOISY, FIRST, SAME = 1e-3, 3, 1.02  # an error of splines that may be noise: after three tries one like it ends the search too
GOOD = 0.02  # of y's deviation: an error that is worth more steps


class Formula(NamedTuple):
    """A named model, its numbers and its root mean squared error on the rows that it was fitted to."""

    named: Named
    p: Tensor
    error: float


def cost_of(name: str, r2: float, d: float, size: float, noise: float) -> float:
    """Decades of what is left of an edge's variance, half its complexity and a quarter for each number.

    A large offset means that two limits cancel: a function imitates a polynomial or an exponential.
    """
    cancels = math.log10(max(1.0, abs(d) / size / 10)) if size > 0 else 0.0
    f = FUNCTIONS[name]
    numbers = (not f.scaling) + (not f.shifting)
    return math.log10(max(1 - r2, 0) + noise**2 + 1e-13) + 0.5 * f.complexity + 0.25 * numbers + 2 * cancels


@torch.no_grad()
def formulas_of(model: KAN, x: Tensor, y: Tensor, noise: float, names: list[str], tries: int = TRIES) -> list[Formula]:
    """Formulas of the model's structure for x [B, I], y [B] of unit deviation, the one with the least error first.

    noise: the error that splines reach
    """
    where, rigid = edges_of(model)
    last = len(stages(model)) - 1
    open_edges = [e for e, (k, _, _) in enumerate(where) if not (rigid and k == last)]
    t, values = _edge_samples(model, x, [where[e] for e in open_edges])
    found = fits(t, values, names)
    sizes = values.std(1, correction=0).tolist()
    ranked = []
    for place in range(len(open_edges)):
        costs = []
        for f, name in enumerate(found.names):
            r2 = found.r2[f, place].item()
            if r2 >= 0:
                costs.append((cost_of(name, r2, found.affine[f, place, 3].item(), sizes[place], noise), f))
        ranked.append(sorted(costs)[:KEPT])
    if not all(ranked):
        return []
    made: list[Formula] = []
    few = x[:: max(1, len(x) // FEW)], y[:: max(1, len(x) // FEW)]
    for combination in _combinations(ranked, tries):
        chosen = ["x"] * len(where)
        for place, e in enumerate(open_edges):
            chosen[e] = found.names[ranked[place][combination[place]][1]]
        named = Named(model, chosen)
        p = _start(named, open_edges, [found.affine[ranked[k][c][1], k] for k, c in enumerate(combination)])
        made.append(_fitted(named, *few, p))
        if made[-1].error < (ENOUGH if noise < NOISY or len(made) < FIRST else SAME * noise):
            break
    made = sorted((f for f in made if math.isfinite(f.error)), key=lambda f: f.error)
    return sorted((_on_all(f, x, y, steps=15 if k < BEST else 0) for k, f in enumerate(made)), key=lambda f: f.error)


def _edge_samples(model: KAN, x: Tensor, where: list[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
    inputs, values = [], []
    for k, (stage, seen) in enumerate(walk(model, x)):
        of = edge_values(stage.layer, seen)
        inputs += [seen[:, i] for layer, i, _ in where if layer == k]
        values += [of[:, i, o] for layer, i, o in where if layer == k]
    return torch.stack(inputs), torch.stack(values)


def _combinations(ranked: list[list[tuple[float, int]]], tries: int) -> list[tuple[int, ...]]:
    """Places in `ranked`, one an edge: the combinations of the least regret."""
    first = (0,) * len(ranked)
    heap, seen = [(0.0, first)], {first}
    found: list[tuple[int, ...]] = []
    while heap and len(found) < tries:
        _, now = heapq.heappop(heap)
        found.append(now)
        for e in range(len(ranked)):
            more = (*now[:e], now[e] + 1, *now[e + 1 :])
            if more[e] < len(ranked[e]) and more not in seen:
                seen.add(more)
                heapq.heappush(heap, (sum(row[c][0] - row[0][0] for row, c in zip(ranked, more, strict=True)), more))
    return found


def _start(named: Named, open_edges: list[int], affine: list[Tensor]) -> Tensor:
    """The numbers of the fits of single edges; their d go into the offsets."""
    p = torch.zeros(named.size, dtype=torch.float64)
    p[: named.at[0]].view(-1, 3)[:, [0, 2]] = 1.0
    for k, stage in enumerate(named.stages):
        if stage.layer.bias is not None:
            p[named.at[k] : named.at[k + 1]] = stage.layer.bias.detach()
    for e, numbers in zip(open_edges, affine, strict=True):
        k, _, o = named.where[e]
        p[3 * e : 3 * e + 3] = numbers[:3]
        p[named.offset(k, o)] += numbers[3]
    return p


def _fitted(named: Named, x: Tensor, y: Tensor, p: Tensor) -> Formula:
    """First amplitudes and offsets, which are right whatever the gauge; then all that is free."""
    free = named.free()
    amplitudes = free.clone()
    amplitudes[2 : named.at[0] : 3] = True
    amplitudes[named.at[0] :] = True
    for e in named.of_layer[-1] if named.rigid else ():
        amplitudes[3 * e + 2] = False
    p, error = polished(named, x, y, p, amplitudes, 20)
    if math.isfinite(error):
        p, error = polished(named, x, y, named.fixed(p), free, 60 if error < GOOD else 15)
    return Formula(named, p, error)


def _on_all(formula: Formula, x: Tensor, y: Tensor, steps: int) -> Formula:
    named, p, error = formula
    if steps:
        p, error = polished(named, x, y, p, named.free(), steps)
    else:
        error = float((named(x, p) - y).square().mean().sqrt())
    return Formula(named, p, error if math.isfinite(error) else math.inf)
