"""To pykan: a live model of the same function."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastkan.interop.pykan.names import BACK, base_function
from fastkan.nn.edges import present
from fastkan.nn.functions import FUNCTIONS
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.stack import Stage, columns, in_features, stages

PIP = "pip install 'fastkan[pykan]'"


def _multkan() -> Any:
    try:
        from kan.MultKAN import MultKAN
    except ImportError as error:
        raise ImportError(f"to_pykan: expected pykan, which is not installed, or lacks {error.name}: {PIP}") from error
    return MultKAN


@contextlib.contextmanager
def _same_random() -> Iterator[None]:
    """pykan's constructor seeds torch, numpy and random; afterwards they are as they were."""
    torch_state, numpy_state, state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(state)


def _activation(parts: list[Stage]) -> str:
    """The one base activation of the layers that use theirs."""
    used = {layer.activation for layer, _ in parts if (layer.weight[:, -1] * present(layer)).any()}
    if len(used) > 1:
        received = ", ".join(sorted(used))
        raise ValueError(f"model: expected one activation in all layers, as pykan has one base_fun, received {received}")
    return used.pop() if used else parts[0].layer.activation


def _sympy_of(expression: str) -> Any:
    def function(x: Any) -> Any:
        import sympy

        return sympy.sympify(expression).subs(sympy.Symbol("x"), x)

    return function


def _set_formulas(symbolic: Any, numeric: Any, layer: KANLinear) -> None:
    from kan.utils import SYMBOLIC_LIB

    if layer.symbolic is None:
        return
    for (i, o, name), affine in zip(layer.symbolic.edges, layer.symbolic.affine.detach(), strict=True):
        theirs = BACK.get(name, name)
        if theirs in SYMBOLIC_LIB:
            call, expression, _, careful = SYMBOLIC_LIB[theirs]
        else:
            call, expression = FUNCTIONS[name].call, _sympy_of(FUNCTIONS[name].expression)

            def careful(x: Tensor, y_th: Any, call: Any = call) -> Any:
                return (), call(x)

        symbolic.funs[o][i], symbolic.funs_sympy[o][i], symbolic.funs_avoid_singularity[o][i] = call, expression, careful
        symbolic.funs_name[o][i] = theirs
        symbolic.affine.data[o, i] = affine
        symbolic.mask.data[o, i] = 1
        numeric.mask.data[i, o] = 0


def _fill(target: Any, l: int, layer: KANLinear) -> None:
    numeric, symbolic = target.act_fun[l], target.symbolic_fun[l]
    weight = layer.weight.detach()
    numeric.grid.data = layer.knots.detach().clone()
    # pykan's LBFGS views the gradient, whose strides are those of the coefficients
    numeric.coef.data = weight[:, :-1].transpose(1, 2).clone(memory_format=torch.contiguous_format)
    numeric.scale_base.data = weight[:, -1].clone()
    numeric.scale_sp.data = torch.ones_like(weight[:, -1])
    numeric.mask.data = present(layer).to(weight)
    symbolic.affine.data = symbolic.affine.data.to(weight)
    symbolic.mask.data = symbolic.mask.data.to(weight)
    _set_formulas(symbolic, numeric, layer)
    for name in ("node_bias", "node_scale", "subnode_bias", "subnode_scale"):
        parameter: nn.Parameter = getattr(target, name)[l]
        parameter.data = parameter.data.to(weight)
    if layer.bias is not None:
        target.subnode_bias[l].data = layer.bias.detach().clone()


@torch.no_grad()
def to_pykan(model: KAN) -> Any:
    """A live pykan model (MultKAN) of the same function as a KAN, with its knots, masks, formulas and products.

    returns: the model, on the KAN's device and in its dtype, with auto_save=False, so that pykan writes no files. The first
        forward pass gives pykan's plot and attribute what they need. Its saveckpt does not keep input_id (a KAN that starts with
        Columns), and its loadckpt knows formulas of SYMBOLIC_LIB and the base functions silu, identity and zero alone.
    raises: ImportError without pykan; TypeError for a model that is no KAN, or holds its splines by a spline_scale; ValueError
        where its layers use several activations

    >>> import torch, fastkan
    >>> model = fastkan.KAN([2, 5, 1])
    >>> theirs = fastkan.interop.to_pykan(model)
    >>> x = torch.rand(10, 2)
    >>> torch.allclose(theirs(x), model(x), atol=1e-5)
    True
    """
    parts = stages(model)
    activation = _activation(parts)
    made = _multkan()
    layers = [layer for layer, _ in parts]
    width = [[layers[0].in_features, 0]] + [[nodes.sums, len(nodes.arities)] for _, nodes in parts]
    arities: list[list[int]] = [[]] + [list(nodes.arities) for _, nodes in parts]
    lowest, highest = min(layer.grid_range[0] for layer in layers), max(layer.grid_range[1] for layer in layers)
    flat = {arity for some in arities for arity in some}
    with _same_random():
        target = made(
            width=width, grid=[layer.grid_size for layer in layers], k=[layer.degree for layer in layers],
            mult_arity=flat.pop() if len(flat) == 1 else arities if flat else 2, base_fun=base_function(activation),
            grid_range=[lowest, highest], auto_save=False, noise_scale=0.0,
        )  # fmt: skip
    for l, layer in enumerate(layers):
        _fill(target, l, layer)
    if in_features(model) != layers[0].in_features or columns(model) != list(range(layers[0].in_features)):
        target.input_id = torch.tensor(columns(model))
    device = layers[0].weight.device
    return target.to(device) if device.type != "cpu" else target
