"""What a layer's state says of the layer, and the loading of a state that was refined."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastkan import ops
from fastkan.nn.symbolic import SymbolicEdges

if TYPE_CHECKING:
    from fastkan.nn.linear import KANLinear

FORMAT = 2  # of the description; a reader refuses a higher one. 2 is that of layers with a spline_scale


def _description(layer: "KANLinear") -> dict[str, Any]:
    return {"degree": layer.degree, "activation": layer.activation, "grid_range": list(layer.grid_range)}


def described(layer: "KANLinear") -> Tensor:
    """What the shapes of a state do not say, as JSON in bytes [N]: a tensor, so that every format for tensors keeps it."""
    symbolic = {} if layer.symbolic is None else {"symbolic": layer.symbolic.edges}
    scaled = {} if layer.spline_scale is None else {"spline_scale": layer.spline_scale}
    text = json.dumps({"format": FORMAT if scaled else 1} | _description(layer) | symbolic | scaled)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def read(description: Tensor) -> dict[str, Any]:
    """What `described` wrote; ValueError for other bytes, or those of a newer fastkan."""
    try:
        received = json.loads(bytes(description.tolist()))
        number = received.pop("format")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError("expected a description of a KANLinear, received other bytes") from error
    if number > FORMAT:
        raise ValueError(f"format: expected at most {FORMAT}, received {number}; a newer fastkan has written it")
    return received


def disagreement(layer: "KANLinear", description: Tensor) -> str | None:
    """Why a state with that description is not one of this layer, or None."""
    try:
        received = read(description)
    except ValueError as error:
        return str(error)
    own = _description(layer)
    if wrong := [name for name in own if received.get(name) != own[name]]:
        return "; ".join(f"{name}: expected {own[name]!r}, received {received.get(name)!r}" for name in wrong)
    return None


def adopt(layer: "KANLinear", state: Mapping[str, Any], prefix: str) -> None:
    """Give the layer a mask and symbolic edges where the state has some, for the state to fill, and a scale if and only if the
    state's weight has one.
    """
    if f"{prefix}mask" in state and layer.mask is None:
        layer.mask = torch.ones_like(layer.weight[:, 0], dtype=torch.bool)
    description = read(state[f"{prefix}_extra_state"])
    if f"{prefix}weight" in state:
        if f"{prefix}scale" not in state:
            layer.scale = layer.spline_scale = None
        elif layer.scale is None:
            layer.scale = layer.knots.new_empty(())
            layer.spline_scale = description.get("spline_scale", 1.0)
        else:
            layer.spline_scale = description.get("spline_scale", layer.spline_scale)
    received = description.get("symbolic")
    if received and (layer.symbolic is None or received != list(map(list, layer.symbolic.edges))):
        listed = [(i, o, name) for i, o, name in received]
        layer.symbolic = SymbolicEdges(listed, layer.weight.new_zeros(len(listed), 4), layer.out_features)


def _resized(name: str, layer: "KANLinear", state: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Unwritten (weight, knots) of the shapes in the state, or None where the layer has them already."""
    weight, knots = (state.get(f"{name}.{part}" if name else part) for part in ("weight", "knots"))
    if weight is None or knots is None or weight.shape == layer.weight.shape:
        return None
    (inputs, _, outputs), slots = layer.weight.shape, knots.shape[-1] - layer.degree
    if weight.shape != (inputs, slots, outputs) or knots.shape[:-1] != (inputs,):
        return None  # another layer altogether: torch's own error says so
    return layer.weight.new_empty(weight.shape), layer.knots.new_empty(knots.shape)


@torch.no_grad()
def load_state_dict(model: nn.Module, state: Mapping[str, Any], resize: bool = False, strict: bool = True) -> Any:
    """Load a state as `model.load_state_dict` does, and with resize=True give every KANLinear the grid size that the state has.

    returns: torch's record of missing and unexpected keys. Make the optimizer afterwards, or load its state too.
    raises: RuntimeError where the state does not fit the model; the shapes are then as before

    >>> import torch, fastkan
    >>> refined = fastkan.KAN([2, 3, 1])
    >>> changes = refined.refine(20)
    >>> fresh = fastkan.KAN([2, 3, 1])
    >>> fastkan.load_state_dict(fresh, refined.state_dict(), resize=True)
    <All keys matched successfully>
    """
    from fastkan.nn.linear import KANLinear

    layers = {name: module for name, module in model.named_modules() if isinstance(module, KANLinear)} if resize else {}
    before = []
    for name, layer in layers.items():
        if (sizes := _resized(name, layer, state)) is not None:
            weight = nn.Parameter(sizes[0], layer.weight.requires_grad)
            ops.swap_tensor(layer.weight, weight)  # `weight` now holds what the layer had
            before.append((layer, weight, layer.knots))
            layer.knots = sizes[1]
    try:
        return model.load_state_dict(state, strict)
    except RuntimeError:
        for layer, weight, knots in before:
            ops.swap_tensor(layer.weight, weight)
            layer.knots = knots
        raise
