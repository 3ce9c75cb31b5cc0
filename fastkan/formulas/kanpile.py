"""kanpiler: the KAN that an expression is."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.formulas.algebra import algebra
from fastkan.formulas.assemble import Plan, assembled, planned
from fastkan.formulas.graph import Graph
from fastkan.formulas.read import Reader
from fastkan.nn import FUNCTIONS, KAN
from fastkan.nn.grid import normal_tensors

CHECKED = 32  # random points at which model and expression are compared
ROUNDING = 1e-9  # of the expression's largest value there, in float64
Ranges = tuple[float, float] | Sequence[tuple[float, float]] | Mapping[Any, tuple[float, float]]


@normal_tensors
def kanpiler(
    expression: Any,
    variables: Sequence[Any] | None = None,
    ranges: Ranges | None = None,
    grid_size: int = 5,
    degree: int = 3,
    dtype: torch.dtype = torch.float64,
) -> KAN:
    """The KAN that equals an expression on its ranges (Liu et al., arXiv:2408.10205).

    expression: of sympy, or its text; a list of them gives one output each
    variables: names or symbols, one a column of x; None: the expressions' symbols in the order of their names
    ranges: (low, high) of all variables, one a variable, or a dict by name; None: (-1, 1)
    grid_size, degree: of the grids, which cover what each edge receives on the ranges. Splines train on once perturb or
        expand_width opens edges.
    returns: a KAN whose edges are formulas of fastkan.nn.FUNCTIONS: sums, products by product nodes, any rational power,
        functions of sums. Subexpressions that are equal, but for a factor and an offset, are one node. Powers that are no
        multiple of 1/8 are exp(r log(base)), and so is base**exponent, where the base is positive on the ranges. A function
        that the library does not have (erf, gamma, a Piecewise, ...) of one argument becomes a spline with grid_size cells,
        and a warning says how far that is off.
    raises: ValueError for an expression that leaves a function's domain on the ranges, or is not real; ImportError without sympy

    >>> import torch, fastkan
    >>> model = fastkan.formulas.kanpiler("m*v**2/2 + sin(v)", ["m", "v"])
    >>> model.widths
    [2, (1, 1), 1]
    >>> model(torch.tensor([[2.0, 1.0]], dtype=torch.float64)).item()  # 1 + sin(1)
    1.8414709848078965
    """
    expressions, symbols = _expressions(expression, variables)
    bounds = _ranges(ranges, symbols)
    plans = [_plan(expressions, symbols, bounds, early) for early in (True, False)]
    plan = min(plans, key=lambda plan: sum(map(len, plan.levels)))
    model, errors = assembled(plan, len(symbols), grid_size, degree, dtype)
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    x = low + (high - low) * torch.rand(CHECKED, len(symbols), dtype=torch.float64, generator=generator)
    wanted = _values(expressions, symbols, x)
    off = (model(x.to(dtype)).double() - wanted).abs().amax(0) / wanted.abs().amax(0).clamp(min=1e-300)
    if errors:
        listed = ", ".join(f"{name} (off by {error:.1e} of its size)" for name, error in errors.items())
        warnings.warn(
            f"expression: {listed} became splines of {grid_size} cells; the model is off by up to {float(off.max()):.1e} of its "
            "largest value; a larger grid_size brings it nearer",
            stacklevel=3,
        )
    elif dtype == torch.float64 and not float(off.max()) < ROUNDING:
        raise RuntimeError(f"expression: expected a model that equals it, received one off by {float(off.max()):.1e}")
    return model


def _expressions(expression: Any, variables: Sequence[Any] | None) -> tuple[list[Any], list[Any]]:
    """Expressions in the given symbols, and these."""
    sympy = _sympy()
    several = isinstance(expression, list | tuple)
    parts = list(expression) if several else [expression]
    names = None if variables is None else [str(variable) for variable in variables]
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"variables: expected each once, received {names}")
    own = {name: sympy.Symbol(name) for name in names or ()}
    own |= {str(v): v for v in variables or () if isinstance(v, sympy.Symbol)}
    made = []
    for part in parts:
        try:
            one = sympy.sympify(part, locals=dict(own))
        except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
            raise ValueError(f"expression: expected one of sympy or its text, received {part!r}") from error
        if not isinstance(one, sympy.Expr):
            raise ValueError(f"expression: expected a number-valued expression of sympy, received {part!r}")
        made.append(one.doit())
    found = sorted({symbol for one in made for symbol in one.free_symbols}, key=str)
    symbols = found if names is None else [own[name] for name in names]
    if not made or not symbols:
        raise ValueError(f"expression: expected at least one, with a variable, received {expression!r}")
    unknown = [str(symbol) for symbol in found if symbol not in symbols]
    if unknown:
        raise ValueError(f"variables: expected all symbols of the expression, received {names} without {', '.join(unknown)}")
    return made, symbols


def _ranges(ranges: Ranges | None, symbols: list[Any]) -> list[tuple[float, float]]:
    given: Any = (-1.0, 1.0) if ranges is None else ranges
    if isinstance(given, Mapping):
        by_name = {str(name): pair for name, pair in given.items()}
        if set(by_name) != set(map(str, symbols)):
            raise ValueError(f"ranges: expected one for each of {', '.join(map(str, symbols))}, received {sorted(by_name)}")
        given = [by_name[str(symbol)] for symbol in symbols]
    elif len(given) == 2 and not any(isinstance(end, list | tuple) for end in given):
        given = [given] * len(symbols)
    pairs = [tuple(map(float, pair)) for pair in given]
    fine = all(len(pair) == 2 and -torch.inf < pair[0] < pair[1] < torch.inf for pair in pairs)
    if len(pairs) != len(symbols) or not fine:
        raise ValueError(
            f"ranges: expected finite (low, high) with low < high, for all or each of {len(symbols)} variables, "
            f"received {ranges!r}"
        )
    return [(pair[0], pair[1]) for pair in pairs]


def _plan(expressions: list[Any], symbols: list[Any], bounds: list[tuple[float, float]], early: bool) -> Plan:
    """The levels of nodes. Symbols are real there, and positive ones so, which lets sympy take roots of products apart."""
    sympy = algebra()
    known = [
        sympy.Symbol(str(symbol), real=True, positive=True if low > 0 else None)
        for symbol, (low, _) in zip(symbols, bounds, strict=True)
    ]
    graph = Graph(known, bounds, early)
    reader = Reader(graph, known)
    own = dict(zip(symbols, known, strict=True))
    return planned(graph, [reader.read(one.subs(own, simultaneous=True)) for one in expressions])


def _values(expressions: list[Any], symbols: list[Any], x: Tensor) -> Tensor:
    """The expressions at x [B, I] -> [B, O], by mpmath and the functions that users have added."""
    sympy = algebra()

    def plain(name: str) -> Any:
        return lambda z: float(FUNCTIONS[name].call(torch.tensor(float(z), dtype=torch.float64)))

    added = {name: plain(name) for name, f in FUNCTIONS.items() if f.expression == f"{name}(x)" and not hasattr(sympy, name)}
    call = sympy.lambdify(symbols, expressions, modules=[added, "mpmath"])
    rows = []
    for point in x.tolist():
        rows.append([complex(value).real for value in call(*map(sympy.Float, point))])
    return torch.tensor(rows, dtype=torch.float64)


def _sympy() -> Any:
    try:
        return algebra()
    except ImportError as error:
        raise ImportError("kanpiler needs sympy: pip install 'fastkan[science]'") from error
