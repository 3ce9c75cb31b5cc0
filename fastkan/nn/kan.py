"""KAN: a plain stack of KANLinear."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastkan import stack
from fastkan.nn.linear import KANLinear


def _is_bare(layer: nn.Module) -> bool:
    """True for a KANLinear that computes what KANLinear.forward says and that no hook watches."""
    if type(layer) is not KANLinear or layer._compiled_call_impl or "forward" in layer.__dict__:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


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

    def forward(self, input: Tensor) -> Tensor:
        """x [..., I] -> [..., O], the layers one after another: in one call where fastkan.stack serves them."""
        y = None if torch.compiler.is_compiling() else self._in_one_call(input)
        return super().forward(input) if y is None else y

    def _in_one_call(self, x: Tensor) -> Tensor | None:
        weights: list[Any] = []
        knots: list[Any] = []
        biases: list[Any] = []
        settings: Any = None
        for layer in self._modules.values():
            if not _is_bare(layer) or settings not in (None, settings := (layer.degree, layer.base, layer.backend)):
                return None
            weights.append(layer._parameters.get("weight"))
            knots.append(layer._buffers.get("knots"))
            biases.append(layer._parameters.get("bias"))
        return None if settings is None else stack.stack(x, weights, knots, biases, *settings)

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
