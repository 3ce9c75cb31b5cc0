"""An expression as nodes of a KAN: sums of c f(a node + b), and products of such sums. What is equal is one node."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan.formulas.algebra import algebra, applied
from fastkan.nn import FUNCTIONS

SAMPLES, ROUNDS, AROUND = 2048, 8, 64  # points of the ranges; then so many times so many points around what is extreme
CORNERS = 10  # up to so many variables all corners are samples
TABLE = 1001  # points of a function that the library does not have


class Node:
    """An input, a sum (one factor) or a product of sums, and the least and largest values that it takes on the ranges."""

    def __init__(self, number: int, level: int, factors: tuple["Sum", ...], expression: Any) -> None:
        self.number, self.level, self.factors, self.expression = number, level, factors, expression
        self.low = self.high = 0.0

    @property
    def is_product(self) -> bool:
        return len(self.factors) > 1


class Term(NamedTuple):
    """c f(a child + b). f: a name of the library, or a function of sympy that becomes a spline."""

    c: Any
    f: Any
    a: Any
    b: Any
    child: Node

    @property
    def is_identity(self) -> bool:
        return bool(self.f == "x")

    def of(self) -> tuple[Any, ...]:
        """What it is, apart from its size."""
        return (self.child.number, str(self.f), self.a, self.b)


class Sum(NamedTuple):
    """The sum of its terms and a constant."""

    terms: tuple[Term, ...]
    constant: Any

    @property
    def level(self) -> int:
        return 1 + max((term.child.level for term in self.terms), default=0)

    def has_one_term_a_child(self) -> bool:
        return len({term.child.number for term in self.terms}) == len(self.terms)

    def times(self, factor: Any) -> "Sum":
        return Sum(tuple(term._replace(c=term.c * factor) for term in self.terms), self.constant * factor)


def combined(parts: Iterable[Sum]) -> Sum:
    """Their sum. Terms that differ in size alone are one."""
    sizes: dict[tuple[Any, ...], Term] = {}
    constant = algebra().Integer(0)
    for part in parts:
        constant += part.constant
        for term in part.terms:
            before = sizes.get(term.of())
            sizes[term.of()] = term if before is None else before._replace(c=before.c + term.c)
    terms = [term for term in sizes.values() if term.c != 0]
    return Sum(tuple(sorted(terms, key=lambda term: term.child.number)), constant)


def points_of(ranges: Sequence[tuple[float, float]], count: int = SAMPLES) -> Tensor:
    """Samples [N, I] of the box, its corners and its middle beside `count` others."""
    low, high = torch.tensor(ranges, dtype=torch.float64).unbind(1)
    inner = torch.quasirandom.SobolEngine(len(ranges)).draw(count, dtype=torch.float64)
    parts = [inner, torch.full_like(inner[:1], 0.5)]
    if len(ranges) <= CORNERS:
        parts.append(torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(ranges))), dtype=torch.float64))
    return low + (high - low) * torch.cat(parts)


class Graph:
    """Nodes over the ranges of the variables, each made once. early: what is added or multiplied in a higher level is brought
    together as early as it can be, instead of being carried there one by one.
    """

    def __init__(self, variables: Sequence[Any], ranges: Sequence[tuple[float, float]], early: bool) -> None:
        self.early, self.ranges = early, torch.tensor(ranges, dtype=torch.float64)
        self.points = points_of(ranges)
        self.made: dict[Any, Node] = {}
        self.tables: dict[Any, tuple[Tensor, Tensor]] = {}
        self.inputs = [Node(k, 0, (), variable) for k, variable in enumerate(variables)]
        for node, (low, high) in zip(self.inputs, ranges, strict=True):
            node.low, node.high = low, high
        self.count = len(self.inputs)

    # ---- values

    def values(self, node: Node, x: Tensor, known: dict[int, Tensor] | None = None) -> Tensor:
        """A node's values at x [N, I] -> [N]."""
        known = {} if known is None else known
        if node.level == 0:
            return x[:, node.number]
        if node.number not in known:
            value = torch.ones(len(x), dtype=torch.float64)
            for factor in node.factors:
                total = torch.full((len(x),), float(factor.constant), dtype=torch.float64)
                for term in factor.terms:
                    z = float(term.a) * self.values(term.child, x, known) + float(term.b)
                    total = total + float(term.c) * self._call(term.f, z)
                value = value * total
            known[node.number] = value
        return known[node.number]

    def _call(self, f: Any, z: Tensor) -> Tensor:
        if isinstance(f, str):
            return FUNCTIONS[f].call(z)
        t, values = self.tables[f]
        right = torch.searchsorted(t, z.contiguous()).clamp(1, len(t) - 1)
        share = (z - t[right - 1]) / (t[right] - t[right - 1])
        return values[right - 1] + share * (values[right] - values[right - 1])

    def bound(self, node: Node) -> None:
        """Find its least and largest values: the samples' ones, then those of points ever closer around them."""
        generator = torch.Generator().manual_seed(0)
        x, size = self.points, self.ranges[:, 1] - self.ranges[:, 0]
        values = self.values(node, x)
        for _ in range(ROUNDS):
            if not values.isfinite().all():
                raise ValueError(
                    f"expression: expected finite values on the ranges, received {node.expression}, "
                    f"which has {values[~values.isfinite()][0]:g}"
                )
            ends = x[torch.stack([values.argmin(), values.argmax()])]
            size = size / 3
            step = 2 * torch.rand(2, AROUND, len(size), dtype=torch.float64, generator=generator) - 1
            near = (ends[:, None] + size * step).flatten(0, 1)
            x = torch.cat([ends, torch.minimum(torch.maximum(near, self.ranges[:, 0]), self.ranges[:, 1])])
            values = self.values(node, x)
        node.low, node.high = float(values.min()), float(values.max())

    # ---- nodes

    def settled(self, total: Sum) -> Sum:
        """The same with one term a child, as a layer has one edge between two nodes: others of the child become nodes."""
        one, zero = algebra().Integer(1), algebra().Integer(0)
        while not total.has_one_term_a_child():
            children = [term.child.number for term in total.terms]
            terms = []
            for term in total.terms:
                if children.count(term.child.number) > 1 and not term.is_identity:
                    node = self.node((Sum((term._replace(c=one),), zero),))
                    term = Term(term.c, "x", one, zero, node)
                terms.append(term)
            total = combined([Sum(tuple(terms), total.constant)])  # a new node may be the child of another term
        return total

    def gathered(self, total: Sum, level: int) -> Sum:
        """The same for a node of this level: terms that wait for it are added before."""
        if not self.early:
            return total
        waiting: list[Term] = []
        for below in range(level - 1):
            waiting += [term for term in total.terms if term.child.level == below]
            if len(waiting) > 1:
                waiting = list(self.identity(Sum(tuple(waiting), algebra().Integer(0))).terms)
        made = combined([Sum((*waiting, *(term for term in total.terms if term.child.level >= level - 1)), total.constant)])
        return made if made.has_one_term_a_child() else total

    def node(self, factors: tuple[Sum, ...]) -> Node:
        """The node that is their product. Equal ones are one."""
        factors = tuple(self.settled(factor) for factor in factors)
        level = max(factor.level for factor in factors)
        factors = tuple(self.gathered(factor, level) for factor in factors)
        if self.early and len(factors) > 2:
            factors = self._multiplied_early(factors, level)
        keys = [(*((term.c, *term.of()) for term in factor.terms), factor.constant) for factor in factors]
        ordered = [factor for _, factor in sorted(zip(keys, factors, strict=True), key=lambda pair: str(pair[0]))]
        key = tuple(sorted(keys, key=str))
        if key not in self.made:
            node = Node(self.count, level, tuple(ordered), multiplied(ordered))
            self.bound(node)
            self.made[key] = node
            self.count += 1
        return self.made[key]

    def _multiplied_early(self, factors: tuple[Sum, ...], level: int) -> tuple[Sum, ...]:
        """Factors that wait are multiplied before."""
        waiting: list[Sum] = []
        for below in range(1, level):
            waiting += [factor for factor in factors if factor.level == below]
            if len(waiting) > 1:
                waiting = [self.product(waiting)]
        return (*waiting, *(factor for factor in factors if factor.level == level))

    def identity(self, total: Sum) -> Sum:
        """The same as one node times a number plus a number; sums that differ in these alone share the node."""
        (term, *others) = total.terms
        if term.is_identity and not others:
            return total
        zero, one = algebra().Integer(0), algebra().Integer(1)
        node = self.node((Sum(total.terms, zero).times(1 / term.c),))
        return Sum((Term(term.c, "x", one, zero, node),), total.constant)

    def product(self, factors: Sequence[Sum]) -> Sum:
        """Their product: numbers in front of at most one node."""
        zero, one = algebra().Integer(0), algebra().Integer(1)
        size, moving = one, []
        for factor in factors:
            if factor.terms:
                moving.append(factor)
            else:
                size *= factor.constant
        if size == 0 or not moving:
            return Sum((), size if moving or factors else one)
        if len(moving) == 1:
            return moving[0].times(size)
        for factor in moving:
            size *= factor.terms[0].c
        node = self.node(tuple(factor.times(1 / factor.terms[0].c) for factor in moving))
        return Sum((Term(size, "x", one, zero, node),), zero)

    def applied(self, f: Any, argument: Sum) -> Sum:
        """f of a sum; ValueError with the reason where that leaves f's domain on the ranges."""
        zero, one = algebra().Integer(0), algebra().Integer(1)
        (inner,) = self.identity(argument).terms
        term = Term(one, f, inner.c, argument.constant, inner.child)
        ends = sorted(float(inner.c) * end + float(argument.constant) for end in (inner.child.low, inner.child.high))
        low, high = torch.tensor(ends, dtype=torch.float64)
        if isinstance(f, str):
            if f == "x":
                return argument
            if FUNCTIONS[f].trouble(low, high):
                raise ValueError(
                    f"expression: expected arguments in the domain of {f} on the ranges, received {written(term)} with "
                    f"arguments from {ends[0]:.6g} to {ends[1]:.6g}{_domain(f)}"
                )
        else:
            self._tabulate(f, *ends)
        return Sum((term,), zero)

    def _tabulate(self, f: Any, low: float, high: float) -> None:
        """A function that the library does not have, at points from low to high and of all ranges before."""
        if f in self.tables:
            low, high = min(low, float(self.tables[f][0][0])), max(high, float(self.tables[f][0][-1]))
        t = torch.linspace(low, high, TABLE, dtype=torch.float64)
        self.tables[f] = (t, numbers(f, t))


