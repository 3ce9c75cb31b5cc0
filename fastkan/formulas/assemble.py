"""From the nodes of a graph to the layers of a KAN."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkan.formulas.algebra import algebra
from fastkan.formulas.graph import Graph, Node, Sum, Term, multiplied, numbers
from fastkan.nn import KAN, KANLinear, Products
from fastkan.nn.edges import slot_values
from fastkan.splines.knots import uniform_points

POINTS = 20  # a cell, to which a spline is fitted
NARROWEST = 1e-6  # width of a grid, as a share of its largest number


class Plan(NamedTuple):
    """Nodes of every level: the inputs, ..., the outputs. sources: what carries a node to a level, itself in its own."""

    levels: list[list[Node]]
    sources: dict[tuple[int, int], Node]


def _is_product(total: Sum) -> bool:
    """Whether it is a product node times a number."""
    return len(total.terms) == 1 and total.terms[0].is_identity and total.constant == 0 and total.terms[0].child.is_product


def _finals(graph: Graph, outputs: Sequence[Sum]) -> list[Node]:
    """The output nodes, all of the last level. A product ends a model where no sum comes after it."""
    settled = [graph.settled(total) for total in outputs]
    own = [total.terms[0].child.level if _is_product(total) else total.level for total in settled]
    last = max(own)
    products = [_is_product(total) and total.terms[0].child.level == last for total in settled]
    if products != sorted(products):
        last, products = last + 1, [False] * len(products)
    finals: list[Node] = []
    for total, product in zip(settled, products, strict=True):
        if product:
            (term,) = total.terms
            first, *others = term.child.factors
            factors = (first.times(term.c), *others)
        else:
            factors = (graph.gathered(total, last),)
        finals.append(Node(-1 - len(finals), last, factors, multiplied(factors)))
        graph.bound(finals[-1])
    return finals


def _from_nodes(graph: Graph, total: Sum, level: int) -> Sum:
    """The same for a node of this level: a function of what would have to be carried here, if it is a node, is read there."""
    zero, one = algebra().Integer(0), algebra().Integer(1)
    children = {term.child.number for term in total.terms}
    terms = []
    for term in total.terms:
        node = graph.made.get((((one, *term.of()), zero),))
        waits = not term.is_identity and term.child.level < level - 1
        if waits and node is not None and node.level < level and node.number not in children:
            children.add(node.number)
            term = Term(term.c, "x", one, zero, node)
        terms.append(term)
    return Sum(tuple(terms), total.constant)


def planned(graph: Graph, outputs: Sequence[Sum]) -> Plan:
    """Put nodes into levels; values that wait for a higher one are carried there by identity edges."""
    finals = _finals(graph, outputs)
    levels: list[list[Node]] = [list(graph.inputs), *([] for _ in range(finals[0].level))]
    levels[-1] = finals
    sources: dict[tuple[int, int], Node] = {(node.number, 0): node for node in graph.inputs}
    zero, one = algebra().Integer(0), algebra().Integer(1)
    for level in range(len(levels) - 1, 0, -1):
        for node in levels[level]:
            node.factors = tuple(_from_nodes(graph, factor, level) for factor in node.factors)
            for term in (term for factor in node.factors for term in factor.terms):
                at = (term.child.number, level - 1)
                if at in sources:
                    continue
                if term.child.level == level - 1:
                    sources[at] = term.child
                else:
                    factors = (Sum((Term(one, "x", one, zero, term.child),), zero),)
                    sources[at] = Node(term.child.number, level - 1, factors, term.child.expression)
                    sources[at].low, sources[at].high = term.child.low, term.child.high
                levels[level - 1].append(sources[at])
    for nodes in levels[1:-1]:
        nodes.sort(key=lambda node: (node.is_product, node.number))
    return Plan(levels, sources)


def assembled(plan: Plan, inputs: int, grid_size: int, degree: int, dtype: torch.dtype) -> tuple[KAN, dict[str, float]]:
    """The KAN of a plan, and for every function that became a spline how far that is off, as a share of its size."""
    model = KAN([inputs, 1], grid_size, degree, dtype=torch.float64, seed=0)
    modules: list[nn.Module] = []
    errors: dict[str, float] = {}
    for level in range(1, len(plan.levels)):
        layer, found = _layer(plan, level, grid_size, degree)
        modules.append(layer)
        errors |= {name: max(error, errors.get(name, 0.0)) for name, error in found.items()}
        nodes = plan.levels[level]
        arities = [len(node.factors) for node in nodes if node.is_product]
        if arities:
            modules.append(Products(len(nodes) - len(arities), arities))
    model._modules.clear()
    for k, module in enumerate(modules):
        model.add_module(str(k), module)
    return model.to(dtype), errors


def _layer(plan: Plan, level: int, grid_size: int, degree: int) -> tuple[KANLinear, dict[str, float]]:
    below = plan.levels[level - 1]
    place = {id(node): i for i, node in enumerate(below)}
    sums = [factor for node in plan.levels[level] for factor in node.factors]
    constant = [not factor.terms for factor in sums]
    layer = KAN([len(below), len(sums)], grid_size, degree, bias=any(constant), dtype=torch.float64, seed=0).layers[0]
    layer.knots.copy_(knots_over([(node.low, node.high) for node in below], layer))
    formulas: dict[tuple[int, int], tuple[str, tuple[float, float, float, float]]] = {}
    splines: list[tuple[int, int, Term, float]] = []
    layer.set_mask(torch.zeros(len(below), len(sums), dtype=torch.bool))
    for o, factor in enumerate(sums):
        if constant[o] and layer.bias is not None:
            layer.bias[o] = float(factor.constant)
        for k, term in enumerate(factor.terms):
            i = place[id(plan.sources[term.child.number, level - 1])]
            shift = 0.0 if k else float(factor.constant)
            if isinstance(term.f, str):
                formulas[i, o] = (term.f, (float(term.a), float(term.b), float(term.c), shift))
            else:
                splines.append((i, o, term, shift))
    layer.set_symbolic(formulas)
    if splines:
        mask = torch.zeros(len(below), len(sums), dtype=torch.bool)
        for i, o, *_ in splines:
            mask[i, o] = True
        layer.set_mask(mask)
    return layer, {str(term.f.expr.func.__name__): _fit(layer, below[i], i, o, term, shift) for i, o, term, shift in splines}


def knots_over(ranges: Sequence[tuple[float, float]], layer: KANLinear) -> Tensor:
    """Uniform knots over each range, for a layer's grid size [ranges, G + 2p + 1]. An empty range gets one beside it."""
    rows = []
    for low, high in ranges:
        least = NARROWEST * max(1.0, abs(low), abs(high))
        ends = (low, high) if high - low > least else (low - least, high + least)
        rows.append(uniform_points(layer.grid_size, layer.degree, ends))
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), layer.knots.shape[1])


def _fit(layer: KANLinear, node: Node, i: int, o: int, term: Term, shift: float) -> float:
    """Make an edge the spline next to c f(a t + b) + shift over the node's range. How far it is off, as a share of its size."""
    t = torch.linspace(node.low, node.high, POINTS * layer.grid_size + 1, dtype=torch.float64)
    wanted = float(term.c) * numbers(term.f, float(term.a) * t + float(term.b)) + shift
    slots = slot_values(layer, t[:, None].expand(-1, layer.in_features).contiguous())[:, i, :-1]
    # gelsd: the default driver is wrong where no sample lies in the first cells
    coefficients = torch.linalg.lstsq(slots, wanted[:, None], driver="gelsd").solution[:, 0]
    layer.weight[i, :-1, o] = coefficients
    layer.weight[i, -1, o] = 0
    return float((slots @ coefficients - wanted).abs().max() / wanted.abs().max().clamp(min=1e-300))
