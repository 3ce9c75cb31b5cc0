"""sparsify: from a model with too many edges to one with those that the data ask for.

From several starts, and in a model with product nodes by two recipes: Levenberg-Marquardt with a reweighted group penalty on the
standard deviations of edges, then backward elimination with refits. What all of them met is compared.
"""

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastkan.nn import KAN
from fastkan.nn.edges import alive, present
from fastkan.nn.stack import stages
from fastkan.train import checks
from fastkan.train.elimination import SMOOTH, Candidate, Rows, cover, eliminated, penalised, refit
from fastkan.train.stages import USED

FACTOR, POLISH, SMALL = 3.0, 6.0, 1e-2  # what an edge must gain: so much in the error; more where that is small without it
STANDS_OUT, LARGE = 0.2, 0.03  # so small a part of the error with fewer edges, which is larger than this
SURE = 1e-3  # such an error with the fewest edges that are possible ends the search before all recipes have had their turn
FINER = (2, 4)  # multiples of the grid size at which candidates are compared, so that knots do not stand in for edges
CLEAN, ROUNDING = 0.1, 1e-9  # an error that falls so far on them, or to this, is one of the grid: no more edges are needed
MANY = 12  # edges up to which a candidate is refined
HELD = 4  # one row in four is held back


def sparsify(model: KAN, x: Tensor, y: Tensor, *, starts: int = 3, seed: int = 0) -> tuple[KAN, list[Candidate]]:
    """A smaller model with the edges that the data ask for, fitted to x, y.

    An edge is kept if the error on held-back rows is at least three times as large without it, and six times where it is below a
    hundredth of y's standard deviation.

    model: a KAN in float64 without formulas. It stays as it is; the first start is from its weights.
    x, y: rows [B, I] and targets [B, O]
    starts: how many starts at most; it ends sooner where edges stand out. A model with product nodes starts twice each time: with
        its products, few of the sums beside them, and the identity as activation; and with its sums alone.
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
    if any(stage.layer.symbolic is not None for stage in stages(model)):
        raise ValueError("model: expected splines alone, received formulas beside them")
    checks.check_whole("starts", starts, 1)
    checks.check_rows("x", x, model)
    checks.check_targets("y", x, y, model, "mse")
    if next(model.parameters()).dtype != torch.float64:
        raise ValueError("model: expected one in float64, received another dtype; use model.double()")
    if len(x) < 2 * HELD:
        raise ValueError(f"x: expected at least {2 * HELD} rows, received {len(x)}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    scale, cut = float(y.std()) or 1.0, len(x) // HELD
    rows, held = Rows(x[order[cut:]], y[order[cut:]], scale), Rows(x[order[:cut]], y[order[:cut]], scale)
    found = _compared(_searched(model, rows, held, starts, seed), rows, held)
    final = copy.deepcopy(_chosen(found).model)
    refit(final, Rows(x, y, scale), 15, 1e-4)
    return final, found


# ---- recipes: parts of the model to start with, and which layers are held straight


def _with_products(model: KAN) -> list[int]:
    """Products and as many sums as there are outputs, whose edges onward are straight, with the identity as activation.

    Sums of curved functions imitate a product: sin x + cos(y) z was found from 0 of 5 seeds beside them, and from 10 of 10 so.
    SiLU in the factors hid x y in 3 of 3.
    """
    found, straight = stages(model), []
    for k, (layer, nodes) in enumerate(found):
        layer.activation = "identity"
        if nodes.arities:
            straight.append(k + 1)
            mask = present(layer)
            mask[:, found[-1].nodes.out_features : nodes.sums] = False
            layer.set_mask(mask)
    return [k for k in straight if k < len(found)]


def _sums_alone(model: KAN) -> list[int]:
    for layer, nodes in stages(model)[:-1]:
        if nodes.arities:
            mask = present(layer)
            mask[:, nodes.sums :] = False
            layer.set_mask(mask)
    return []


def _recipes(model: KAN) -> list[Callable[[KAN], list[int]]]:
    *hidden, last = (stage.nodes for stage in stages(model))
    if not any(nodes.arities for nodes in (*hidden, last)):
        return [_sums_alone]
    sums_are_left = any(nodes.arities for nodes in hidden) and all(nodes.sums for nodes in hidden)
    return [_with_products, _sums_alone] if sums_are_left else [_with_products]


# ---- the search


def _searched(model: KAN, rows: Rows, held: Rows, starts: int, seed: int) -> list[Candidate]:
    """The best candidate of every number of edges, fewest edges first; of all starts, until one stands out."""
    recipes = _recipes(model)
    pool: list[Candidate] = []
    before, again = 0, True
    for k, recipe in itertools.product(range(starts), recipes):
        if recipe is not recipes[0] and not again:
            continue
        start = copy.deepcopy(model)
        own = rows._replace(straight=recipe(start))
        if k:
            start.reset_parameters(1000 * seed + k)
        met = eliminated(penalised(start, own), own, held)
        pool = _best([*pool, *met])
        best = _chosen(pool)
        if recipe is recipes[-1]:  # sums alone have one turn where products do better
            again = any(candidate is best for candidate in met)
        tried = k > 0 or recipe is recipes[-1]
        simplest = best.edges <= _fewest(best.model) and (tried or best.error < SURE)
        confirmed = k > 0 and best.edges == before
        if (simplest or confirmed) and _stands_out(best, pool):
            break
        before = best.edges
    return pool


def _best(pool: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate of every number of edges, fewest edges first."""
    best: dict[int, Candidate] = {}
    for candidate in pool:
        if candidate.edges not in best or candidate.error < best[candidate.edges].error:
            best[candidate.edges] = candidate
    return [best[edges] for edges in sorted(best)]


