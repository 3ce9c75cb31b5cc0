"""What passes through a model, watched: its layers' calls, and what a row-by-row Jacobian (jacobian.py) is made of."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastkan import ops
from fastkan.nn.linear import KANLinear


def in_eager_mode() -> contextlib.AbstractContextManager[Any]:
    """What was compiled runs as it was written: a graph made before does not call hooks that came after, nor show its calls."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and its import takes 1.5 s
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


class Call(NamedTuple):
    """A call of grad_weight: sum_b row_weight[b, i] f_m^(nu)(x[b, i]) grad_output[b, o]."""

    layer: int
    x: Tensor
    grad_output: Tensor
    row_weight: Tensor | None
    nu: int


class GradWeights(TorchDispatchMode):
    """Keeps the calls of grad_weight for known knots in place of making them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: to keep a compiler out that is not here, torch would import torch._dynamo, 1.5 s, and wrap each call below."""
        return False

    def __init__(self, layers: Sequence[KANLinear]) -> None:
        super().__init__()
        self.place = {layer.knots.data_ptr(): k for k, layer in enumerate(layers)}
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seen = ops.grad_weight_call(func, args)
        if seen is None or seen.settings.knots.data_ptr() not in self.place:
            return func(*args, **(kwargs or {}))
        place = self.place[seen.settings.knots.data_ptr()]
        self.calls.append(Call(place, seen.x, seen.grad_output, seen.row_weight, seen.nu))
        return seen.without(func, args)


@contextlib.contextmanager
def rows_watched(parameters: Sequence[tuple[KANLinear, str]], added: list[tuple[int, Tensor]]) -> Iterator[None]:
    """Adds a zero to biases and to the numbers of formulas, another one in every row: its gradient is theirs, row by row.

    added: receives the place among the parameters and the zero, in every call of a layer
    """

    def zero(place: int, like: Tensor, *shape: int) -> Tensor:
        added.append((place, like.new_zeros(shape, requires_grad=True)))
        return added[-1][1]

    def to_output(place: int) -> Callable[..., Tensor]:
        return lambda layer, inputs, y: y + zero(place, y, *y.shape)

    def to_affine(place: int) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda formulas, inputs: (inputs[0], zero(place, inputs[0], *inputs[0].shape[:-1], *formulas.affine.shape))

    handles = []
    for place, (layer, name) in enumerate(parameters):
        if name == "bias":
            handles.append(layer.register_forward_hook(to_output(place)))
        elif name == "symbolic.affine":
            handles.append(layer.get_submodule("symbolic").register_forward_pre_hook(to_affine(place)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def calls_watched(parameters: Sequence[tuple[KANLinear, str]], met: list[tuple[int, Tensor, Tensor]]) -> Iterator[None]:
    """Collects (place among the layers, input, output) of every call of a layer whose weight is trained."""
    layers = list(dict.fromkeys(layer for layer, _ in parameters))
    handles = [
        layer.register_forward_hook(lambda layer, inputs, y: met.append((layers.index(layer), inputs[0].detach(), y)))
        for layer, name in parameters
        if name == "weight"
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
