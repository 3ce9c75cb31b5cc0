"""What is measured: layer sizes, modes, and for each size one input and one function that every peer computes."""

from dataclasses import dataclass

import torch
from torch import Tensor

FORWARD, BACKWARD, DOUBLE_BACKWARD = MODES = ("forward", "forward+backward", "double backward")
GRAD_INPUT, GRAD_WEIGHT, SLOPE = ("grad_input", "grad_weight", "forward, order 1")  # single operations, on a GPU only
RESULTS = {
    FORWARD: ("y",),
    BACKWARD: ("y", "grad x", "grad weight"),
    DOUBLE_BACKWARD: ("grad x", "grad weight"),
    GRAD_INPUT: ("grad x",),
    GRAD_WEIGHT: ("grad weight",),
    SLOPE: ("y",),
}


@dataclass(frozen=True)
class Case:
    """One layer size; `without` names the families of peers that the case leaves out to save time."""

    batch: int
    in_features: int
    out_features: int
    grid_size: int = 5
    degree: int = 3
    dtype: str = "float32"
    modes: tuple[str, ...] = MODES
    without: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        size = f"{self.in_features} → {self.out_features}, batch {self.batch}"
        return f"{size}, G={self.grid_size}, p={self.degree}, {self.dtype}"

    @property
    def edges(self) -> int:
        return self.in_features * self.out_features

    @property
    def splines(self) -> int:
        return self.grid_size + self.degree


DEFAULT = (
    Case(1000, 2, 5),
    Case(1024, 64, 64),
    Case(1024, 256, 256, modes=(FORWARD, BACKWARD)),
    Case(1024, 256, 256, grid_size=16, modes=(BACKWARD,), without=("pykan",)),
)
FULL = (
    Case(1000, 2, 5),
    Case(1000, 5, 1),
    Case(1024, 64, 64),
    Case(1024, 256, 256),
    Case(1024, 256, 256, grid_size=16),
    Case(64, 784, 64),
    Case(1024, 1024, 1024),
    Case(1024, 256, 256, degree=2),
    Case(1024, 64, 64, dtype="bfloat16"),
    Case(1024, 256, 256, dtype="bfloat16"),
)
BASELINES = (
    *(Case(1024, size, size, grid_size=G, modes=(FORWARD, BACKWARD)) for G in (5, 16, 64) for size in (64, 256, 1024)),
    *(Case(1024, 256, 256, dtype=dtype, modes=(FORWARD, BACKWARD)) for dtype in ("float64", "bfloat16")),
)


@dataclass(frozen=True)
class Problem:
    """The tensors of a case; knots stay in float32 where the dtype is smaller, as fastkan keeps them."""

    case: Case
    x: Tensor  # [B, I], inside the grid
    weight: Tensor  # [I, M, O]
    knots: Tensor  # [I, G + 2p + 1], uniform on [-1, 1]
    cotangent: Tensor  # [B, O]

    @classmethod
    def of(cls, case: Case, device: str, batch: int | None = None) -> "Problem":
        """The same numbers in every process on one kind of device; `batch` shrinks the input for a warm-up."""
        random = {"generator": torch.Generator(device).manual_seed(0), "device": device}
        batch = batch or case.batch
        x = torch.rand(batch, case.in_features, **random) * 2 - 1
        slots = case.splines + 1
        weight = torch.randn(case.in_features, slots, case.out_features, **random)
        cotangent = torch.randn(batch, case.out_features, **random)
        cells = torch.arange(-case.degree, case.grid_size + case.degree + 1)
        knots = (2 * cells / case.grid_size - 1).repeat(case.in_features, 1)
        target = {"device": device, "dtype": getattr(torch, case.dtype)}
        return cls(
            case,
            # 0.999 keeps bfloat16's rounding of x away from the right end, where half-open conventions differ
            (0.999 * x).to(**target).requires_grad_(),
            (weight / (case.in_features * slots) ** 0.5).to(**target),
            knots.to(device),
            cotangent.to(**target),
        )