def _stands_out(candidate: Candidate, pool: Sequence[Candidate]) -> bool:
    before = min((other.error for other in pool if other.edges < candidate.edges), default=1.0)
    return before > LARGE and candidate.error < STANDS_OUT * before


def _fewest(model: KAN) -> int:
    """How many edges a model of as many layers has at least that reads as many inputs."""
    layers = [alive(stage.layer) for stage in stages(model)]
    inputs, outputs = int(layers[0].any(1).sum()), int(layers[-1].any(0).sum())
    return max(inputs, outputs) if len(layers) == 1 else inputs + outputs + len(layers) - 2


# ---- the choice


def _compared(pool: Sequence[Candidate], rows: Rows, held: Rows) -> list[Candidate]:
    """The candidates at their errors on finer grids, up to the first whose error is one of the grid."""
    found, clean = [], False
    for candidate in pool:
        error = candidate.error
        if not clean and (candidate.edges <= MANY or candidate is pool[0]):
            error = _refined(candidate, rows, held)
            clean = error < max(CLEAN * candidate.error, ROUNDING)
        found.append(candidate._replace(error=error))
    return found


def _refined(candidate: Candidate, rows: Rows, held: Rows) -> float:
    """The error on finer grids, while it falls by a fifth. No layer is held straight."""
    best, smooth, model, before = candidate.error, SMOOTH, candidate.model, 1
    for multiple in FINER:
        model = copy.deepcopy(model)
        cover(model, rows.x, USED, multiple // before)
        before, smooth = multiple, smooth / 10
        refit(model, rows, 15, 1e-3, smooth)
        error = held.error(model)
        if error > 0.8 * best:
            break
        best = error
    return best


def _chosen(found: Sequence[Candidate]) -> Candidate:
    """The first candidate that no other beats by enough for the edges that it has more."""

    def is_enough(candidate: Candidate) -> bool:
        gain = POLISH if candidate.error < SMALL else FACTOR
        more = (other for other in found if other.edges > candidate.edges)
        return all(candidate.error <= max(other.error, ROUNDING) * gain ** (other.edges - candidate.edges) for other in more)

    return next(candidate for candidate in found if is_enough(candidate))
