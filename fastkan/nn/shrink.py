"""A smaller KAN of the same function: what is constant goes into biases, what is not read goes, the rest is cut out."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn.edges import alive, present
from fastkan.nn.grid import normal_tensors
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Columns, Products
from fastkan.nn.stack import Stage, columns, double, in_features, means, stages, walk
from fastkan.nn.symbolic import SymbolicEdges

# ---- one layer


def _set_symbolic(layer: KANLinear, edges: list[tuple[int, int, str]], affine: Tensor) -> None:
    """Give a layer these formulas, with affine [E, 4] in their order."""
    trained = layer.symbolic is not None and layer.symbolic.affine.requires_grad
    del layer.symbolic  # a module in the place of None would still be listed as a child
    layer.symbolic = SymbolicEdges(edges, affine, layer.out_features).requires_grad_(trained) if edges else None


def take_out(layer: KANLinear, gone: Tensor, constants: Tensor | None = None) -> None:
    """Remove the edges `gone` [I, O]; their constants [I, O] go into the bias."""
    gone = gone & alive(layer)
    if not gone.any():
        return
    if constants is not None:
        added = torch.where(gone, constants, 0).sum(0)
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(added), layer.weight.requires_grad)
        layer.bias.add_(added)
    splines = present(layer) & ~gone
    if layer.symbolic is not None:
        left = [k for k, (i, o, _) in enumerate(layer.symbolic.edges) if not gone[i, o]]
        _set_symbolic(layer, [layer.symbolic.edges[k] for k in left], layer.symbolic.affine[left])
    layer.set_mask(splines)


def scale_output(layer: KANLinear, o: int, factor: float) -> None:
    """Multiply one output, its bias included."""
    layer.weight[:, :, o] *= factor
    if layer.bias is not None:
        layer.bias[o] *= factor
    if layer.symbolic is not None:
        layer.symbolic.affine[[k for k, edge in enumerate(layer.symbolic.edges) if edge[1] == o], 2:] *= factor


def select(layer: KANLinear, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Keep these inputs and outputs, in this order. The others have no edges, or nobody reads them."""
    rows, cols = (torch.tensor(list(kept), dtype=torch.long, device=layer.weight.device) for kept in (inputs, outputs))
    mask = present(layer)[rows][:, cols]
    layer.in_features, layer.out_features = len(rows), len(cols)
    layer.weight = nn.Parameter(layer.weight[rows][:, :, cols], layer.weight.requires_grad)
    layer.knots = layer.knots[rows]
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[cols], layer.bias.requires_grad)
    if layer.symbolic is not None:
        row, col = ({old: new for new, old in enumerate(kept)} for kept in (inputs, outputs))
        left = [k for k, (i, o, _) in enumerate(layer.symbolic.edges) if i in row and o in col]
        edges = [(row[i], col[o], name) for i, o, name in (layer.symbolic.edges[k] for k in left)]
        _set_symbolic(layer, edges, layer.symbolic.affine[left])
    layer.set_mask(None if mask.all() else mask)


# ---- constants and what nobody reads


