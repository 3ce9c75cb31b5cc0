"""Small KANs that fit the data, of several recipes: what formulas are made of."""

import copy
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastkan.nn import KAN
from fastkan.nn.edges import alive
from fastkan.nn.stack import stages
from fastkan.train.elimination import SMOOTH, Candidate, Rows, count, cover, eliminated, penalised, refit
from fastkan.train.stages import USED

GRIDS = (2, 4)  # multiples of the grid size at which candidates are compared
FALLS = 0.8  # an error that does not fall to this on a finer grid ends it
BESIDE = 1.25  # an error so many times another's counts as no better
REACH, TINY = 100.0, 1e-6  # candidates so far from the best are dropped


def _sum_of_nodes(model: KAN) -> KAN:
    """The last layer is the sum of its inputs, and is not trained."""
    last = model.layers[-1]
    last.set_symbolic({(i, 0): ("x", (1.0, 0.0, 1.0, 0.0)) for i in range(last.in_features)})
    last.requires_grad_(False)
    return model


def _made(widths: list, activation: str, seed: int, arity: int = 2) -> KAN:
    return KAN(widths, activation=activation, arity=arity, seed=seed, dtype=torch.float64)


# Each from the number of inputs and a seed. One node of each kind, products of up to three factors, is what one formula needs:
# more of them imitate each other.
RECIPES: dict[str, Callable[[int, int], KAN]] = {
    "products": lambda n, seed: _sum_of_nodes(_made([n, (1, 2), 1], "identity", seed, 3)),
    "layers": lambda n, seed: _made([n, 5, 1], "silu", seed),
    "outer": lambda n, seed: _made([n, (2, 2), 1], "identity", seed),
    "deep": lambda n, seed: _made([n, 3, 2, 1], "silu", seed),
}
# Starts of recipes, one round after another: the second where no formula is exact, later ones where none stands. A start of
# products takes a second and finds x y z in half of the cases.
ROUNDS = [
    [("products", 0), ("products", 1), ("layers", 0)],
    [("outer", 0), ("layers", 1), ("products", 2)],
    [("outer", 1), ("products", 3)],
    [("deep", 0), ("deep", 1)],
]


class Found(NamedTuple):
    """A candidate, its error on finer grids, and the recipe that it is from."""

    edges: int
    error: float
    model: KAN
    recipe: str


def shape_of(model: KAN) -> tuple:
    """What is equal for models with the same edges between the same nodes."""
    found = []
    for stage in stages(model):
        outputs = sorted(tuple(column.tolist()) for column in alive(stage.layer).T)
        found.append((stage.nodes.sums, tuple(sorted(stage.nodes.arities)), tuple(outputs)))
    return tuple(found)


def refined(candidate: Candidate, rows: Rows, held: Rows) -> Candidate:
    """On finer grids while the error falls by a fifth."""
    best, smooth, before = candidate, SMOOTH, 1
    for multiple in GRIDS:
        model = copy.deepcopy(best.model)
        cover(model, rows.x, USED, multiple // before)
        before, smooth = multiple, smooth / 10
        refit(model, rows, 15, 1e-3, smooth)
        error = held.error(model)
        if error > FALLS * best.error:
            break
        best = Candidate(candidate.edges, error, model)
    return best


def candidates(rows: Rows, held: Rows, starts: list[tuple[str, int]], seed: int, until: float) -> list[Found]:
    """Refined candidates of these starts, fewest edges first, without those that others beat with fewer. The clock is looked at
    between starts.
    """
    pool: dict[tuple, tuple[str, Candidate]] = {}
    for recipe, start in starts:
        if pool and time.monotonic() > until:
            break
        model = RECIPES[recipe](rows.x.shape[1], 1000 * seed + start)
        for candidate in eliminated(penalised(model, rows), rows, held):
            key = (recipe, shape_of(candidate.model))
            if key not in pool or candidate.error < pool[key][1].error:
                pool[key] = (recipe, candidate)
    coarse = min(candidate.error for _, candidate in pool.values())
    found = []
    for recipe, candidate in pool.values():
        if candidate.error < max(REACH * coarse, TINY):
            better = refined(candidate, rows, held)
            found.append(Found(count(better.model), better.error, better.model, recipe))
    found.sort(key=lambda one: one[:2])
    kept: list[Found] = []
    for one in found:
        if not any(other.error <= BESIDE * one.error and other.recipe == one.recipe for other in kept):
            kept.append(one)
    best = min(one.error for one in kept)
    return [one for one in kept if one.error < max(REACH * best, TINY)]
