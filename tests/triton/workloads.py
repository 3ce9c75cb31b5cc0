"""Which calls of which operation the compile gate compiles, and how long the hottest loop of each kernel may get.

A row stands for one call on one GPU. Shapes matter twice: they choose the tile, and sizes divisible by 16 load wider.
"""

from dataclasses import dataclass

import ahead
import torch


@dataclass(frozen=True)
class Workload:
    """One call: B rows, I inputs, O outputs; `dtype` is that of the product, `x` that of x and the row weight where it differs.

    uniform: a uniform grid, which has kernels of its own; else every input has knots of its own.
    unfused: with the slots in memory.
    """

    operation: str
    dtype: str
    B: int
    I: int
    O: int
    nu: int = 0
    grid_size: int = 5
    degree: int = 3
    activation: str = "silu"
    weighted: bool = False
    uniform: bool = True
    unfused: bool = False
    x: str = ""
    tf32: bool = False
    architectures: tuple[str, ...] = ahead.ARCHITECTURES

    def __str__(self) -> str:
        words = (self.operation, self.dtype, f"{self.B}x{self.I}x{self.O}", f"G{self.grid_size}", f"p{self.degree}")
        extras = {
            "weighted": self.weighted,
            "spread": not self.uniform,
            "tf32": self.tf32,
            "unfused": self.unfused,
            f"x={self.x}": self.x,
        }
        return " ".join((*words, f"nu{self.nu}", self.activation, *(word for word, there in extras.items() if there)))


LARGE, ODD, SMALL = (65536, 256, 256), (1000, 37, 67), (1024, 64, 64)
HOPPER = ("sm_90",)
OPERATIONS = ("forward", "grad_input", "grad_weight", "gram", "quadratic")
WEIGHTED = ("forward", "grad_weight")
WORKLOADS = (
    # what a training step launches, on every GPU, on a uniform grid and on one that is not
    [
        Workload(operation, dtype, *LARGE, nu=nu, uniform=uniform)
        for operation, nu in (("forward", 0), ("grad_input", 1), ("grad_weight", 0))
        for dtype, uniform in (("bfloat16", True), ("bfloat16", False), ("float32", False))
    ]
    + [
        Workload(operation, "float32", *LARGE, nu=nu, uniform=uniform, tf32=True, architectures=("sm_80", "sm_90"))
        for operation, nu in (("forward", 0), ("grad_input", 1), ("grad_weight", 0))
        for uniform in (True, False)
    ]
    + [Workload(operation, dtype, *SMALL) for operation in ("forward", "fused_gradients") for dtype in ("bfloat16", "float32")]
    + [Workload("gram", "float32", *LARGE, uniform=False), Workload("quadratic", "float32", *LARGE, nu=1, uniform=False)]
    # where the figures are sharpest: every dtype, odd sizes, orders, row weights, grid sizes, degrees and activations
    + [
        Workload(operation, dtype, *ODD, nu=nu, uniform=uniform, architectures=HOPPER)
        for operation in ("forward", "grad_input", "grad_weight")
        for dtype, nu in (("float16", 0), ("float16", 2), ("bfloat16", 1))
        for uniform in (True, False)
    ]
    + [Workload(name, "float16", *LARGE, nu=2, architectures=HOPPER) for name in ("forward", "grad_weight")]
    + [Workload(name, "float64", *SMALL, nu=1, architectures=HOPPER) for name in OPERATIONS]
    + [Workload(name, "bfloat16", *SMALL, nu=1, x="float32", architectures=HOPPER) for name in OPERATIONS[:3]]
    + [Workload(name, "bfloat16", *LARGE, nu=nu, weighted=True, architectures=HOPPER) for name in WEIGHTED for nu in (0, 2)]
    + [
        Workload("forward", "bfloat16", *LARGE, grid_size=G, degree=p, uniform=False, architectures=HOPPER)
        for G, p in ((16, 5), (8, 8))
    ]
    + [Workload("forward", "float16", *LARGE, degree=p, uniform=False, architectures=("sm_80", "sm_90")) for p in (1, 2, 3)]
    + [Workload(name, "bfloat16", *SMALL, nu=1, unfused=True, architectures=HOPPER) for name in OPERATIONS[:3]]
    + [Workload("forward", "bfloat16", *SMALL, grid_size=G, degree=p, architectures=HOPPER) for G, p in ((64, 3), (5, 1), (8, 8))]
    + [Workload("forward", "bfloat16", *SMALL, activation=name, nu=2, architectures=HOPPER) for name in ("gelu", "tanh", "relu")]
)

# Instructions of the hottest loop per clock of its matrix products (`loop_issue`) on sm_90, for 16-bit products of the LARGE
# shape: above 1 the tensor cores wait for the rest of the work. A gate, to be lowered when a kernel gets better. The second
# launch of a kernel is that for the base slots.
ISSUE_CEILING = {
    "forward_kernel": 9.0,
    "grad_input_kernel": 3.0,
    "grad_weight_kernel": 20.0,
    "placed_forward_kernel": 0.8,
    "uniform_forward_kernel": 1.0,
    "uniform_grad_input_kernel": 0.6,
    "uniform_grad_weight_kernel": 2.5,
}


def arguments(workload: Workload) -> tuple:
    """The arguments of fastkan.kernels.<operation>: on the meta device, shapes and dtypes without memory, all but the knots."""
    product = getattr(torch, workload.dtype)
    x_dtype = getattr(torch, workload.x or workload.dtype)
    knots_dtype = torch.float64 if x_dtype == torch.float64 else torch.float32
    B, I, O = workload.B, workload.I, workload.O
    M = workload.grid_size + workload.degree + 1

    def tensor(*shape: int, dtype: torch.dtype = product) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    x = tensor(B, I, dtype=x_dtype)
    row_weight = tensor(B, I, dtype=x_dtype) if workload.weighted else None
    operands = {
        "forward": lambda: (x, tensor(I, M, O), row_weight),
        "grad_input": lambda: (x, tensor(I, M, O), tensor(B, O)),
        "grad_weight": lambda: (x, tensor(B, O), row_weight),
        "fused_gradients": lambda: (x, tensor(I, M, O), tensor(B, O), row_weight),
        "gram": lambda: (x, row_weight),
        "quadratic": lambda: (x, tensor(I, M, M)),
    }[workload.operation]()
    orders = (workload.nu, 0) if workload.operation in ("gram", "quadratic") else (workload.nu,)
    return (*operands, _knots(workload).to(knots_dtype), workload.degree, workload.activation, *orders)


def _knots(workload: Workload) -> torch.Tensor:
    """Real numbers: the launch code asks whether they are uniform."""
    knots = torch.linspace(-1.6, 1.6, workload.grid_size + 2 * workload.degree + 1, dtype=torch.float64).repeat(workload.I, 1)
    return knots if workload.uniform else knots + knots.square() / 10
