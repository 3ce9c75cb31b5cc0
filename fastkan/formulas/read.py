"""From sympy's words to the sums and nodes of a graph."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from fastkan.formulas.algebra import algebra
from fastkan.formulas.graph import Graph, Sum, Term, combined
from fastkan.nn import FUNCTIONS

LARGEST = 64  # denominator of an exponent that is given as a float
MOST = 60  # the largest whole exponent: products of powers up to 5


def _rewritten() -> dict[str, Callable[..., Any]]:
    """Functions of sympy in the library's words."""
    s = algebra()

    def largest(*parts: Any, sign: int = 1) -> Any:
        first, *others = parts
        for part in others:
            first = (first + part + sign * s.Abs(first - part)) / 2
        return first

    return {
        "sec": lambda x: 1 / s.cos(x),
        "csc": lambda x: 1 / s.sin(x),
        "cot": lambda x: s.cos(x) / s.sin(x),
        "sech": lambda x: 1 / s.cosh(x),
        "csch": lambda x: 1 / s.sinh(x),
        "coth": lambda x: s.cosh(x) / s.sinh(x),
        "acot": lambda x: s.atan(1 / x),
        "asec": lambda x: s.acos(1 / x),
        "acsc": lambda x: s.asin(1 / x),
        "acosh": lambda x: s.log(x + s.sqrt(x**2 - 1)),
        "acoth": lambda x: s.atanh(1 / x),
        "sinc": lambda x: s.sin(x) / x,
        "atan2": lambda y, x: 2 * s.atan(y / (s.sqrt(x**2 + y**2) + x)),
        "Max": largest,
        "Min": lambda *parts: largest(*parts, sign=-1),
        "Heaviside": lambda x, *half: (1 + s.sign(x)) / 2,
    }


