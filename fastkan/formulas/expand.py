"""A KAN with what is known built in, made ready to learn the rest: wider, deeper, moved away from where it is."""

import copy
import math
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from fastkan.formulas.assemble import knots_over
from fastkan.formulas.graph import points_of
from fastkan.nn import KAN, KANLinear, Products, SymbolicEdges
from fastkan.nn.edges import present
from fastkan.nn.functions import function
from fastkan.nn.grid import normal_tensors
from fastkan.nn.shrink import select
from fastkan.nn.stack import double, stages
from fastkan.nn.start import seeded

SAMPLES = 2**14  # points of the first layer's grids, which show what later layers receive
MARGIN = 0.1  # beside what samples give to a formula: others give a little more
WHERE = ("present", "absent", "all")

# ---- what nodes receive


def _inputs(model: KAN) -> Tensor:
    """Points all over the grids of the first layer, corners among them, in float64 [B, I]."""
    layer = stages(model)[0].layer
    knots, p = layer.knots.double(), layer.degree
    return points_of(torch.stack([knots[:, p], knots[:, -1 - p]], dim=1).tolist(), SAMPLES).to(knots.device)


def _knots(values: Tensor, layer: KANLinear) -> Tensor:
    """Uniform knots over each column of values [B, N], for a layer's grid size: [N, G + 2p + 1]."""
    ranges = zip(values.amin(0).tolist(), values.amax(0).tolist(), strict=True)
    return knots_over([ends if all(map(math.isfinite, ends)) else (-1.0, 1.0) for ends in ranges], layer)


def _like(layer: KANLinear, inputs: int, outputs: int, activation: str | None = None) -> KANLinear:
    """A new layer of other size with a layer's settings and frozen where that is."""
    made = KANLinear(
        inputs, outputs, False, layer.grid_size, layer.degree, layer.grid_range, activation or layer.activation, layer.backend,
        layer.weight.device, layer.weight.dtype,
    )  # fmt: skip
    made.weight.requires_grad_(layer.weight.requires_grad)
    return made.train(layer.training)


# ---- wider


def _append_outputs(layer: KANLinear, count: int, new: Tensor) -> None:
    """count more outputs, splines of these weights [I, M, count]."""
    mask = torch.cat([present(layer), torch.ones(layer.in_features, count, dtype=torch.bool, device=new.device)], dim=1)
    layer.weight = nn.Parameter(torch.cat([layer.weight, new], dim=2), layer.weight.requires_grad)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.cat([layer.bias, layer.bias.new_zeros(count)]), layer.bias.requires_grad)
    layer.out_features += count
    if layer.symbolic is not None:
        trained, edges, affine = layer.symbolic.affine.requires_grad, layer.symbolic.edges, layer.symbolic.affine
        layer.symbolic = SymbolicEdges(edges, affine, layer.out_features).requires_grad_(trained)
    layer.set_mask(None if mask.all() else mask)


def _append_inputs(layer: KANLinear, knots: Tensor) -> None:
    """More inputs with these knots; their edges are splines of weight 0."""
    count = len(knots)
    mask = torch.cat([present(layer), torch.ones(count, layer.out_features, dtype=torch.bool, device=knots.device)])
    zeros = layer.weight.new_zeros(count, *layer.weight.shape[1:])
    layer.weight = nn.Parameter(torch.cat([layer.weight, zeros]), layer.weight.requires_grad)
    layer.knots = torch.cat([layer.knots, knots.to(layer.knots)])
    layer.in_features += count
    layer.set_mask(None if mask.all() else mask)


