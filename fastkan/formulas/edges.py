"""Formulas on the edges of a KAN: what fits an edge, and the exchange of a spline for a formula and back."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan.formulas.fits import Fits, fits
from fastkan.nn import FUNCTIONS, KAN, KANLinear
from fastkan.nn.edges import alive, edge_values, present, slot_values
from fastkan.nn.functions import function
from fastkan.nn.grid import normal_tensors
from fastkan.nn.stack import double, rows, stages, walk
from fastkan.splines import knots as grids

SIMPLE = 0.8  # the share of complexity in a cost, as in pykan; the rest is bits of what is not explained
BITS = 1e-5  # a part of the variance that costs nothing
STRAIN = 10.0  # standard deviations of an edge that an offset may have
POINTS = 400  # of an edge where there are no samples


class Suggestion(NamedTuple):
    """c f(a x + b) + d for an edge. cancels: |d| in standard deviations of the edge. note: what was refused, and why."""

    name: str
    r2: float
    complexity: int
    a: float
    b: float
    c: float
    d: float
    cancels: float = 0.0
    note: str = ""

    @property
    def affine(self) -> tuple[float, float, float, float]:
        return self.a, self.b, self.c, self.d

    def cost(self, simple: float) -> float:
        """simple times the complexity, the bits of what is not explained for the rest, and what large offsets cost: where they
        cancel, a sine imitates a square.
        """
        strain = math.log10(max(1.0, self.cancels / STRAIN))
        return simple * self.complexity + (1 - simple) * math.log2(1 + BITS - min(self.r2, 1.0)) + strain


class Suggestions(list[Suggestion]):
    """Suggestions for an edge, the best first. Printed, they are a table."""

    def __repr__(self) -> str:
        lines = [f"{'function':<10}{'R2':>12}  complexity{'a':>12}{'b':>12}{'c':>12}{'d':>12}"]
        for s in self:
            numbers = "".join(f"{number:>12.5g}" for number in s.affine)
            lines.append(f"{s.name:<10}{s.r2:>12.8f}  {s.complexity:>10}{numbers}  {s.note}".rstrip())
        return "\n".join(lines)


# ---- where an edge is looked at


def _edge(model: KAN, layer: int, i: int, o: int) -> KANLinear:
    """The layer of an edge; ValueError where there is none."""
    found = stages(model)
    if not 0 <= layer < len(found):
        raise ValueError(f"layer: expected 0 to {len(found) - 1}, received {layer}")
    of = found[layer].layer
    if not (0 <= i < of.in_features and 0 <= o < of.out_features):
        raise ValueError(
            f"i, o: expected an input below {of.in_features} and an output below {of.out_features}, received {(i, o)}"
        )
    return of


def _inputs(model: KAN, x: Tensor | None) -> list[Tensor]:
    """What every layer receives [N, I], float64: from samples, or even points of its grid."""
    if x is not None:
        return [inputs for _, inputs in walk(double(model), rows(model, x))]
    found = []
    for stage in stages(model):
        points = grids.grid_points(stage.layer.knots.double(), stage.layer.degree)
        steps = torch.linspace(0, 1, POINTS, dtype=points.dtype, device=points.device)[:, None]
        found.append(torch.lerp(points[:, 0], points[:, -1], steps))
    return found


def _values(layer: KANLinear, x: Tensor, edges: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Inputs and values [E, N] of edges of a float64 layer."""
    values = edge_values(layer, x)
    return torch.stack([x[:, i] for i, _ in edges]), torch.stack([values[:, i, o] for i, o in edges])


def _names(names: Sequence[str] | None) -> list[str]:
    names = list(FUNCTIONS if names is None else names)
    for name in names:
        function(name)
    if not names:
        raise ValueError("names: expected at least one function, received none")
    return names


def _ranked(found: Fits, e: int, simple: float) -> Suggestions:
    """The suggestions for edge e."""
    made = []
    for f, name in enumerate(found.names):
        r2, beyond = found.r2[f, e].item(), found.beyond[f, e].item()
        note = ""
        if beyond > r2 + BITS:
            note = f"R2 {beyond:.4f} refused: a pole at x = {found.pole[f, e].item():.4g}, among the samples"
        a, b, c, d = found.affine[f, e].tolist()
        cancels = abs(d) / (found.size[e].item() or 1.0)
        made.append(Suggestion(name, r2, FUNCTIONS[name].complexity, a, b, c, d, cancels, note))
    return Suggestions(sorted(made, key=lambda s: (s.r2 < 0, s.cost(simple))))