def _biases(layer: KANLinear) -> list[float]:
    return [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()


def _constant_nodes(stage: Stage) -> dict[int, float]:
    """The nodes that do not depend on x, with their values. Constant factors of other products go into a factor that stays."""
    fed, biases = alive(stage.layer).any(0).tolist(), _biases(stage.layer)
    found = {}
    first = 0
    for node, size in enumerate(stage.sizes):
        factors = range(first, first + size)
        first += size
        still = [o for o in factors if not fed[o]]
        value = math.prod(biases[o] for o in still)
        if len(still) == size or (still and value == 0):
            found[node] = value
        elif still:
            scale_output(stage.layer, factors[[fed[o] for o in factors].index(True)], value)
    return found


def _settle(stage: Stage, constant: dict[int, float]) -> None:
    """Give constant nodes of the model's answer no edges, and their values to their first factors, which alone stay."""
    owners = stage.owners()
    for node, value in constant.items():
        factors = (owners == node).nonzero().flatten()
        take_out(stage.layer, (owners == node).expand(stage.layer.in_features, -1))
        if stage.layer.bias is not None:
            stage.layer.bias[factors[0]] = value


def fold(model: KAN) -> None:
    """Leave no edges out of constant nodes, and none into nodes that nobody reads.

    The function stays once `cut_out` has dropped the factors without edges: their biases have gone into others.
    """
    parts = stages(model)
    for stage, (layer, _) in pairwise(parts):
        values = _constant_nodes(stage)
        at = layer.weight.new_tensor([values.get(node, 0.0) for node in range(layer.in_features)])
        gone = torch.tensor([node in values for node in range(layer.in_features)], dtype=torch.bool, device=at.device)
        if values:
            take_out(layer, gone[:, None], means(layer, at[None]))
    _settle(parts[-1], _constant_nodes(parts[-1]))
    for stage, (layer, _) in reversed(list(pairwise(parts))):
        take_out(stage.layer, ~alive(layer).any(1)[stage.owners()])


# ---- the cut


def _kept_factors(stage: Stage, nodes: list[int]) -> list[list[int]]:
    """For each of these nodes its outputs of the layer that have edges; one where none has."""
    fed, owners = alive(stage.layer).any(0), stage.owners()
    factors = [(owners == node).nonzero().flatten() for node in nodes]
    return [(some[fed[some]] if fed[some].any() else some[:1]).tolist() for some in factors]


class Shrunk(NamedTuple):
    """A smaller model, and for each layer of hidden nodes the places that its nodes had before."""

    model: KAN
    hidden: list[list[int]]


def cut_out(model: KAN) -> Shrunk:
    """Rebuild a folded model without inputs, nodes and factors that have no edges. It is changed."""
    parts = stages(model)
    inputs = alive(parts[0].layer).any(1).nonzero().flatten().tolist()
    read, taken = [columns(model)[i] for i in inputs], in_features(model)
    modules: list[nn.Module] = []
    if len(read) < taken:
        modules.append(Columns(torch.tensor(read, device=parts[0].layer.weight.device), taken))
    hidden = []
    for k, stage in enumerate(parts):
        answer = k == len(parts) - 1
        nodes = list(range(stage.nodes.out_features)) if answer else alive(parts[k + 1].layer).any(1).nonzero().flatten().tolist()
        factors = _kept_factors(stage, nodes)
        if not answer:  # a product of one factor is a sum; the model's answer keeps its order
            order = sorted(range(len(nodes)), key=lambda n: len(factors[n]) > 1)
            nodes, factors = [nodes[n] for n in order], [factors[n] for n in order]
            hidden.append(nodes)
        select(stage.layer, inputs, [o for some in factors for o in some])
        modules.append(stage.layer)
        arities = [len(some) for some in factors]
        sums = next((n for n, arity in enumerate(arities) if arity > 1), len(arities))
        if sums < len(arities):
            modules.append(Products(sums, arities[sums:]))
        inputs = nodes
    model._modules.clear()
    for k, module in enumerate(modules):
        model.add_module(str(k), module.train(model.training))
    return Shrunk(model, hidden)


@normal_tensors
def shrunk(model: KAN, x: Tensor, gone: Sequence[Tensor]) -> Shrunk | None:
    """A smaller copy without the edges `gone`, [I, O] a layer; None if it would be a constant.

    The mean over x [B, I] of what goes moves into the biases.
    """
    made = double(model)
    for (stage, inputs), edges in zip(walk(made, x), gone, strict=True):
        take_out(stage.layer, edges, means(stage.layer, inputs))
    fold(made)
    if not alive(stages(made)[-1].layer).any():
        return None
    for stage, original in zip(stages(made), stages(model), strict=True):
        stage.layer.to(original.layer.weight.dtype)
    return cut_out(made)
