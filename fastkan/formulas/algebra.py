"""Between tensors and sympy."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from fastkan.nn.functions import FUNCTIONS, Call, function


def _also_of_numbers(f: Call) -> Call:
    """Constants of an expression are Python numbers."""
    return lambda z: f(z if isinstance(z, torch.Tensor) else torch.tensor(float(z), dtype=torch.float64))


# What sympy prints for its functions, as torch has them.
_SAME = (
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "exp",
    "log",
    "erf",
    "sqrt",
)
TORCH: dict[str, Any] = {name: _also_of_numbers(getattr(torch, name)) for name in (*_SAME, "sign")}
TORCH |= {"Abs": abs, "abs": abs, "pi": math.pi, "E": math.e, "gamma": _also_of_numbers(lambda z: torch.exp(torch.lgamma(z)))}
DENOMINATORS = 12  # of fractions that stand for a float
ROOTS = (2, 3, 5)


def algebra() -> Any:
    """sympy, imported where it is used: it takes 0.4 s."""
    import sympy

    return sympy


def one_variable(expression: Any) -> Any:
    """An expression, or its text, in the symbol x alone."""
    sympy = algebra()
    try:
        made = sympy.sympify(expression)
    except (sympy.SympifyError, TypeError, SyntaxError) as error:
        raise ValueError(f"function: expected an expression of sympy, received {expression!r}") from error
    if not isinstance(made, sympy.Expr) or len(made.free_symbols) != 1:
        raise ValueError(f"function: expected an expression in one symbol, received {expression!r}")
    (symbol,) = made.free_symbols
    return made.subs(symbol, sympy.Symbol("x"))


def in_torch(expressions: Sequence[Any], *variables: Any) -> Any:
    """A function of tensors, one a variable; of one expression its tensor, of several a list of them."""
    from sympy.printing.lambdarepr import LambdaPrinter

    class Printer(LambdaPrinter):
        def _print_sign(self, made: Any) -> str:  # sympy's own asks a tensor for its truth
            return f"sign({self._print(made.args[0])})"

    own = {name: f.call for name, f in FUNCTIONS.items() if f.expression == f"{name}(x)" and name not in TORCH}
    printer = Printer({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    made = algebra().lambdify(list(variables), list(expressions), modules=[own | TORCH, {}], printer=printer, cse=True)
    return (lambda *x: made(*x)[0]) if len(expressions) == 1 else made


@cache
def _template(text: str) -> Any:
    return algebra().sympify(text, locals={})


def applied(name: str, argument: Any) -> Any:
    """The library's function of an expression."""
    return _template(function(name).expression).subs(algebra().Symbol("x"), argument, simultaneous=True)


@cache
def _simple() -> dict[float, Any]:
    """Numbers that a float may stand for, by their floats."""
    sympy = algebra()
    found: dict[float, Any] = {}
    fractions = [sympy.Rational(n, d) for d in range(1, DENOMINATORS + 1) for n in range(1, 4 * DENOMINATORS + 1)]
    roots = [sympy.sqrt(n) for n in (*ROOTS, sympy.pi, 1 / sympy.pi, 2 / sympy.pi)]
    for unit in (sympy.Integer(1), sympy.pi, 1 / sympy.pi, sympy.E, *roots):
        for fraction in fractions:
            found.setdefault(float(unit * fraction), unit * fraction)
    return found


def exact(value: float) -> Any:
    """The simple number that this float stands for to its last digit, else the float."""
    sympy = algebra()
    if value.is_integer() and abs(value) < 2**53:
        return sympy.Integer(int(value))
    near = _simple().get(abs(value))
    if near is None:
        return sympy.Float(value, 15 if float(f"{value:.15g}") == value else 17)  # digits that are printed
    return near if value > 0 else -near
