"""Weights that modules of PyTorch take instead of calling their blocks, and what keeps them from it."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from fastkan.nn.replace.attention import REASON, CallingAttention, can_call
from fastkan.nn.replace.model import Model

LAYER = "fused inference path off, which takes the weights of its linear blocks as matrices"
ENCODER = "nested tensors off, which only the fused path can read; padded places are computed, as in training, and no longer 0"


class Switch(NamedTuple):
    """A setting of a module that must have another value while it holds KAN layers."""

    name: str
    module: nn.Module
    attribute: str
    value: object
    reason: str

    def turn(self, value: object) -> object:
        """Set it; returns what it was."""
        before = getattr(self.module, self.attribute)
        setattr(self.module, self.attribute, value)
        return before


def avoidable(owner: nn.Module, source: type) -> bool:
    """True if a module reads weights, in the code of a class, only where a switch can keep it from doing so."""
    return source is nn.TransformerEncoderLayer or (source is nn.MultiheadAttention and can_call(owner))


def attention_of(model: Model, name: str) -> nn.Module | None:
    """The nn.MultiheadAttention that the block is the out_proj of."""
    place, _, last = name.rpartition(".")
    owner = model.modules[place]
    return owner if last == "out_proj" and can_call(owner) else None


def switches(model: Model, names: Iterable[str]) -> list[Switch]:
    """What has to be set while KAN layers are at `names`.

    An encoder asks its first layer only, so it must not make nested tensors for a later one either.
    """
    found: dict[int, Switch] = {}
    for name in names:
        for place, module in model.ancestors(name):
            if isinstance(module, nn.TransformerEncoderLayer) and module.activation_relu_or_gelu:
                found.setdefault(id(module), Switch(place, module, "activation_relu_or_gelu", False, LAYER))
            elif isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
                found.setdefault(id(module), Switch(place, module, "use_nested_tensor", False, ENCODER))
            elif module is attention_of(model, name) and type(module) is not CallingAttention:
                found.setdefault(id(module), Switch(place, module, "__class__", CallingAttention, REASON))
    return list(found.values())