# ---- what users call


@normal_tensors
def suggest_symbolic(
    model: KAN, layer: int, i: int, o: int, x: Tensor | None = None, names: Sequence[str] | None = None, simple: float = SIMPLE
) -> Suggestions:
    """What functions fit the edge from input i to output o of a layer, as c f(a x + b) + d.

    layer: its place among model.layers
    x: samples [..., I] of the model; None: the edge is looked at on its whole grid, evenly
    names: of fastkan.nn.FUNCTIONS; None: all
    simple: how much complexity counts in the order, from 0 to 1; pykan's 0.8
    returns: a list, the best first, whose repr is a table. Functions with a pole where the samples are, or which are not real
        there, are not used so; a note says where that cost something.
    raises: ValueError for an edge, samples or names that there are not; TypeError for a model that is no KAN

    >>> import fastkan
    >>> net = fastkan.KAN([1, 1], seed=0)
    >>> net[0].set_symbolic({(0, 0): ("sin", (3.0, 0.5, 2.0, 1.0))})
    >>> fastkan.formulas.suggest_symbolic(net, 0, 0, 0)[0].name
    'sin'
    """
    of = _edge(model, layer, i, o)
    known = _names(names)
    if not alive(of)[i, o]:
        raise ValueError(f"i, o: expected an edge that is there, received {(i, o)}, which is gone")
    inputs = _inputs(model, x)[layer]
    return _ranked(fits(*_values(stages(double(model))[layer].layer, inputs, [(i, o)]), known), 0, simple)


def _formulas(layer: KANLinear) -> dict[tuple[int, int], tuple[str, Any]]:
    """The formulas of a layer, as set_symbolic takes them."""
    if layer.symbolic is None:
        return {}
    listed = zip(layer.symbolic.edges, layer.symbolic.affine.tolist(), strict=True)
    return {(i, o): (name, affine) for (i, o, name), affine in listed}


def _set(layer: KANLinear, formulas: dict[tuple[int, int], tuple[str, Any]]) -> None:
    trained = layer.symbolic is None or layer.symbolic.affine.requires_grad
    layer.set_symbolic(formulas)
    if layer.symbolic is not None:
        layer.symbolic.requires_grad_(trained)


@normal_tensors
def fix_symbolic(
    model: KAN, layer: int, i: int, o: int, name: str, affine: Sequence[float] | None = None, x: Tensor | None = None
) -> Suggestion:
    """Make the edge from input i to output o of a layer c f(a x + b) + d; its spline goes.

    name: of f, in fastkan.nn.FUNCTIONS
    affine: a, b, c, d; None: those that fit the edge best
    x: samples [..., I] of the model; None: the edge's whole grid
    returns: what was set, with the R2 of the edge that was there
    raises: as suggest_symbolic; ValueError if f has a pole where the samples are, or is not real there

    >>> import fastkan
    >>> net = fastkan.KAN([1, 1], seed=0)
    >>> fastkan.formulas.fix_symbolic(net, 0, 0, 0, "x**2", (1, 0, 3, 0)).name
    'x**2'
    >>> net[0].symbolic
    SymbolicEdges(0->0: x**2)
    """
    of = _edge(model, layer, i, o)
    f = function(name)
    inputs = _inputs(model, x)[layer]
    t, y = _values(stages(double(model))[layer].layer, inputs, [(i, o)])
    if affine is None:
        chosen = _ranked(fits(t, y, [name]), 0, SIMPLE)[0]
        if chosen.r2 < 0:
            raise ValueError(f"name: expected a function that is real and without poles where x is, received {name!r}")
    else:
        if len(affine) != 4:
            raise ValueError(f"affine: expected a, b, c, d, received {len(affine)} numbers")
        a, b, c, d = map(float, affine)
        z = a * t[0] + b
        if f.trouble(z.amin(), z.amax()):
            raise ValueError(
                f"affine: expected {name} to be real and without poles for x from {t.min():.4g} to {t.max():.4g}, "
                f"received arguments from {z.min():.4g} to {z.max():.4g}"
            )
        unexplained = (y[0] - c * f.call(z) - d).square().sum() / (y[0] - y[0].mean()).square().sum().clamp(min=1e-300)
        chosen = Suggestion(name, float(1 - unexplained), f.complexity, a, b, c, d, abs(d) / (float(y.std()) or 1.0))
    _set(of, _formulas(of) | {(i, o): (name, chosen.affine)})
    return chosen


