"""Paths that no measurement has justified yet. They are off until `use` switches them on, for tests and benchmarks.

The switch applies to the whole process, because autograd's threads must see it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

TILES = "small", "large"  # 64 x 64 and 128 x 128 of y, for 2:4


class Experimental(NamedTuple):
    """two_four: the tile of the 2:4 sparse forward of backend cuda, small or large; None: off.

    round_to: torch.float16 or torch.bfloat16, to which 2:4 rounds a float32 weight; None: such a weight is refused.
    unfused: backend triton writes the expanded splines out and lets cuBLAS multiply.
    scaled_float16: where TF32 is allowed, large layers of backend triton multiply in float16 with a power-of-two scale: 11
        bits either way, at twice the rate. Entries below 2^-24 of the largest in a weight or gradient then count as 0.
    """

    two_four: str | None = None
    round_to: torch.dtype | None = None
    unfused: bool = False
    scaled_float16: bool = False


_chosen = Experimental()


def chosen() -> Experimental:
    """What is switched on now."""
    return _chosen


@contextmanager
def use(
    *,
    two_four: str | None = None,
    round_to: torch.dtype | None = None,
    unfused: bool = False,
    scaled_float16: bool = False,
) -> Iterator[None]:
    """Switch experiments on inside the block, in every thread; the arguments are the fields of `Experimental`.

    A call that 2:4 cannot serve then raises RuntimeError with the reason.
    """
    global _chosen
    if two_four is not None and two_four not in TILES:
        raise ValueError(f"two_four: expected one of {', '.join(TILES)} or None, received {two_four!r}")
    before, _chosen = _chosen, Experimental(two_four, round_to, unfused, scaled_float16)
    try:
        yield
    finally:
        _chosen = before
