"""The fused inference path of nn.TransformerEncoderLayer, which takes the weights of its blocks instead of calling them."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from fastkan.nn.replace.model import Model

LAYER = "fused inference path off, which takes the weights of linear1 and linear2 as matrices"
ENCODER = "nested tensors off, which only the fused path can read; padded places are computed, as in training, and no longer 0"


class Switch(NamedTuple):
    """A setting of a module that must be off while it holds KAN layers."""

    name: str
    module: nn.Module
    attribute: str
    reason: str

    def turn(self, value: object) -> object:
        """Set it; returns what it was."""
        before = getattr(self.module, self.attribute)
        setattr(self.module, self.attribute, value)
        return before


def only_fused(source: type) -> bool:
    """True if a class reads weights in its fused path only, which can be switched off."""
    return source is nn.TransformerEncoderLayer


def switches(model: Model, names: Iterable[str]) -> list[Switch]:
    """What has to be off while KAN layers are at `names`.

    An encoder asks its first layer only, so it must not make nested tensors for a later one either.
    """
    found: dict[int, Switch] = {}
    for name in names:
        for place, module in model.ancestors(name):
            if isinstance(module, nn.TransformerEncoderLayer) and module.activation_relu_or_gelu:
                found.setdefault(id(module), Switch(place, module, "activation_relu_or_gelu", LAYER))
            elif isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
                found.setdefault(id(module), Switch(place, module, "use_nested_tensor", ENCODER))
    return list(found.values())