@normal_tensors
@torch.no_grad()
def unfix_symbolic(model: KAN, layer: int, i: int, o: int) -> float:
    """Make the formula of an edge a spline again: the nearest one on the edge's grid.

    returns: the largest difference on the grid
    raises: ValueError for an edge that is no formula

    >>> import fastkan
    >>> net = fastkan.KAN([1, 1], grid_size=20, seed=0)
    >>> net[0].set_symbolic({(0, 0): ("sin", (1.0, 0, 1, 0))})
    >>> fastkan.formulas.unfix_symbolic(net, 0, 0, 0) < 1e-6
    True
    """
    of = _edge(model, layer, i, o)
    formulas = _formulas(of)
    if (i, o) not in formulas:
        raise ValueError(f"i, o: expected an edge that is a formula, received {(i, o)}")
    wide = stages(double(model))[layer].layer
    points = _inputs(model, None)[layer]
    slots = slot_values(wide, points)[:, i]  # [N, M]
    target = edge_values(wide, points)[:, i, o]
    if not target.isfinite().all():
        raise ValueError(f"i, o: expected a formula that is finite on its grid, received {formulas[i, o][0]} there")
    fitted = torch.linalg.lstsq(slots[:, :-1].cpu(), target[:, None].cpu(), driver="gelsd").solution[:, 0].to(slots)
    del formulas[i, o]
    _set(of, formulas)
    mask = present(of)
    mask[i, o] = True
    of.set_mask(None if mask.all() else mask)
    of.weight[i, :-1, o] = fitted.to(of.weight.dtype)
    of.weight[i, -1, o] = 0
    return float((slots[:, :-1] @ fitted - target).abs().max())


@normal_tensors
def auto_symbolic(
    model: KAN, x: Tensor | None = None, names: Sequence[str] | None = None, simple: float = SIMPLE, least: float = 0.0
) -> list[tuple[int, int, int, Suggestion]]:
    """Make every spline of a model the formula that fits it best; all fits are made in one batch.

    x, names, simple: as in suggest_symbolic
    least: edges whose best R2 is below that stay splines
    returns: (layer, input, output, what was set) of every edge that changed. `fastkan.fit` then trains the numbers.
    raises: as suggest_symbolic

    >>> import fastkan
    >>> net = fastkan.KAN([2, 1], seed=0)
    >>> net[0].set_symbolic({(0, 0): ("x", (1, 0, 1, 0)), (1, 0): ("x**2", (1, 0, 1, 0))})
    >>> fastkan.formulas.unfix_symbolic(net, 0, 1, 0) < 1e-6
    True
    >>> [(i, found.name) for _, i, _, found in fastkan.formulas.auto_symbolic(net)]
    [(1, 'x**2')]
    """
    known = _names(names)
    places: list[tuple[int, int, int]] = []
    xs, ys = [], []
    wide = stages(double(model))
    for layer, inputs in enumerate(_inputs(model, x)):
        edges = [(i, o) for i, o in present(wide[layer].layer).nonzero().tolist()]
        if not edges:
            continue
        t, y = _values(wide[layer].layer, inputs, edges)
        places += [(layer, i, o) for i, o in edges]
        xs.append(t)
        ys.append(y)
    if not places:
        return []
    found = fits(torch.cat(xs), torch.cat(ys), known)
    made = []
    for e, (layer, i, o) in enumerate(places):
        best = next((s for s in _ranked(found, e, simple) if s.r2 >= max(least, 0)), None)
        if best is not None:
            made.append((layer, i, o, best))
    for layer, stage in enumerate(stages(model)):
        new = {(i, o): (s.name, s.affine) for place, i, o, s in made if place == layer}
        if new:
            _set(stage.layer, _formulas(stage.layer) | new)
    return made
