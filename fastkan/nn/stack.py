"""A KAN as a row of stages, and what its edges do on samples. In float64, so that small edges are told from rounding."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn.edges import edge_deviations, edge_means, slot_moments
from fastkan.nn.functions import function
from fastkan.nn.grid import check_finite, check_samples
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Columns, Products

ROUNDING = 1e-12  # of a float64 result, relative to its size
NOISE = 1e-6  # a sum that moves so much less than its edges is constant: what is left is their rounding


class Stage(NamedTuple):
    """A layer of edges and the nodes that it feeds; without products they are the layer's outputs."""

    layer: KANLinear
    nodes: Products

    @property
    def sizes(self) -> list[int]:
        """How many of the layer's outputs each node takes."""
        return [1] * self.nodes.sums + list(self.nodes.arities)

    def owners(self) -> Tensor:
        """The node that each output of the layer belongs to [O]."""
        sizes = torch.tensor(self.sizes, dtype=torch.long, device=self.layer.weight.device)
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)


def stages(model: nn.Module) -> list[Stage]:
    """The stages of a KAN; TypeError for a model that is none, or holds other modules."""
    if not isinstance(model, KAN):
        raise TypeError(f"model: expected a fastkan.KAN, received {type(model).__name__}")
    found: list[Stage] = []
    modules: list[nn.Module] = [*model]
    for module in modules[1:] if modules and isinstance(modules[0], Columns) else modules:
        if isinstance(module, KANLinear) and module.scale is not None:
            raise TypeError("model: expected plain splines, received a layer with spline_scale; use set_spline_scale(None)")
        if isinstance(module, KANLinear) and "weight" in module._parameters:
            found.append(Stage(module, Products(module.out_features, ())))
        elif isinstance(module, Products) and found and not found[-1].nodes.arities:
            found[-1] = Stage(found[-1].layer, module)
        else:
            raise TypeError(f"model: expected Columns, then KANLinear of plain weights and Products, received {module} there")
    if not found:
        raise TypeError("model: expected a KANLinear in it, received none")
    return found


def columns(model: KAN) -> list[int]:
    """Which columns of x the model reads, in order."""
    first: nn.Module = model[0]
    return first.index.tolist() if isinstance(first, Columns) else list(range(stages(model)[0].layer.in_features))


def in_features(model: KAN) -> int:
    """How many columns x has."""
    return model[0].in_features


def double(model: KAN) -> KAN:
    """A copy in float64."""
    return copy.deepcopy(model).double()


def rows(model: KAN, x: Tensor) -> Tensor:
    """Samples x [..., I] of a KAN as float64 [B, I]; raises for a model that is none, for no rows, NaN or infinity."""
    stages(model)
    samples = check_samples(x, in_features(model))
    check_finite(samples)
    return samples


def spread(y: Tensor) -> Tensor:
    """The standard deviation of every column of y [B, O]; 0 where it is no more than rounding."""
    deviations = y.std(0, correction=0)
    return torch.where(deviations > ROUNDING * y.abs().amax(0), deviations, 0)


def walk(model: KAN, x: Tensor) -> Iterator[tuple[Stage, Tensor]]:
    """Every stage with the inputs [B, I] of its layer at x. What is changed in a stage counts in the next."""
    x = x[:, columns(model)]
    for stage in stages(model):
        yield stage, x
        x = stage.nodes(stage.layer(x))


def means(layer: KANLinear, x: Tensor) -> Tensor:
    """The mean of every edge [I, O] over x [B, I], splines and formulas."""
    found = edge_means(layer, slot_moments(layer, x))
    if layer.symbolic is not None:
        for (i, o, name), (a, b, c, d) in zip(layer.symbolic.edges, layer.symbolic.affine.unbind(), strict=True):
            found[i, o] = (c * function(name).call(a * x[:, i] + b) + d).mean()
    return found


def ratio(numerator: Tensor, denominator: Tensor, least: Tensor | float = 0.0) -> Tensor:
    """numerator / denominator, and 0 where the denominator is at most `least`."""
    positive = denominator > least
    return torch.where(positive, numerator / torch.where(positive, denominator, 1), 0)


def backward_scores(traced: list[tuple[Stage, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Scores of every layer of nodes and of every layer's edges [I, O]: shares of the outputs, see fastkan.explain.attribute."""
    last = traced[-1][0].nodes.out_features
    nodes = [traced[-1][1].new_full((last,), 1 / last)]
    edges: list[Tensor] = []
    for (layer, _), owners, x in reversed([(stage, stage.owners(), x) for stage, x in traced]):
        deviations = edge_deviations(layer, x)
        moves = layer(x).std(0, correction=0)
        edges.insert(0, deviations * ratio(nodes[0][owners], moves, NOISE * deviations.sum(0)))
        nodes.insert(0, edges[0].sum(1))
    return nodes, edges
