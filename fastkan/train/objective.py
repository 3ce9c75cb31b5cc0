"""What a fit makes small: residuals or a loss of a model, over all rows or some of them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.functional import check_tensor
from fastkan.nn import KAN, KANLinear
from fastkan.nn.jacobian import Columns, RowJacobian
from fastkan.nn.watch import in_eager_mode

FEW = 500
Loss = Callable[[Tensor, Tensor], Tensor]
Residual = Callable[[nn.Module], Tensor | Sequence[Tensor]]


class Objective:
    """A model's residuals as tensors [B, ...], the mean of whose squares is the loss; or a loss that is no sum of squares.

    scale: the size of y in its units, so that a fit does not depend on them
    """

    scale = 1.0
    rows: int | None = None  # None: they cannot be divided into batches
    squares = True
    plain = False  # True where the weights act in calls of their layers alone, see RowJacobian

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def jacobian(self, columns: Columns | None = None) -> RowJacobian:
        return RowJacobian(self.model, self.residuals, columns, self.plain)

    def residuals(self) -> list[Tensor]:
        """Divided by `scale`."""
        raise NotImplementedError

    def loss(self, index: Tensor | None = None) -> Tensor:
        """Of all rows, or of those at `index`; in units of scale squared."""
        return torch.stack([r.square().mean() for r in self.residuals()]).sum()

    def value(self) -> float:
        """The loss of all rows."""
        with torch.enable_grad():  # a residual may hold derivatives
            return self.loss().item()

    def few(self, residuals: int) -> "Objective":
        """About so many of its residuals, at least FEW rows, or all of them."""
        return self

    def score(self) -> float:
        """What a user reads: the root of the mean squared residual in units of y, or the loss."""
        return self.scale * self.value() ** 0.5 if self.squares else self.value()


class OfResidual(Objective):
    """Residuals that a function makes of the model."""

    def __init__(self, model: nn.Module, residual: Residual) -> None:
        super().__init__(model)
        self.residual = residual

    def residuals(self) -> list[Tensor]:
        made = self.residual(self.model)
        terms = [made] if isinstance(made, Tensor) else list(made)
        for k, term in enumerate(terms):
            check_tensor(f"residual, term {k}", term)
            if term.ndim == 0:
                raise ValueError(f"residual, term {k}: expected a value for each row, received a single number")
        return terms


class OfData(Objective):
    """Pairs x, y: least squares, or any loss(model(x), y)."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None = None, loss: str | Loss = "mse", scale: float = 1.0
    ) -> None:
        super().__init__(model)
        self.x, self.y, self.weight, self.kind, self.scale = x, y, weight, loss, scale
        self.rows, self.squares = len(x), loss == "mse"
        self.plain = type(model) is KAN and x.ndim == 2 and all(type(layer) is KANLinear for layer in model.layers)

    def part(self, index: Tensor) -> "OfData":
        weight = None if self.weight is None else self.weight[index]
        return OfData(self.model, self.x[index], self.y[index], weight, self.kind, self.scale)

    def few(self, residuals: int) -> "OfData":
        step = len(self.x) // max(FEW, residuals // max(self.y[0].numel(), 1))
        return self if step < 2 else self.part(torch.arange(0, len(self.x), step, device=self.x.device))

    def joined(self, other: "OfData") -> "OfData":
        """The rows of both."""
        weight = None if self.weight is None or other.weight is None else torch.cat((self.weight, other.weight))
        x, y = torch.cat((self.x, other.x)), torch.cat((self.y, other.y))
        return OfData(self.model, x, y, weight, self.kind, self.scale)

    def residuals(self) -> list[Tensor]:
        r = (self.model(self.x) - self.y) / self.scale
        return [r if self.weight is None else r * self.weight.sqrt()[:, None]]

    def loss(self, index: Tensor | None = None) -> Tensor:
        if index is not None:
            return self.part(index).loss()
        if self.squares and self.weight is not None:
            return super().loss()
        output = self.model(self.x)
        if self.squares:
            r = ((output - self.y) / (self.scale * output.numel() ** 0.5)).flatten()
            return torch.dot(r, r)  # with its gradient half as long as the mean of squares
        if self.kind == "cross_entropy":
            each = nn.functional.cross_entropy(output, self.y, reduction="none")
            return each.mean() if self.weight is None else (each * self.weight).mean()
        value = self.kind(output, self.y)  # type: ignore[operator]
        if not isinstance(value, Tensor) or value.ndim:
            raise ValueError(f"loss: expected a single number, received {getattr(value, 'shape', type(value).__name__)}")
        return value

    @torch.no_grad()
    def value(self) -> float:
        return self.loss().item()

    @torch.no_grad()
    def squared_errors(self) -> Tensor:
        """One a row [B], in units of scale squared."""
        return self.residuals()[0].square().mean(1)


# ---- what a model's layers receive


@contextlib.contextmanager
def inputs_watched(model: nn.Module) -> Iterator[dict[KANLinear, list[Tensor]]]:
    """Collects what every KANLinear receives in the block, as [B, I]."""
    seen: dict[KANLinear, list[Tensor]] = {layer: [] for layer in model.modules() if isinstance(layer, KANLinear)}

    def hook(layer: Any, arguments: tuple[Tensor, ...]) -> None:
        seen[layer].append(arguments[0].detach().reshape(-1, layer.in_features))

    handles = [layer.register_forward_pre_hook(hook) for layer in seen]
    try:
        with in_eager_mode():
            yield seen
    finally:
        for handle in handles:
            handle.remove()
