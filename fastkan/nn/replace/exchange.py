"""The exchange of blocks for layers, all or none, and back."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fastkan.nn.replace.fused import Switch


class Exchange:
    """Blocks of a model, the layers for them, and what has to be set while the layers are there."""

    def __init__(
        self, model: nn.Module, places: Mapping[nn.Module, list[str]], layers: Mapping[Any, nn.Module], off: list[Switch]
    ) -> None:
        self.model, self.places, self.layers, self.off = model, places, layers, off
        self.before: list[object] = []

    def _place(self, modules: Mapping[Any, nn.Module]) -> None:
        for block, names in self.places.items():
            for name in names:
                self.model.set_submodule(name, modules[block])

    def do(self) -> None:
        """Put the layers in the blocks' places."""
        self.before = [switch.turn(switch.value) for switch in self.off]
        try:
            self._place(self.layers)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Put the blocks back."""
        self._place({block: block for block in self.places})
        for switch, value in zip(self.off, self.before, strict=True):
            switch.turn(value)