def _check_counts(model: KAN, layer: int, sums: int, products: int, arity: int) -> None:
    depth = len(stages(model))
    for name, value, least in (("layer", layer, 1), ("sums", sums, 0), ("products", products, 0), ("arity", arity, 2)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, received {value!r}")
    if layer >= depth:
        hidden = f"from 1 to {depth - 1}" if depth > 1 else "(of which there is none)"
        raise ValueError(f"layer: expected one of hidden nodes {hidden}, received {layer}")


@normal_tensors
def expand_width(model: KAN, layer: int, sums: int = 0, products: int = 0, arity: int = 2, seed: int = 0) -> KAN:
    """A copy of a KAN with more hidden nodes, and the same function (Liu et al., arXiv:2408.10205).

    layer: which nodes, as counted in model.widths: 1 for the first hidden ones
    sums, products: how many more; arity: factors of each new product
    seed: of the splines into the new nodes
    returns: the wider model. Splines into new nodes start as those of a fresh KAN, splines out of them at 0, so that they have
        gradients and the function stays to rounding. All new edges are there; formulas and edges that are gone stay. The first
        layer's grids, run through the model, show where the new nodes' grids have to be. Make a new optimizer.
    raises: TypeError for a model that is no KAN of plain layers; ValueError naming the argument

    >>> import fastkan
    >>> model = fastkan.formulas.kanpiler("x*y")
    >>> fastkan.formulas.expand_width(fastkan.formulas.expand_depth(model), 1, sums=2).widths
    [2, (2, 1), 1]
    """
    _check_counts(model, layer, sums, products, arity)
    made = copy.deepcopy(model)
    parts = stages(made)
    (into, nodes), out_of = parts[layer - 1], parts[layer].layer
    old, factors = into.out_features, arity * products
    with seeded(seed, into.weight.device):
        fresh = _like(into, into.in_features, sums + factors)
    _append_outputs(into, sums + factors, fresh.weight)
    if products:
        if into.bias is None:
            into.bias = nn.Parameter(into.weight.new_zeros(into.out_features), into.weight.requires_grad)
        into.bias[old + sums :] = 1
    order = [*range(nodes.sums), *range(old, old + sums), *range(nodes.sums, old), *range(old + sums, into.out_features)]
    select(into, range(into.in_features), order)
    wider = Products(nodes.sums + sums, (*nodes.arities, *([arity] * products)))
    values = _new_values(made, layer, wider, len(nodes.arities))
    _append_inputs(out_of, _knots(values, out_of).to(out_of.weight.device))
    at = nodes.out_features
    order = [*range(nodes.sums), *range(at, at + sums), *range(nodes.sums, at), *range(at + sums, at + sums + products)]
    select(out_of, order, range(out_of.out_features))
    _put(made, layer - 1, wider)
    return made


def _new_values(model: KAN, layer: int, wider: Products, before: int) -> Tensor:
    """What the new nodes of a layer are for points of the first grids [B, new sums and products]."""
    inner, x = double(model), _inputs(model)
    for k, stage in enumerate(stages(inner)[:layer]):
        x = stage.layer(x)
        if k < layer - 1:
            x = stage.nodes(x)
    nodes = wider(x)
    sums = stages(model)[layer].layer.in_features - before  # the old ones
    return torch.cat([nodes[:, sums : wider.sums], nodes[:, wider.sums + before :]], dim=1)


def _put(model: KAN, layer: int, nodes: Products) -> None:
    """Make these the nodes behind a layer of edges."""
    modules: list[nn.Module] = []
    count = -1
    for module in model.children():
        if isinstance(module, KANLinear):
            count += 1
        elif isinstance(module, Products) and count == layer:
            continue
        modules.append(module)
        if isinstance(module, KANLinear) and count == layer and nodes.arities:
            modules.append(nodes.train(model.training))
    model._modules.clear()
    for k, module in enumerate(modules):
        model.add_module(str(k), module)


# ---- deeper


@normal_tensors
def expand_depth(model: KAN) -> KAN:
    """A copy of a KAN with one more layer at its end, and the same function (Liu et al., arXiv:2408.10205).

    returns: the deeper model. The new layer's edges are splines: those from each output to itself start as the straight line
        (in the base slot, whose activation is identity there, so it holds everywhere), the others at 0. Make a new optimizer.
    raises: TypeError for a model that is no KAN of plain layers

    >>> import fastkan
    >>> fastkan.formulas.expand_depth(fastkan.KAN([2, 5, 1])).widths
    [2, 5, 1, 1]
    """
    made = copy.deepcopy(model)
    last = stages(made)[-1]
    outputs = last.nodes.out_features
    layer = _like(last.layer, outputs, outputs, "identity")
    layer.weight.zero_()
    layer.weight[:, -1] = torch.eye(outputs, device=layer.weight.device)
    x = _inputs(model)
    for stage in stages(double(model)):
        x = stage.nodes(stage.layer(x))
    layer.knots.copy_(_knots(x, layer))
    made.add_module(str(len(made)), layer)
    return made


# ---- moved away


@normal_tensors
def perturb(model: KAN, size: float, seed: int = 0, where: str = "present") -> KAN:
    """A copy of a KAN with noise on its edges, from which training can leave what was built in (Liu et al., arXiv:2408.10205).

    size: standard deviation of the noise: of spline coefficients, of b and d of formulas c f(a x + b) + d, and of a and c
        relative to them
    where: "present": edges that are there, splines and formulas. "absent": edges that are gone become splines of noise; what is
        there stays (pykan's non-intrusive mode). "all": both. An edge is a spline or a formula, so no formula gets a spline.
    returns: the model with noise. Where a and b would take a formula out of its function's domain, for x in the first layer's
        grids, they stay.
    raises: TypeError for a model that is no KAN of plain layers; ValueError for another size or `where`, and where noise before
        a formula takes that out of its domain

    >>> import fastkan
    >>> model = fastkan.formulas.perturb(fastkan.formulas.kanpiler("x*y"), 0.1, where="absent")
    >>> model.layers[0].mask  # which edges are splines; the others are formulas
    tensor([[False,  True],
            [ True, False]])
    """
    stages(model)
    if isinstance(size, bool) or not isinstance(size, Real) or not 0 <= float(size) < math.inf:
        raise ValueError(f"size: expected a finite number of at least 0, received {size!r}")
    if where not in WHERE:
        raise ValueError(f"where: expected one of {', '.join(WHERE)}, received {where!r}")
    made, before, after = double(model), _inputs(model), _inputs(model)
    generator = torch.Generator().manual_seed(seed)
    for k, (stage, old) in enumerate(zip(stages(made), stages(double(model)), strict=True)):
        _perturb_splines(stage.layer, float(size), generator, where)
        if where != "absent":
            _perturb_formulas(stage.layer, float(size), generator)
        _stay_in_domains(stage.layer, old.layer, before, after, k)
        before, after = (one.nodes(one.layer(x)) for one, x in ((old, before), (stage, after)))
    for stage, original in zip(stages(made), stages(model), strict=True):
        stage.layer.to(original.layer.weight.dtype)
    return made


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=torch.float64, generator=generator).to(like.device)


