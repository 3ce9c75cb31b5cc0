"""Formulas to be found in data: a set that defaults were chosen on, one that was held out, one chosen before it was first run."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.science.targets import TARGETS

ROWS, FEW = 1000, 200
UNIT = (-1.0, 1.0)


class Law(NamedTuple):
    """formula: of x0, x1, ..., what is printed. ranges: one a column. function: of the columns.

    structure: the right one, see `benchmarks.science.formulas.structure`; "" where several are, or none
    """

    formula: str
    ranges: tuple[tuple[float, float], ...]
    function: Callable[..., Tensor]
    structure: str = ""
    rows: int = ROWS


def _law(formula: str, columns: int, function: Callable[..., Tensor], structure: str = "", span: float = 1.0) -> Law:
    return Law(formula, ((-span, span),) * columns, function, structure)


exp, sin, cos, sqrt, log, tanh = torch.exp, torch.sin, torch.cos, torch.sqrt, torch.log, torch.tanh
pi = math.pi

DEVELOPMENT = {
    "exp": _law("exp(sin(pi x0) + x1^2)", 2, lambda x, y: exp(sin(pi * x) + y**2), "F(0+1)"),
    "hypot": _law("sqrt(x0^2 + x1^2)", 2, lambda x, y: sqrt(x**2 + y**2), "F(0+1)"),
    "product": _law("x0 x1", 2, lambda x, y: x * y, "0*1"),
    "trig": _law("sin(x0) + cos(x1) x2", 3, lambda x, y, z: sin(x) + cos(y) * z, "0+1*2"),
    "ratio": _law("x0 / (1 + x1^2)", 2, lambda x, y: x / (1 + y**2), "0*1"),
    "additive": _law("2 x0 + x1^2 - log(x2 + 2)", 3, lambda x, y, z: 2 * x + y**2 - log(z + 2), "0+1+2"),
}
HELD_OUT = {
    "gauss": _law("exp(-x0^2 / 2) x1", 2, lambda x, y: exp(-(x**2) / 2) * y, "0*1"),
    "velocity": _law("(x0 + x1) / (1 + x0 x1)", 2, lambda x, y: (x + y) / (1 + x * y), "F(0+1)", 0.8),
    "triple": _law("x0 x1 x2", 3, lambda x, y, z: x * y * z, "0*1*2"),
    "phase": _law("sin(x0 + x1^2)", 2, lambda x, y: sin(x + y**2), "F(0+1)"),
    "hypot1": _law("sqrt(1 + x0^2 + x1^2)", 2, lambda x, y: sqrt(1 + x**2 + y**2), "F(0+1)"),
    "cube": _law("tanh(2 x0) + x1^3", 2, lambda x, y: tanh(2 * x) + y**3, "0+1"),
}

ONE_TO_THREE, ONE_TO_FIVE = (1.0, 3.0), (1.0, 5.0)


def _lorentz(x: Tensor, t: Tensor, u: Tensor, c: Tensor) -> Tensor:
    return (t - u * x / c**2) / sqrt(1 - u**2 / c**2)


# Feynman's Lectures by volume, chapter, equation, with their dimensions; then what the sets above do not ask for.
CHOSEN_BEFORE = {
    "I.6.2a": Law("exp(-x0^2 / 2) / sqrt(2 pi)", (ONE_TO_THREE,), lambda t: exp(-(t**2) / 2) / math.sqrt(2 * pi)),
    "I.12.2": Law("x0 x1 / (4 pi x2 x3^2)", (ONE_TO_FIVE,) * 4, lambda q, p, e, r: q * p / (4 * pi * e * r**2)),
    "I.14.3": Law("x0 x1 x2", (ONE_TO_FIVE,) * 3, lambda m, g, z: m * g * z),
    "I.15.3t": Law("(x1 - x2 x0 / x3^2) / sqrt(1 - x2^2 / x3^2)", (ONE_TO_FIVE, ONE_TO_FIVE, (1.0, 2.0), (3.0, 10.0)), _lorentz),
    "I.16.6": Law("(x0 + x1) / (1 + x0 x1 / x2^2)", (ONE_TO_FIVE,) * 3, lambda u, v, c: (u + v) / (1 + u * v / c**2)),
    "I.18.4": Law("(x0 x2 + x1 x3) / (x0 + x1)", (ONE_TO_FIVE,) * 4, lambda m, n, r, s: (m * r + n * s) / (m + n)),
    "I.24.6": Law("x0 (x1^2 + x2^2) x3^2 / 4", (ONE_TO_THREE,) * 4, lambda m, w, v, x: m * (w**2 + v**2) * x**2 / 4),
    "I.26.2": Law("asin(x0 sin(x1))", ((0.0, 1.0), ONE_TO_FIVE), lambda n, t: torch.asin(n * sin(t))),
    "I.29.4": Law("x0 / x1", ((1.0, 10.0),) * 2, lambda w, c: w / c),
    "I.34.8": Law("x0 x1 x2 / x3", (ONE_TO_FIVE,) * 4, lambda q, v, b, p: q * v * b / p),
    "I.50.26": Law(
        "x0 (cos(x1 x2) + x3 cos(x1 x2)^2)", (ONE_TO_THREE,) * 4, lambda x, w, t, a: x * (cos(w * t) + a * cos(w * t) ** 2)
    ),
    "two of five idle": _law("exp(-x0) + x1 x2", 5, lambda a, b, c, d, e: exp(-a) + b * c),
    "four of six idle": _law("sin(2 x0 + x2)", 6, lambda a, b, c, d, e, f: sin(2 * a + c)),
    "three layers": _law("exp(sin(2 (x0^2 + x1^2)))", 2, lambda x, y: exp(sin(2 * (x**2 + y**2)))),
    "log of a root": _law("log(1 + sqrt(0.1 + x0^2 + x1^2))", 2, lambda x, y: log(1 + sqrt(0.1 + x**2 + y**2))),
    "product in a sine": _law("sin(3 x0 x1)", 2, lambda x, y: sin(3 * x * y)),
    "product in an exponential": _law("exp(-x0 x1) + x2", 3, lambda x, y, z: exp(-x * y) + z),
    "200 rows, a sum": _law("0.37 x0^2 - 1.91 sin(2.3 x1)", 2, lambda x, y: 0.37 * x**2 - 1.91 * sin(2.3 * y))._replace(rows=FEW),
    "200 rows, a quotient": _law("x0 / (0.7 + x1^2)", 2, lambda x, y: x / (0.7 + y**2))._replace(rows=FEW),
    "odd numbers": _law(
        "1.37 x0 x1 + 0.21 exp(1.7 x2) - 0.83 x3", 4, lambda a, b, c, d: 1.37 * a * b + 0.21 * exp(1.7 * c) - 0.83 * d
    ),
}
WITHOUT = {name: _law(TARGETS[name].formula, 2, TARGETS[name].function) for name in ("ellipkinc", "jv")}
SETS = {"development": DEVELOPMENT, "held out": HELD_OUT, "chosen before": CHOSEN_BEFORE, "without a formula": WITHOUT}


def data(law: Law, seed: int, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [B, I], y [B] with noise, as a share of its deviation, and new rows without; float64."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in zip(*law.ranges, strict=True))
    x, new = (low + (high - low) * torch.rand(n, len(low), generator=generator, dtype=torch.float64) for n in (law.rows, ROWS))
    y, wanted = law.function(*x.unbind(1)), law.function(*new.unbind(1))
    return x, y + noise * y.std() * torch.randn(len(y), generator=generator, dtype=torch.float64), new, wanted
