"""Tiles that a measurement found better than the rules of kernels/tiles.py, by GPU."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """rows x columns of the answer, inputs x slots, warps, pipeline stages; depth: outputs or rows summed per step."""

    rows: int = 0
    columns: int = 0
    inputs: int = 0
    slots: int = 0
    depth: int = 0
    warps: int = 4
    stages: int = 2


Key = tuple[str, str, tuple[int, ...]]


def key(kernel: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> Key:
    """Kernel, dtype of the product and sizes B, I, O; sizes within a factor of four share a key."""
    return kernel, str(dtype).removeprefix("torch."), tuple((size.bit_length() + 1) // 2 for size in sizes)


# By the name of the GPU; `python -m benchmarks tune` prints the entries. Empty: nothing is measured yet.
MEASURED: dict[str, dict[Key, Tile]] = {}