def _domain(name: str) -> str:
    f = FUNCTIONS[name]
    poles = ", ".join(f"{pole:.4g}" for pole in f.poles)
    parts = [f"real from {f.low:g} to {f.high:g}"] * (f.low > -torch.inf or f.high < torch.inf)
    parts += [f"not finite at {poles}" + (f" and every {f.period:.4g} from there" if f.period else "")] * bool(poles)
    return f"; it is {', '.join(parts)}" if parts else ""


def written(term: Term) -> Any:
    """A term in sympy's words."""
    argument = term.a * term.child.expression + term.b
    return term.c * (applied(term.f, argument) if isinstance(term.f, str) else term.f(argument))


def multiplied(factors: Iterable[Sum]) -> Any:
    """Their product in sympy's words."""
    sympy = algebra()
    return sympy.Mul(*(sympy.Add(factor.constant, *map(written, factor.terms)) for factor in factors))


def numbers(f: Callable[[Any], Any], t: Tensor) -> Tensor:
    """A function of sympy at t [T], by mpmath; ValueError where it is no finite real number."""
    sympy = algebra()
    symbol = sympy.Dummy()
    call = sympy.lambdify([symbol], f(symbol), "mpmath")
    found = []
    for point in t.tolist():
        try:
            value = complex(call(sympy.mpmath.mpf(point) if hasattr(sympy, "mpmath") else point))
        except (ValueError, TypeError, ZeroDivisionError, OverflowError, NameError) as error:
            raise ValueError(f"expression: expected {f(sympy.Symbol('x'))} to have a value at {point:.6g}: {error}") from error
        if abs(value.imag) > 1e-12 * abs(value) or value != value or abs(value) == float("inf"):
            raise ValueError(f"expression: expected finite real values, received {f(sympy.Symbol('x'))} at {point:.6g}: {value}")
        found.append(value.real)
    return torch.tensor(found, dtype=torch.float64)
