"""What a plan knows of a call: sizes, dtypes, orders and the GPU."""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from fastkan.kernels import devices
from fastkan.kernels.devices import Card

TRITON_DTYPE = {torch.float64: tl.float64, torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Call(NamedTuple):
    """Letters: docs/design.md, section 2."""

    card: Card
    B: int
    I: int
    O: int
    S: int
    degree: int
    nu: int
    wide: torch.dtype  # of x, slots and sums


def ceil_div(a: int, b: int) -> int:
    """On the host: triton.cdiv asks at 5 us a call whether it is inside a kernel."""
    return -(-a // b)


def wide_of(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def call_of(x: Tensor, knots: Tensor, O: int, degree: int, nu: int) -> Call:
    return Call(devices.card(x.device), *x.shape, O, knots.shape[1] - degree - 1, degree, nu, wide_of(x))


class Product(NamedTuple):
    """Operands and precision of the matrix product of slots with a weight or an output's gradient."""

    operand: tl.dtype
    precision: str

    @property
    def bytes(self) -> int:
        return self.operand.primitive_bitwidth // 8

    @property
    def on_tensor_cores(self) -> bool:
        return self.bytes == 2 or self.precision == "tf32"

    @property
    def settings(self) -> dict[str, Any]:
        return {"OPERAND": self.operand, "PRECISION": self.precision}


def product_of(dtype: torch.dtype, slots_fit: bool = True) -> Product:
    """Slots that do not fit into float16 are multiplied in TF32, which has float16's mantissa."""
    if not slots_fit:
        return Product(tl.float32, "tf32")
    tf32 = dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return Product(TRITON_DTYPE[dtype], "tf32" if tf32 else "ieee")


def slots_fit(dtype: torch.dtype, row_weight: Tensor | None, nu: int) -> bool:
    """False where slots times row weights may leave the range of `dtype`: float16, and h^-nu or a float32 row weight."""
    return dtype != torch.float16 or (nu == 0 and (row_weight is None or row_weight.dtype == dtype))