def _perturb_splines(layer: KANLinear, size: float, generator: torch.Generator, where: str) -> None:
    there = present(layer)
    gone = ~there
    for i, o, _ in layer.symbolic.edges if layer.symbolic is not None else ():
        gone[i, o] = False
    chosen = {"present": there, "absent": gone, "all": there | gone}[where]
    noise = size * _noise(layer.weight[:, :-1], generator)
    mask = there | chosen
    layer.set_mask(None if mask.all() else mask)
    layer.weight[:, :-1] += noise * chosen[:, None]


def _perturb_formulas(layer: KANLinear, size: float, generator: torch.Generator) -> None:
    if layer.symbolic is not None:
        noise = size * _noise(layer.symbolic.affine, generator)
        noise[:, [0, 2]] *= layer.symbolic.affine[:, [0, 2]]
        layer.symbolic.affine += noise


def _troubled(layer: KANLinear, x: Tensor, margin: float) -> Tensor:
    """Which formulas leave their domain at x [B, I], or within a margin beside it as a share of its range; bool [E]."""
    assert layer.symbolic is not None
    a, b, *_ = layer.symbolic.affine.unbind(1)
    z = a * x[:, layer.symbolic.inputs] + b
    low, high = z.amin(0), z.amax(0)
    room = margin * (high - low)
    found = [function(name).trouble((low - room)[k], (high + room)[k]) for k, (*_, name) in enumerate(layer.symbolic.edges)]
    return torch.stack(found)


def _stay_in_domains(layer: KANLinear, old: KANLinear, before: Tensor, after: Tensor, number: int) -> None:
    """Give formulas that have left their domain their old a and b; ValueError where that is not enough."""
    if layer.symbolic is None or old.symbolic is None:
        return

    def left() -> Tensor:
        each = [_troubled(layer, after, margin) & ~_troubled(old, before, margin) for margin in (0.0, MARGIN)]
        return each[0] | each[1]

    gone = left()
    layer.symbolic.affine[gone, :2] = old.symbolic.affine[gone, :2]
    gone = left()
    if gone.any():
        i, o, name = layer.symbolic.edges[int(gone.nonzero()[0])]
        raise ValueError(
            f"size: expected less noise before the edge from {i} to {o} of layer {number}, received such as takes {name} out of "
            "its domain"
        )
