"""From pykan: splines, masks, formulas and products to a fastkan.KAN of the same function."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.interop.assembled import make_kan, make_layer
from fastkan.interop.pykan.names import FORMULAS, formula
from fastkan.interop.pykan.source import SHOWN, Part, read
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Columns, Products
from fastkan.splines.knots import uniform

Formulas = dict[tuple[int, int], tuple[str, tuple[float, ...]]]


class _Affine(NamedTuple):
    """What the affine maps of nodes and subnodes come to: scale and bias [O] of the layer's outputs, and what is added to the
    nodes [N] behind them: that of product nodes alone.
    """

    scale: Tensor
    bias: Tensor
    shift: Tensor


def _affine(part: Part) -> _Affine:
    """A node's scale goes into its sum, or into the first factor of its product."""
    scale, bias = part.subnode_scale.double().clone(), part.subnode_bias.double().clone()
    node_scale, shift = part.node_scale.double(), part.node_bias.double().clone()
    first = list(range(part.sums))
    place = part.sums
    for arity in part.arities:
        first.append(place)
        place += arity
    scale[first] *= node_scale
    bias[first] *= node_scale
    bias[: part.sums] += shift[: part.sums]
    shift[: part.sums] = 0
    return _Affine(scale, bias, shift)


def _formulas(layer: int, part: Part, splines: Tensor) -> tuple[Formulas, Tensor]:
    """The formulas of a layer as pykan has them, and which edges [I, O] are splines of those that `splines` says are not 0.

    ValueError for an edge that is both, and for a formula that fastkan has not.
    """
    found: Formulas = {}
    both, unknown = [], []
    there = part.mask != 0
    on = torch.zeros_like(part.symbolic_mask) if part.names is None else part.symbolic_mask
    for o, i in on.nonzero().tolist():
        a, b, c, d = part.affine[o, i].tolist()
        size = float(on[o, i])
        name = formula(part.names[o][i])
        nothing = (name == "0" or c == 0) and d == 0
        if splines[i, o]:
            if not nothing:
                both.append((i, o))
        elif name is None:
            unknown.append(f"{part.names[o][i]} on edge {(i, o)}")
        else:
            there[i, o] = False
            if name != "0" or d != 0:  # pykan's word for an edge that is gone
                found[i, o] = (name, (a, b, size * c, size * d))
    if both:
        raise ValueError(
            f"layer {layer}: expected edges that are a spline or a formula, received both at once on {_few(both)}; "
            "in pykan, set_mode(layer, i, j, 's') or 'n' leaves one of them"
        )
    if unknown:
        raise ValueError(
            f"layer {layer}: expected formulas that fastkan has ({', '.join(FORMULAS)}), received {_few(unknown)}; "
            "fastkan.formulas.add_function adds others, and in pykan unfix_symbolic makes a spline of the edge"
        )
    return found, there


def _few(items: list[Any]) -> str:
    return ", ".join(map(str, items[:SHOWN])) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def _layer(number: int, part: Part, affine: _Affine, grid_range: tuple[float, float]) -> KANLinear:
    coef = part.coef.double() * part.scale_sp.double()[..., None]
    weight = torch.cat((coef.transpose(1, 2), part.scale_base.double()[:, None]), dim=1) * part.mask.double()[:, None]
    formulas, there = _formulas(number, part, (weight != 0).any(1))
    bias = affine.bias if part.arities or affine.bias.any() else None
    grid, weight = _spread(part.grid, weight, grid_range)
    layer = make_layer(weight * affine.scale, grid, part.activation, bias, part.coef.dtype, grid_range)
    layer.set_mask(None if there.all() else there)
    if formulas:
        scale = affine.scale.tolist()
        layer.set_symbolic({(i, o): (f, (a, b, c * scale[o], d * scale[o])) for (i, o), (f, (a, b, c, d)) in formulas.items()})
    return layer


def _spread(grid: Tensor, weight: Tensor, grid_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Grid and weight without inputs whose knots are all one, as pykan leaves them for samples that are: all splines are 0 there.
    They get uniform knots and coefficients of 0.
    """
    one = (grid == grid[:, :1]).all(1)
    if not one.any():
        return grid, weight
    degree = grid.shape[1] - weight.shape[1]
    spread = uniform(len(grid), weight.shape[1] - degree - 1, degree, grid_range).to(grid)
    gone = one[:, None, None] & (torch.arange(weight.shape[1], device=grid.device) < weight.shape[1] - 1)[:, None]
    return torch.where(one[:, None], spread, grid), torch.where(gone, 0, weight)


def _shifted(like: KANLinear, shift: Tensor) -> KANLinear:
    """A layer of formulas x -> x and this bias [N]: what is added to a product, which no layer beside it can take."""
    count = len(shift)
    knots = like.knots[:1].expand(count, -1)
    weight = like.weight.new_zeros(count, like.weight.shape[1], count)
    layer = make_layer(weight, knots, like.activation, shift, grid_range=like.grid_range)
    layer.set_mask(torch.zeros(count, count, dtype=torch.bool, device=weight.device))
    layer.set_symbolic({(n, n): ("x", (1.0, 0.0, 1.0, 0.0)) for n in range(count)})
    return layer


@torch.no_grad()
def from_pykan(
    source: Any | Mapping[str, Any] | str | os.PathLike[str],
    config: Mapping[str, Any] | None = None,
    in_features: int | None = None,
) -> KAN:
    """A KAN of the same function as a pykan model (KAN or MultKAN of pykan 0.2), on its knots, in its dtype, on its device.

    source: the live model; its state dict; or the path that was given to its saveckpt: <path>_config.yml and <path>_state are
        read as plain YAML and as tensors alone, so no code of theirs runs, and <path>_cache_data, which holds samples, is left
    config: for a state dict what is in _config.yml, and input_id of a model from prune_input, which no file of pykan's holds
    in_features: columns of x for a model from prune_input; None: up to the last that it reads
    returns: splines times scale_sp and mask, and scale_base times mask, in the weights; edges whose mask is 0 are gone; formulas
        (fix_symbolic) stay formulas unless the model has symbolic_enabled=False. Scales and biases of nodes and subnodes are in
        weights and biases. A product node with a bias gets a layer behind it that adds it. All weights are trained.
    raises: TypeError or ValueError for what is no pykan model, an edge that is spline and formula at once, a formula or base
        function that fastkan has not; ImportError for a checkpoint without PyYAML; FileNotFoundError

    >>> import torch, fastkan
    >>> model = fastkan.interop.from_pykan(fastkan.interop.to_pykan(fastkan.KAN([2, (3, 1), 1])))
    >>> model.widths
    [2, (3, 1), 1]
    """
    found = read(source, config)
    modules: list[nn.Module] = []
    if found.columns is not None:
        count = max(found.columns, default=-1) + 1
        if in_features is not None and in_features < count:
            raise ValueError(
                f"in_features: expected at least {count}, as the model reads column {count - 1}, received {in_features}"
            )
        index = torch.tensor(found.columns, device=found.parts[0].grid.device)
        modules.append(Columns(index, in_features or count))
    elif in_features not in (None, len(found.parts[0].grid)):
        raise ValueError(f"in_features: expected None or {len(found.parts[0].grid)}, received {in_features}")
    for number, part in enumerate(found.parts):
        affine = _affine(part)
        modules.append(layer := _layer(number, part, affine, found.grid_range))
        if part.arities:
            modules.append(Products(part.sums, part.arities))
        if affine.shift.any():
            modules.append(_shifted(layer, affine.shift))
    return make_kan(modules)
