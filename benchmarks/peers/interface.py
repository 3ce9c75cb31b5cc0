"""What a peer is: a name and a way to build a layer that computes a given function."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.cases import Case, Problem


@dataclass(frozen=True)
class Layer:
    """A built layer. `to_slots` reads parameter gradients as [I, M, O]; None marks an unchecked baseline."""

    call: Callable[[Tensor], Tensor]
    parameters: tuple[Tensor, ...]
    to_slots: Callable[[tuple[Tensor, ...]], Tensor] | None = None


@dataclass(frozen=True)
class Peer:
    """`compiled`: specialises on the batch size. `predict`: seconds per call, where trying takes too long."""

    name: str
    family: str
    build: Callable[[Problem], Layer]
    compiled: bool = False
    predict: Callable[[Case, str], float] | None = None
