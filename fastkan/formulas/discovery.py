"""discover: from data to formulas."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastkan.formulas.candidates import ROUNDS, Found, candidates
from fastkan.formulas.expression import Expressions, symbolic_formula
from fastkan.formulas.naming import UNUSUAL, Formula, formulas_of
from fastkan.formulas.polish import Snap, polished, snapped
from fastkan.nn import FUNCTIONS, KAN
from fastkan.nn.functions import function
from fastkan.train.elimination import Rows, cover
from fastkan.train.stages import USED

HELD = 4  # one row in four is held back
LEAST_ROWS = 40
EXACT = 1e-10  # of y's deviation
MOST = 12  # edges of a model that is named
FEW, CLOSE, FAR = 4, 0.02, 4.0  # and of one that is far from the best: further than 0.02 and than four times its error
NEIGHBOURS, NEIGHBOURS_OF, SHARED = 3, 2000, 3.0  # of how many rows at most; standard errors of what they share
ERRORS = 2.0  # standard errors that a formula may be worse than splines and still stand for them


class Discovery(NamedTuple):
    """A formula. rmse: on the rows that were held back, in units of y. complexity: bits of its functions and numbers.
    claimed: whether it is the formula as far as the data tell. model: the formula as a KAN, for x as it was given.
    snaps: numbers that went to simple ones.
    """

    expression: Any
    rmse: float
    complexity: int
    claimed: bool
    model: KAN
    formula: Expressions
    snaps: list[Snap]

    def __repr__(self) -> str:
        return f"{self.expression}  (rmse {self.rmse:.3g}, complexity {self.complexity}{'' if self.claimed else ', not claimed'})"

    def plot(self, *arguments: Any, **settings: Any) -> Any:
        """`fastkan.plot` of the model, with the names of the columns."""
        return self.model.plot(*arguments, **({"in_names": [str(v) for v in self.formula.variables]} | settings))


class Discoveries(list[Discovery]):
    """Formulas, the best first. splines: the best model of splines that was met, and splines_rmse its error, held back.

    Where no formula is claimed, the data ask for none of those that were tried, and the splines are the answer.
    """

    splines: KAN
    splines_rmse: float

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no formula"


class _Data(NamedTuple):
    """Rows in units in which every column reaches from -1 to 1 and y has mean 0 and deviation 1."""

    x: Tensor
    y: Tensor
    center: Tensor
    half: Tensor
    mean: float
    deviation: float
    names: list[str]


def _array(name: str, value: Any) -> Tensor:
    """A tensor, an array, a list or a DataFrame as float64 on the CPU."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        made = value.detach().double().cpu() if isinstance(value, Tensor) else torch.tensor(np.asarray(value, dtype=float))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected numbers, received {type(value).__name__}") from error
    if not made.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, received NaN or infinity")
    return made


def _checked(x: Any, y: Any, names: Sequence[str] | None) -> _Data:
    if names is None and hasattr(x, "columns"):
        names = [str(column) for column in x.columns]
    rows, target = _array("x", x), _array("y", y)
    rows = rows[:, None] if rows.ndim == 1 else rows
    target = target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"x: expected rows [B, I], received shape {tuple(rows.shape)}")
    if target.shape != (len(rows),):
        raise ValueError(f"y: expected one number for each of {len(rows)} rows, received shape {tuple(target.shape)}")
    if len(rows) < LEAST_ROWS:
        raise ValueError(f"x: expected at least {LEAST_ROWS} rows, received {len(rows)}")
    if not target.std() > 1e-12 * target.abs().max():
        raise ValueError("y: expected numbers that differ, received a constant")
    low, high = rows.amin(0), rows.amax(0)
    half = (high - low) / 2
    half = torch.where(half > 0, half, 1)
    listed = [f"x{k + 1}" for k in range(rows.shape[1])] if names is None else [str(name) for name in names]
    if len(listed) != rows.shape[1] or len(set(listed)) != len(listed):
        raise ValueError(f"names: expected {rows.shape[1]} different ones, one a column, received {listed}")
    center, mean, deviation = (low + high) / 2, float(target.mean()), float(target.std())
    return _Data((rows - center) / half, (target - mean) / deviation, center, half, mean, deviation, listed)