class Reader:
    """Makes the nodes of an expression.

    known: the library's functions by sympy's names
    """

    def __init__(self, graph: Graph, variables: list[Any]) -> None:
        self.graph, self.variables = graph, variables
        self.zero, self.one = algebra().Integer(0), algebra().Integer(1)
        self.rewritten = _rewritten()
        self.seen: dict[Any, Sum] = {}
        self.known = {name: name for name in FUNCTIONS if name.isidentifier()} | {"Abs": "abs"}

    def read(self, expression: Any) -> Sum:
        """The sum that an expression is."""
        if expression not in self.seen:
            self.seen[expression] = self._read(expression)
        return self.seen[expression]

    def _read(self, e: Any) -> Sum:
        s = algebra()
        if not e.free_symbols:
            return Sum((), number(e))
        if e.is_Symbol:
            child = self.graph.inputs[self.variables.index(e)]
            return combined([self.graph.applied("x", self._of(child))])
        if e.is_Add:
            return combined([self.read(part) for part in e.args])
        if e.is_Mul:
            return self.graph.product([self.read(part) for part in e.args])
        if e.is_Pow:
            return self._power(e.base, e.exp)
        if isinstance(e, s.exp):
            return self._exp(e.args[0])
        if isinstance(e, s.log) and len(e.args) == 1:
            return self._call("log", e.args[0])
        return self._function(e)

    def _of(self, node: Any) -> Sum:
        return Sum((Term(self.one, "x", self.one, self.zero, node),), self.zero)

    def _call(self, name: str, argument: Any) -> Sum:
        inner = self.read(argument)
        if not inner.terms:
            return Sum((), number(algebra().sympify(FUNCTIONS[name].expression).subs("x", inner.constant)))
        return self.graph.applied(name, inner)

    # ---- powers

    def _exp(self, argument: Any) -> Sum:
        """exp(c u**2 + d) with c < 0 is one edge, a gaussian."""
        inner = self.read(argument)
        if len(inner.terms) == 1 and inner.terms[0].f == "x**2" and inner.terms[0].c < 0:
            term = inner.terms[0]
            root = algebra().sqrt(-term.c)
            edge = term._replace(c=algebra().exp(inner.constant), f="gaussian", a=root * term.a, b=root * term.b)
            return Sum((edge,), self.zero)
        return self.graph.applied("exp", inner) if inner.terms else Sum((), number(algebra().exp(inner.constant)))

    def _power(self, base: Any, exponent: Any) -> Sum:
        s = algebra()
        if not base.free_symbols and base.is_positive:  # 2**x
            return self._exp(exponent * s.log(base))
        if exponent.free_symbols:
            self._need_positive(self.read(base), base, base**exponent)
            return self._exp(exponent * s.log(base))
        inner = self.read(base)
        if not inner.terms:
            return Sum((), number(inner.constant**exponent))
        return self._fixed_power(inner, rational(exponent), base)

    def _fixed_power(self, inner: Sum, exponent: Any, base: Any) -> Sum:
        s = algebra()
        if exponent.is_Integer and abs(exponent) <= MOST:
            lorentz = self._lorentz(inner) if exponent == -1 else None
            return lorentz or self._whole_power(inner, int(exponent))
        if exponent.is_Rational and exponent.q in (2, 4, 8) and abs(exponent) <= MOST:
            if exponent.q > 2:
                return self._fixed_power(self.graph.applied("sqrt", inner), 2 * exponent, s.sqrt(base))
            named = {(1, 2): "sqrt", (-1, 2): "1/sqrt", (3, 2): "x**1.5"}.get((int(exponent.p), 2))
            if named:
                return self.graph.applied(named, inner)
            whole = exponent - s.Rational(1, 2) if exponent > 0 else exponent + s.Rational(1, 2)
            root = self.graph.applied("sqrt" if exponent > 0 else "1/sqrt", inner)
            return self.graph.product([*self._powers(inner, int(whole)), root])
        self._need_positive(inner, base, base**exponent)
        return self.graph.applied("exp", self.graph.applied("log", inner).times(exponent))

    def _whole_power(self, inner: Sum, n: int) -> Sum:
        return self.graph.product(self._powers(inner, n))

    def _powers(self, inner: Sum, n: int) -> list[Sum]:
        """Factors of the n-th power: the library's powers go up to 5."""
        parts = [5] * (abs(n) // 5) + [abs(n) % 5] * bool(abs(n) % 5)
        names = {1: "1/x" if n < 0 else "x"} | {k: f"1/x**{k}" if n < 0 else f"x**{k}" for k in range(2, 6)}
        return [self.graph.applied(names[part], inner) for part in parts]

    def _lorentz(self, inner: Sum) -> Sum | None:
        """1 / (c u**2 + d) with c / d > 0 is one edge."""
        if len(inner.terms) != 1 or inner.terms[0].f != "x**2" or inner.constant == 0:
            return None
        term = inner.terms[0]
        ratio = term.c / inner.constant
        if not ratio > 0:
            return None
        root = algebra().sqrt(ratio)
        return Sum((term._replace(c=1 / inner.constant, f="lorentz", a=root * term.a, b=root * term.b),), self.zero)

    def _need_positive(self, inner: Sum, base: Any, power: Any) -> None:
        (term,) = self.graph.identity(inner).terms
        low = min(float(term.c) * end + float(inner.constant) for end in (term.child.low, term.child.high))
        if not low > 0:
            raise ValueError(
                f"expression: expected a base above 0 on the ranges in {power}, which is exp of a logarithm, received {base} "
                f"down to {low:.6g}"
            )

    # ---- functions

    def _function(self, e: Any) -> Sum:
        """A function of the library; one that is made of such; else a spline over one variable or one node."""
        s = algebra()
        name = e.func.__name__
        if name in self.known and len(e.args) == 1:
            return self._call(self.known[name], e.args[0])
        if name in self.rewritten:
            return self.read(self.rewritten[name](*e.args))
        symbol = s.Symbol("x", real=True)
        if isinstance(e, s.Function) and len([part for part in e.args if part.free_symbols]) == 1:
            (inner,) = (part for part in e.args if part.free_symbols)
            f = s.Lambda(symbol, e.func(*(symbol if part == inner else part for part in e.args)))
            return self.graph.applied(f, self.read(inner))
        if len(e.free_symbols) == 1 and isinstance(e, s.Expr):
            (variable,) = e.free_symbols
            return self.graph.applied(s.Lambda(symbol, e.subs(variable, symbol)), self.read(variable))
        raise ValueError(f"expression: expected sums, products, powers and functions of one argument, received {e}")


def number(value: Any) -> Any:
    """A number without symbols; ValueError unless it is real and finite."""
    try:
        made = complex(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expression: expected real numbers, received {value}") from error
    if made.imag != 0 or not math.isfinite(made.real):
        raise ValueError(f"expression: expected real and finite numbers, received {value}")
    return value if value.is_real else algebra().Float(made.real)


def rational(exponent: Any) -> Any:
    """An exponent as a fraction where it is one to its last digit, as a float may be."""
    number(exponent)
    near = Fraction(float(exponent)).limit_denominator(LARGEST)
    return algebra().Rational(near.numerator, near.denominator) if float(near) == float(exponent) else exponent
