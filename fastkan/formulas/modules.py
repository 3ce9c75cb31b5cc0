"""Modules in a KAN: hidden nodes that belong together, brought side by side."""

import copy
import math
from itertools import pairwise, permutations, product
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.explain import attribute
from fastkan.nn import KAN, Products
from fastkan.nn.edges import alive
from fastkan.nn.grid import normal_tensors
from fastkan.nn.shrink import select
from fastkan.nn.stack import Stage, stages

EXACT = 720  # orders of a layer up to which all are compared: 6 nodes without products
SWEEPS = 50
TINY = 1e-12  # of a distance, which is rounding

Order = list[int]


class Swapped(NamedTuple):
    """A model whose hidden nodes have changed places.

    permutations: for each layer of hidden nodes, which node was where each one is now
    distance: of all edges together, before and after
    exact: whether no order has a smaller one; else none that differs in one layer has
    """

    model: KAN
    permutations: list[list[int]]
    distance: tuple[float, float]
    exact: bool


# ---- distances


def _places(nodes: int) -> Tensor:
    return (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes


def _far(weight: Tensor) -> Tensor:
    """What it costs that a node is at a place [N, places], for weights [N, fixed nodes]."""
    n, fixed = weight.shape
    return weight @ (_places(fixed)[:, None] - _places(n)).abs()


def _distance(weights: list[Tensor], orders: list[Order]) -> float:
    """Of all edges, the layers' nodes being in these orders; the first and the last one's in their own."""
    every = [list(range(len(weights[0]))), *orders, list(range(weights[-1].shape[1]))]
    parts = [_far(w[a][:, b]).diagonal().sum() for w, (a, b) in zip(weights, pairwise(every), strict=True)]
    return float(sum(parts))


def _weights(model: KAN, x: Tensor | None) -> list[Tensor]:
    """How much each pair of nodes in neighbouring layers is connected [N, next N], one a layer of edges."""
    parts = stages(model)
    edges = [alive(stage.layer).double() for stage in parts] if x is None else attribute(model, x).edges
    found = []
    for stage, edge in zip(parts, edges, strict=True):
        weight = edge.new_zeros(len(edge), stage.nodes.out_features)
        found.append(weight.index_add_(1, stage.owners(), edge).double().cpu())
    return found


# ---- orders


def _all_orders(nodes: Products) -> list[Order]:
    """Every order of a layer's nodes: sums before products."""
    sums, products = range(nodes.sums), range(nodes.sums, nodes.out_features)
    return [[*a, *b] for a, b in product(permutations(sums), permutations(products))]


def _count(nodes: Products) -> int:
    return math.factorial(nodes.sums) * math.factorial(len(nodes.arities))


def _best(weights: list[Tensor], layers: list[Products]) -> list[Order]:
    """The orders of the smallest distance, layer by layer: for each order of a layer the best ones of those before."""
    options = [[list(range(len(weights[0])))], *map(_all_orders, layers), [list(range(weights[-1].shape[1]))]]
    cost, came = torch.zeros(1, dtype=torch.float64), []
    for weight, (before, after) in zip(weights, pairwise(options), strict=True):
        rank = [torch.tensor(orders).argsort(1) for orders in (before, after)]  # the place of each node
        here, there = (_places(weight.shape[k])[rank[k]] for k in (0, 1))
        total = torch.stack([((here[:, :, None] - one).abs() * weight).sum((1, 2)) for one in there], dim=1)
        cost, at = (cost[:, None] + total).min(0)
        came.append(at)
    chosen = [0]
    for at in reversed(came):
        chosen.insert(0, int(at[chosen[0]]))
    return [orders[k] for orders, k in zip(options[1:-1], chosen[1:-1], strict=True)]


def _assigned(cost: Tensor) -> Order:
    """For each place the node there, of the least total cost [node, place] (Kuhn's algorithm with potentials)."""
    n = len(cost)
    table = cost.tolist()
    u, v, owner = [0.0] * (n + 1), [0.0] * (n + 1), [0] * (n + 1)  # owner: of each place, from 1; 0 is none
    for node in range(1, n + 1):
        owner[0], place = node, 0
        least, back, done = [math.inf] * (n + 1), [0] * (n + 1), [False] * (n + 1)
        while owner[place]:
            done[place] = True
            row, step, following = owner[place], math.inf, 0
            for j in range(1, n + 1):
                if not done[j]:
                    reduced = table[row - 1][j - 1] - u[row] - v[j]
                    if reduced < least[j]:
                        least[j], back[j] = reduced, place
                    if least[j] < step:
                        step, following = least[j], j
            for j in range(n + 1):
                if done[j]:
                    u[owner[j]] += step
                    v[j] -= step
                else:
                    least[j] -= step
            place = following
        while place:
            owner[place], place = owner[back[place]], back[place]
    return [node - 1 for node in owner[1:]]


def _descended(weights: list[Tensor], layers: list[Products]) -> list[Order]:
    """Orders found by giving one layer after another its best one, which an assignment is, until none moves."""
    orders = [list(range(nodes.out_features)) for nodes in layers]
    best = _distance(weights, orders)
    for _ in range(SWEEPS):
        start = best
        for k, nodes in [*enumerate(layers), *reversed(list(enumerate(layers)))]:
            before = orders[k - 1] if k else list(range(len(weights[0])))
            after = orders[k + 1] if k + 1 < len(layers) else list(range(weights[-1].shape[1]))
            cost = _far(weights[k][before].T) + _far(weights[k + 1][:, after])
            s = nodes.sums
            trial = [*_assigned(cost[:s, :s]), *(s + i for i in _assigned(cost[s:, s:]))]
            tried = [*orders[:k], trial, *orders[k + 1 :]]
            distance = _distance(weights, tried)
            if distance < best - TINY:
                orders, best = tried, distance
        if best >= start - TINY:
            break
    return orders


# ---- what users call


def _reorder(stage: Stage, following: Stage, order: Order) -> Products:
    """Give hidden nodes this order. The nodes behind the stage."""
    owners = stage.owners().tolist()
    outputs = [o for node in order for o in range(len(owners)) if owners[o] == node]
    select(stage.layer, range(stage.layer.in_features), outputs)
    select(following.layer, order, range(following.layer.out_features))
    return Products(stage.nodes.sums, [stage.sizes[node] for node in order[stage.nodes.sums :]])


@normal_tensors
def auto_swap(model: KAN, x: Tensor | None = None) -> Swapped:
    """A copy of a KAN whose hidden nodes lie close to what they are connected with, so that modules show (Liu et al.,
    arXiv:2408.10205).

    x: samples [..., I], by which edges count as much as they matter (see fastkan.explain.attribute); None: all that are there
        count the same
    returns: Swapped, with a model of the same function. The distance is the sum over edges of how far their ends are apart, where
        the nodes of a layer lie evenly from 0 to 1; inputs and outputs stay, and sums stay before products. The smallest is found
        where no layer has more than 720 orders (6 nodes); with more, the best order of each layer given the others'.
    raises: TypeError for a model that is no KAN of plain layers; ValueError for samples that are none of it

    >>> import torch, fastkan
    >>> model = fastkan.KAN([2, 2, 2])
    >>> for layer in model.layers:
    ...     layer.set_mask(torch.tensor([[False, True], [True, False]]))
    >>> fastkan.formulas.auto_swap(model).permutations
    [[1, 0]]
    """
    weights = _weights(model, x)
    made = copy.deepcopy(model)
    parts = stages(made)
    layers = [stage.nodes for stage in parts[:-1]]
    orders = [list(range(nodes.out_features)) for nodes in layers]
    before = _distance(weights, orders)
    exact = all(_count(nodes) <= EXACT for nodes in layers)
    found = _best(weights, layers) if exact else _descended(weights, layers)
    after = _distance(weights, found)
    if after >= before - TINY:
        return Swapped(made, orders, (before, before), exact)
    behind = [_reorder(stage, following, order) for (stage, following), order in zip(pairwise(parts), found, strict=True)]
    for name, module in list(made._modules.items()):
        if isinstance(module, Products) and module is not parts[-1].nodes:
            made._modules[name] = behind[next(k for k, nodes in enumerate(layers) if nodes is module)].train(module.training)
    return Swapped(made, found, (before, after), exact)
