"""The GPUs that kernels are chosen for: one table, a row an architecture."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import triton

from fastkan.kernels.measured import MEASURED, Key, Tile

INTERPRETED = triton.knobs.runtime.interpret
AMD, INTERPRETER = -1, 0  # in the place of an architecture's number


class Architecture(NamedTuple):
    """The tests compile for every row; `processors` are those of the GPU named beside it."""

    number: int  # compute capability times 10
    shared: int  # bytes of shared memory that one program may have
    matrix: str  # instruction of the tensor cores
    processors: int
    tensor_memory: int = 0  # columns


# CUDA C++ Programming Guide, compute capabilities; CDNA 3 instruction set architecture.
ARCHITECTURES = {
    "sm_80": Architecture(80, 166912, "HMMA", 108),  # A100
    "sm_89": Architecture(89, 101376, "HMMA", 142),  # L40S
    "sm_90": Architecture(90, 232448, "HGMMA", 132),  # H200
    "sm_100": Architecture(100, 232448, "UTCHMMA", 148, tensor_memory=512),  # B200
    "sm_120": Architecture(120, 101376, "HMMA", 170),  # RTX 5090
    "gfx942": Architecture(AMD, 65536, "MFMA", 304),  # MI300X
}
LEAST_SHARED = 101376  # of what is not in the table: sm_86 has as little
SHARED = {row.number: row.shared for row in ARCHITECTURES.values()}


@dataclass(frozen=True)
class Card:
    """One GPU, as far as the choice of a kernel looks at it."""

    architecture: int  # compute capability times 10, AMD or INTERPRETER
    processors: int
    measured: Mapping[Key, Tile] = field(default_factory=dict)

    @property
    def shared(self) -> int:
        return SHARED.get(self.architecture, LEAST_SHARED)


def stand_in(architecture: str) -> Card:
    """The card of ARCHITECTURES, to compile for a GPU that is not there."""
    row = ARCHITECTURES[architecture]
    return Card(row.number, row.processors)


_assumed: Card | None = None


@contextmanager
def on(card: Card) -> Iterator[None]:
    """Choose kernels as for this card inside the block, in the whole process: to compile without a GPU, to test and to tune."""
    global _assumed
    before, _assumed = _assumed, card
    try:
        yield
    finally:
        _assumed = before


def card(device: torch.device) -> Card:
    return _assumed or _card(device)


@functools.cache
def _card(device: torch.device) -> Card:
    if device.type != "cuda":
        return Card(INTERPRETER, 1)  # one program after the other
    major, minor = torch.cuda.get_device_capability(device)
    return Card(
        AMD if torch.version.hip else 10 * major + minor,
        torch.cuda.get_device_properties(device).multi_processor_count,
        MEASURED.get(torch.cuda.get_device_name(device), {}),
    )
