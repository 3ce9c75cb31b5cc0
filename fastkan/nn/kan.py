"""KAN: a plain stack of KANLinear."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastkan.nn.linear import KANLinear


class KAN(nn.Sequential):
    """Layers widths[0] -> widths[1] -> ... of KANLinear, nothing between them: the splines are the non-linearity.

    widths: at least two whole numbers; the other arguments go to every KANLinear (bias is off, as in pykan).
    raises: ValueError for fewer than two widths
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base: str = "silu",
        bias: bool = False,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"widths: expected at least two layer widths, received {list(widths)}")
        super().__init__(
            *(KANLinear(i, o, bias, grid_size, degree, grid_range, base, backend, device, dtype) for i, o in pairwise(widths))
        )

    def __getitem__(self, index: int | slice) -> Any:
        """A layer, or for a slice an nn.Sequential of the same layers (Sequential's own would call KAN.__init__ with them)."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[KANLinear]: ...

    @torch.no_grad()
    def update_grid(self, x: Tensor, eps: float = 0.02) -> None:
        """Lay every layer's grid where its inputs are for the samples x [..., I], layer by layer (see KANLinear.update_grid)."""
        for layer in self:
            layer.update_grid(x, eps)
            x = layer(x.to(layer.weight.dtype))

    def refine(self, grid_size: int) -> None:
        """Change every layer's number of grid intervals and refit (see KANLinear.refine)."""
        for layer in self:
            layer.refine(grid_size)
