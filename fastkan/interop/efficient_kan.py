"""States of efficient-kan (github.com/Blealtan/efficient-kan) as KANs of the same function, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.interop.assembled import make_kan, make_layer
from fastkan.interop.states import check_row, check_shape, grouped, state_of
from fastkan.nn.edges import present
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.splines.activations import check_activation

NEEDED, MORE = ("base_weight", "spline_weight", "grid"), ("spline_scaler",)


def _layer(number: int, tensors: Mapping[str, Tensor], activation: str) -> KANLinear:
    base, splines, grid = (tensors[name] for name in NEEDED)
    if base.ndim != 2 or splines.ndim != 3 or grid.ndim != 2:
        raise ValueError(f"layer {number}: expected base_weight [O, I], spline_weight [O, I, G + k], grid [I, G + 2k + 1]")
    outputs, inputs = base.shape
    check_shape(f"layer {number}, spline_weight", splines, (outputs, inputs, splines.shape[2]))
    check_shape(f"layer {number}, grid", grid, (inputs, grid.shape[1]))
    if not 1 <= grid.shape[1] - splines.shape[2] - 1 < splines.shape[2]:
        raise ValueError(
            f"layer {number}: expected a grid of G + 2k + 1 knots for G + k splines, received {grid.shape[1]} for "
            f"{splines.shape[2]}"
        )
    wide = splines.double()
    if "spline_scaler" in tensors:
        check_shape(f"layer {number}, spline_scaler", tensors["spline_scaler"], (outputs, inputs))
        wide = wide * tensors["spline_scaler"].double()[..., None]
    weight = torch.cat((wide, base.double()[..., None]), dim=2).permute(1, 2, 0)
    return make_layer(weight, grid, activation, dtype=base.dtype)


@torch.no_grad()
def from_efficient_kan(source: nn.Module | Mapping[str, Any], activation: str = "silu") -> KAN:
    """A KAN of the same function as efficient-kan's KAN or KANLinear, on its grids, in its dtype, on its device.

    source: the module, or its state dict: base_weight [O, I], spline_weight [O, I, G + k], grid [I, G + 2k + 1] and, unless
        enable_standalone_scale_spline was False, spline_scaler [O, I], of every layer
    activation: its base_activation, which its state does not say
    raises: TypeError or ValueError for another state, layers that do not fit one behind another, or knots that do not rise

    >>> import torch, fastkan
    >>> state = fastkan.interop.to_efficient_kan(fastkan.KAN([2, 5, 1]))
    >>> fastkan.interop.from_efficient_kan(state).widths
    [2, 5, 1]
    """
    check_activation(activation)
    groups = grouped(state_of(source), NEEDED, MORE, "efficient-kan")
    layers = [_layer(number, tensors, activation) for number, tensors in enumerate(groups)]
    check_row([(layer.in_features, layer.out_features) for layer in layers])
    return make_kan(layers)


def _refusal(module: nn.Module, activation: str) -> str | None:
    """Why efficient-kan cannot hold a module of a KAN, or None."""
    if not isinstance(module, KANLinear):
        return f"a {type(module).__name__}"
    if module.scale is not None:
        return "a spline_scale; use set_spline_scale(None)"
    if module.symbolic is not None:
        return "formulas"
    if module.bias is not None and module.bias.any():
        return "a bias"
    if module.activation != activation and module.weight[:, -1].any():
        return f"activation={module.activation!r}; give to_efficient_kan the activation that it shall be loaded with"
    return None


@torch.no_grad()
def to_efficient_kan(model: KAN | KANLinear, activation: str = "silu") -> dict[str, Tensor]:
    """The state dict of an efficient-kan KAN (or KANLinear) of the same function, with spline_scaler 1.

    model: layers of plain splines; edges that are gone get weights of 0, and a bias of 0 is left out
    activation: the base_activation of the module that shall load it
    returns: tensors of their own, in the model's dtype; knots as they are. Build the module with the layers' sizes, grid_size and
        degree (spline_order).
    raises: TypeError for another model; ValueError for a bias, formulas, products, columns, or another activation
    """
    if not isinstance(model, KAN | KANLinear):
        raise TypeError(f"model: expected a KAN or a KANLinear, received {type(model).__name__}")
    modules = {"": model} if isinstance(model, KANLinear) else {f"layers.{number}.": m for number, m in enumerate(model)}
    state = {}
    for prefix, layer in sorted(modules.items(), key=lambda item: isinstance(item[1], KANLinear)):  # what is no layer first
        if reason := _refusal(layer, activation):
            raise ValueError(
                f"model: expected what efficient-kan can hold, received {prefix.rstrip('.') or 'a layer'} with {reason}"
            )
        weight = (layer.weight * present(layer)[:, None]).permute(2, 0, 1)
        state[f"{prefix}base_weight"] = weight[..., -1].contiguous()
        state[f"{prefix}spline_weight"] = weight[..., :-1].contiguous()
        state[f"{prefix}spline_scaler"] = torch.ones_like(state[f"{prefix}base_weight"])  # safetensors takes contiguous tensors
        state[f"{prefix}grid"] = layer.knots.clone(memory_format=torch.contiguous_format)
    return state
