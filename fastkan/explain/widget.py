"""The explorer as an anywidget. explore imports it, as anywidget may be missing."""

from typing import Any

import anywidget
import torch
import traitlets
from torch import nn

from fastkan.explain.explore import module, style
from fastkan.nn import KANLinear, edges


class Explorer(anywidget.AnyWidget):
    """A widget of a model; made by fastkan.explain.explore."""

    _esm = module()
    _css = style()
    state = traitlets.Dict().tag(sync=True)
    pruned: traitlets.List[Any] = traitlets.List().tag(sync=True)
    marked: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(self, model: nn.Module, state: dict[str, Any]) -> None:
        super().__init__(state=state)
        self._model = model

    @traitlets.validate("pruned", "marked")
    def _check(self, proposal: Any) -> list[list[int]]:
        shapes = [(len(layer["alive"]), len(layer["bias"])) for layer in self.state["layers"]]
        for edge in proposal.value:
            fine = len(edge) == 3 and 0 <= edge[0] < len(shapes)
            if not fine or not (0 <= edge[1] < shapes[edge[0]][0] and 0 <= edge[2] < shapes[edge[0]][1]):
                raise ValueError(f"{proposal.trait.name}: expected edges [layer, i, o] of the model, received {edge!r}")
        return [list(edge) for edge in proposal.value]

    def apply(self) -> None:
        """Takes the pruned edges of the model away, as KANLinear.set_mask does; their formulas too."""
        layers = [self._model] if isinstance(self._model, KANLinear) else list(self._model.children())
        for number, layer in enumerate(layer for layer in layers if isinstance(layer, KANLinear)):
            pruned = {(i, o) for l, i, o in self.pruned if l == number}
            if pruned:
                _take_away(layer, pruned)


@torch.no_grad()
def _take_away(layer: KANLinear, pruned: set[tuple[int, int]]) -> None:
    mask = edges.present(layer)
    for edge in pruned:
        mask[edge] = False
    if layer.symbolic is not None and pruned & {(i, o) for i, o, _ in layer.symbolic.edges}:
        listed = zip(layer.symbolic.edges, layer.symbolic.affine.tolist(), strict=True)
        layer.set_symbolic({(i, o): (name, affine) for (i, o, name), affine in listed if (i, o) not in pruned})
    layer.set_mask(mask)
