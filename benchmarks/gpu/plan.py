"""What is measured, in the order of its importance: a run that is short of time leaves out the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.cases import BACKWARD, FORWARD, GRAD_INPUT, GRAD_WEIGHT, SLOPE, Case

ORDER = (FORWARD, BACKWARD, GRAD_INPUT, GRAD_WEIGHT, SLOPE)
PRODUCTS = {BACKWARD: 3}  # matrix products of equal FLOPs that a mode stands for; 1 for the others
BFLOAT16, FLOAT16, TF32, IEEE = PRECISIONS = ("bfloat16", "float16", "float32-tf32", "float32-ieee")


@dataclass(frozen=True)
class Size:
    """B rows, I inputs, O outputs on a grid of G intervals, cubic."""

    batch: int
    in_features: int
    out_features: int
    grid_size: int = 5

    @property
    def name(self) -> str:
        return f"{self.batch} x {self.in_features} x {self.out_features}, G={self.grid_size}"

    @property
    def slots(self) -> int:
        return self.grid_size + 4

    @property
    def flops(self) -> int:
        """Of the matrix product with all slots written out: 2 B I M O."""
        return 2 * self.batch * self.in_features * self.slots * self.out_features


WIDE, SQUARE = Size(65536, 256, 256), Size(8192, 1024, 1024)  # the sizes of the targets
SIZES = (
    WIDE,
    SQUARE,
    Size(4096, 4096, 4096),
    Size(1024, 64, 64),
    Size(8192, 1024, 1024, 4),  # beside SQUARE: the grids that suit 2:4 sparse tensor cores best
    Size(65536, 256, 256, 16),
    Size(65536, 256, 256, 64),
)
TINY = (Size(64, 8, 16), Size(96, 5, 7, 16))


@dataclass(frozen=True)
class Group:
    """The modes of one size in one precision share their tensors."""

    size: Size
    precision: str

    @property
    def case(self) -> Case:
        size = self.size
        dtype = self.precision.partition("-")[0]
        return Case(size.batch, size.in_features, size.out_features, grid_size=size.grid_size, dtype=dtype)

    @property
    def slots_bytes(self) -> int:
        """All slots [B, I, M] in the group's dtype."""
        return self.size.batch * self.size.in_features * self.size.slots * getattr(torch, self.case.dtype).itemsize


def groups(sizes: tuple[Size, ...], precisions: tuple[str, ...]) -> list[Group]:
    return [Group(size, precision) for precision in precisions for size in sizes]


def left_out(group: Group, family: str, compiled: bool) -> str | None:
    """Peers that would cost much time and tell little; `--everything` measures them too."""
    if family in ("fastkan", "cuBLAS", "unfused", "baseline"):
        return None
    if group.size.grid_size != 5:
        return "left out: G = 5 tells its place"
    if compiled and group.precision != BFLOAT16:
        return "left out: its compilation takes seconds, bfloat16 tells its place"
    return None


@contextmanager
def precision(name: str) -> Iterator[None]:
    """The old switch sets the new one (fp32_precision) too, and everything can read it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name == TF32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


# ---- the targets of the kernels, in 16 bit at G = 5


@dataclass(frozen=True)
class Target:
    """`metric` of the best backend in `mode` at `size` shall be at least, or at most, `value`."""

    mode: str
    metric: str
    value: float
    sizes: tuple[Size, ...]
    at_most: bool = False


GEMM_SHARE, EAGER_SPEEDUP, SLOTS_SHARE = "speed / cuBLAS", "speed / efficient-kan style", "peak memory / slots"
TARGETS = (
    Target(FORWARD, GEMM_SHARE, 0.80, (SQUARE, WIDE)),
    Target(BACKWARD, GEMM_SHARE, 0.65, (SQUARE, WIDE)),
    Target(FORWARD, EAGER_SPEEDUP, 20.0, (WIDE,)),
    Target(BACKWARD, EAGER_SPEEDUP, 20.0, (WIDE,)),
    Target(FORWARD, SLOTS_SHARE, 0.02, (SQUARE, WIDE), at_most=True),
    Target(BACKWARD, SLOTS_SHARE, 0.02, (SQUARE, WIDE), at_most=True),
)