# ---- the choice


def _complexity(formula: Formula) -> int:
    """Bits: a function its complexity and one more, a free number one."""
    used = formula.named.names[: len(formula.named.names) - _rigid_edges(formula)]
    return sum(1 + FUNCTIONS[name].complexity for name in used) + int(formula.named.free().sum())


def _rigid_edges(formula: Formula) -> int:
    return len(formula.named.of_layer[-1]) if formula.named.rigid else 0


def _length(formula: Formula, rows: int) -> float:
    """Twice the description length in nats: residuals, numbers, symbols."""
    names = formula.named.names[: len(formula.named.names) - _rigid_edges(formula)]
    numbers = sum(1 + (not FUNCTIONS[n].scaling) + (not FUNCTIONS[n].shifting) for n in names)
    symbols = sum(1 + FUNCTIONS[n].complexity for n in names)
    return rows * math.log(formula.error**2 + EXACT**2) + numbers * math.log(rows) + 2 * math.log(2) * symbols


def _no_worse(r: Tensor, best: Tensor) -> bool:
    """The paired rule on squared residuals of held-back rows."""
    d = r.square() - best.square()
    return bool(d.mean() <= ERRORS * d.std() / len(d) ** 0.5)


def _left_over(x: Tensor, r: Tensor) -> bool:
    """Whether neighbours among x [B, I] share what is left, r [B]: not where it is noise, but where a formula imitates another,
    which on held-back rows is no worse than splines either.
    """
    step = max(1, len(r) // NEIGHBOURS_OF)
    x, r = x[::step], r[::step] / r[::step].std()
    near = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(NEIGHBOURS, largest=False).indices
    shared = float((r * r[near].mean(1)).sum() / (2 * len(r) / NEIGHBOURS) ** 0.5)  # of deviation 1 where rows are independent
    return shared > SHARED


class _Named(NamedTuple):
    """residual: on held-back rows, in deviations of y. left_over: see `_left_over`"""

    formula: Formula
    length: float
    residual: Tensor
    left_over: bool

    def stands(self, splines: Tensor) -> bool:
        """Whether it is the formula as far as the data tell; splines: what the best of them leave on held-back rows."""
        return self.error < EXACT or (not self.left_over and _no_worse(self.residual, splines))

    @property
    def error(self) -> float:
        return float(self.residual.square().mean().sqrt())


def _named(found: list[Found], rows: Rows, held: Rows, names: list[str], until: float) -> list[_Named]:
    """Formulas of all candidates, fewest edges first, until one is exact."""
    made: list[_Named] = []
    noise = min(one.error for one in found)
    for one in found:
        edges = one.edges - (one.model.layers[-1].in_features if one.recipe == "products" else 0)
        if edges > (MOST if one.error < max(CLOSE, FAR * noise) else FEW):
            continue
        for formula in formulas_of(one.model, rows.x, rows.y[:, 0], noise, names):
            residual = formula.named(held.x, formula.p) - held.y[:, 0]
            if residual.isfinite().all():
                whole = torch.cat((residual, formula.named(rows.x, formula.p) - rows.y[:, 0]))
                read = torch.cat((held.x, rows.x))[:, formula.named.columns]
                made.append(_Named(formula, _length(formula, len(rows.x)), residual, _left_over(read, whole)))
        if (made and min(one.error for one in made) < EXACT) or (made and time.monotonic() > until):
            break
    return made


def _front(made: list[_Named]) -> list[_Named]:
    """Without those that others beat in error and in complexity."""
    kept: list[_Named] = []
    for one in sorted(made, key=lambda n: (_complexity(n.formula), n.error)):
        if all(one.error < other.error for other in kept):
            kept.append(one)
    return kept


def _finished(one: _Named, data: _Data, whole: Rows, claimed: bool) -> Discovery:
    """In the units of the data, polished on all rows, and snapped if it is claimed."""
    named, mean, deviation = one.formula.named, data.mean, data.deviation
    x, y = whole.x * data.half + data.center, whole.y[:, 0] * deviation + mean
    p = named.fixed(named.in_units(one.formula.p, data.center, data.half, mean, deviation))
    p, error = polished(named, x, y, p, named.free(), 40)
    snaps: list[Snap] = []
    if claimed:
        p, snaps, error = snapped(named, x, y, p, error)
    model = named.built(p)
    cover(model, x, USED)  # no spline is left, but pictures show functions over their grids
    formula = symbolic_formula(model, data.names)
    return Discovery(formula.expressions[0], one.error * deviation, _complexity(one.formula), claimed, model, formula, snaps)


def discover(
    x: Any,
    y: Any,
    names: Sequence[str] | None = None,
    budget: float = 60.0,
    seed: int = 0,
    functions: Sequence[str] | None = None,
) -> Discoveries:  # fmt: skip
    """Formulas for y as a function of the columns of x.

    Several kinds of small KANs are fitted, sparsified and pruned; their edges get names; all numbers are polished together and
    snapped to simple ones where the data let them.

    x: rows [B, I]: a tensor, an array or a DataFrame, whose columns' names are then used. y: [B] or [B, 1]
    names: of the columns; None: x1, x2, ...
    budget: seconds, after which nothing new is begun
    seed: of the starts and of which rows are held back
    functions: names of fastkan.nn.FUNCTIONS that may stand in a formula; None: the usual ones
    returns: formulas, the best first; the others are the best of their complexity. The first is claimed if it is exact, or no
        worse than splines on rows that were held back with nothing left that neighbouring rows share; else none is.
    raises: TypeError, ValueError naming the argument

    >>> import torch, fastkan
    >>> x = torch.rand(500, 2, dtype=torch.float64) * 2 - 1
    >>> fastkan.discover(x, x[:, 0] * torch.exp(x[:, 1]), names=["a", "b"])[0].expression
    a*exp(b)
    """
    if not budget > 0:
        raise ValueError(f"budget: expected seconds above 0, received {budget}")
    data = _checked(x, y, names)
    known = [name for name in FUNCTIONS if name not in UNUSUAL] if functions is None else list(functions)
    for name in known:
        function(name)
    until = time.monotonic() + budget
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(seed))
    cut = len(order) // HELD
    whole = Rows(data.x, data.y[:, None], 1.0)
    rows, held = (Rows(data.x[part], data.y[part, None], 1.0) for part in (order[cut:], order[:cut]))
    found: list[Found] = []
    made: list[_Named] = []
    best: tuple[Found, Tensor] | None = None
    for turn, starts in enumerate(ROUNDS):
        new = candidates(rows, held, starts, seed, until)
        found += new
        top = min(found, key=lambda one: one.error)
        with torch.no_grad():
            best = top, (top.model(held.x) - held.y)[:, 0]
        made += _named(new, rows, held, known, until)
        chosen = min(made, key=lambda one: one.length, default=None)
        exact = chosen is not None and chosen.error < EXACT
        stands = chosen is not None and turn > 0 and chosen.stands(best[1])
        if exact or stands or time.monotonic() > until:
            break
    return _results(made, best, data, whole)


def _results(made: list[_Named], best: tuple[Found, Tensor] | None, data: _Data, whole: Rows) -> Discoveries:
    assert best is not None
    results = Discoveries()
    results.splines, results.splines_rmse = best[0].model, best[0].error * data.deviation
    if not made:
        return results
    chosen = min(made, key=lambda one: one.length)
    claimed = chosen.stands(best[1])
    results.append(_finished(chosen, data, whole, claimed))
    others = [one for one in _front(made) if one is not chosen]
    results.extend(_finished(one, data, whole, False) for one in sorted(others, key=lambda one: one.length))
    return results
