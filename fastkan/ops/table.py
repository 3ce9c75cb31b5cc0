"""One record an operation: everything that the rest of fastkan.ops, and the tests, must know about it.

Letters name sizes: B rows, I inputs, O outputs, M slots (docs/design.md, section 2). All tensors of a call, knots too, may have
one more dimension N in front: N calls at once, each with tensors of its own (vmap makes them).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

SHAPES = {"x": "BI", "weight": "IMO", "grad_output": "BO", "row_weight": "BI", "form": "IMM"}
OPTIONAL = ("row_weight",)  # None stands for 1 everywhere


class Settings(NamedTuple):
    """What every operation is given after its tensors and before its derivative orders."""

    knots: Tensor
    degree: int
    activation: str
    backend: str


SETTINGS = "Tensor knots, int degree, str activation, str backend"


def _in_schema(tensors: Sequence[str]) -> str:
    return ", ".join(f"Tensor{'?' if name in OPTIONAL else ''} {name}" for name in tensors)


@dataclass(frozen=True)
class Operation:
    """name: as in fastkan.ops. torch_name: as in torch.ops.fastkan. tensors: names of its tensors, in order, with SHAPES.

    result: the letters of the result's shape. like: the tensor whose dtype the result has. orders: names of the derivative
    orders it takes. by_rows: a row of the result needs only the same row of its [B, ...] tensors.
    """

    name: str
    torch_name: str
    tensors: tuple[str, ...]
    result: str
    like: str
    orders: tuple[str, ...] = ("nu",)
    by_rows: bool = False

    @property
    def schema(self) -> str:
        """The schema for torch.library."""
        orders = ", ".join(f"int {name}" for name in self.orders)
        return f"{self.torch_name}({_in_schema(self.tensors)}, {SETTINGS}, {orders}) -> Tensor"

    @functools.cached_property
    def first_setting(self) -> int:
        """Where the settings begin among the arguments."""
        return len(self.tensors)

    @functools.cached_property
    def position_of_like(self) -> int:
        return self.tensors.index(self.like)

    @property
    def row_tensors(self) -> tuple[int, ...]:
        """Positions of the tensors whose rows may be folded with those of other calls; none where rows are summed."""
        return tuple(k for k, name in enumerate(self.tensors) if SHAPES[name][0] == "B") if self.by_rows else ()

    @property
    def output_tensors(self) -> tuple[int, ...]:
        """Positions of the tensors with output features, where those stay apart in the result; none where they are summed."""
        return tuple(k for k, name in enumerate(self.tensors) if "O" in SHAPES[name]) if "O" in self.result else ()

    def split(self, arguments: Sequence[Any]) -> tuple[Sequence[Any], Settings, Sequence[int]]:
        """(tensors, settings, orders) of a call."""
        first = self.first_setting
        return arguments[:first], Settings(*arguments[first : first + 4]), arguments[first + 4 :]

    def sizes(self, tensors: Sequence[Any], settings: Settings) -> dict[str, int]:
        """What the letters of the shapes stand for."""
        sizes = {"M": settings.knots.shape[-1] - settings.degree}
        for name, tensor in zip(self.tensors, tensors, strict=True):
            if name not in OPTIONAL:
                letters = SHAPES[name]
                sizes |= zip(letters, tensor.shape[-len(letters) :], strict=True)
        return sizes

    def empty(self, tensors: Sequence[Any], settings: Settings) -> Tensor:
        """An unwritten result."""
        sizes = self.sizes(tensors, settings)
        shape = [*tensors[0].shape[:-2], *(sizes[letter] for letter in self.result)]
        return tensors[self.position_of_like].new_empty(shape)


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("forward", "kan_linear", ("x", "weight", "row_weight"), "BO", like="weight", by_rows=True),
        Operation("grad_input", "kan_linear_grad_input", ("x", "weight", "grad_output"), "BI", like="x", by_rows=True),
        Operation("grad_weight", "kan_linear_grad_weight", ("x", "grad_output", "row_weight"), "IMO", like="grad_output"),
        Operation("gram", "kan_linear_gram", ("x", "row_weight"), "IMM", like="x", orders=("nu", "mu")),
        Operation("quadratic", "kan_linear_quadratic", ("x", "form"), "BI", like="x", orders=("nu", "mu"), by_rows=True),
    )
}


class Wanted(NamedTuple):
    """Which results a call of `fused_gradients` makes. They share what every x costs, where the backend can.

    grad_input is of order nu + 1, the others of order nu. grad_row_weight is grad_input of order nu, the gradient of forward's
    row weights. forward is the gradient of grad_input's grad_output.
    """

    grad_input: bool
    grad_weight: bool
    grad_row_weight: bool = False
    forward: bool = False


FUSED_TENSORS = ("x", "weight", "grad_output", "row_weight")
FUSED_NAME = "kan_linear_fused_gradients"
FUSED_SCHEMA = f"{FUSED_NAME}({_in_schema(FUSED_TENSORS)}, {SETTINGS}, int nu, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)"
