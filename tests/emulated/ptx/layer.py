"""The 2:4 forward in the interpreter: packs a weight, runs a layer, and knows what should come out."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contract.cases import exact_slots
from contract.exact_activations import exact_activation
from machine import Machine
from memory import Global
from numbers16 import rounded
from program import Program

from fastkan import reference
from fastkan.experimental import two_four

SOURCES = Path(__file__).resolve().parents[3] / "csrc"
OPERANDS = {torch.bfloat16: "NS_8Bfloat16E", torch.float16: "NS_7Float16E"}
KINDS = {torch.bfloat16: "bf16", torch.float16: "f16"}
TILES = {"small": (1, 8, 3), "large": (2, 16, 2)}  # 16 rows a warp, 8 columns, stages
ACTIVATIONS = re.findall(r"\bX\((\w+)\)", (SOURCES / "core" / "activations.h").read_text())  # as enum Activation counts
STORAGES = {torch.float32: 0, torch.bfloat16: 2, torch.float16: 3}  # as enum Storage counts them


@dataclass(frozen=True)
class Layer:
    """x [B, I], weight [I, M, O] in the operands' type, knots [I, K], an activation."""

    x: torch.Tensor
    weight: torch.Tensor
    knots: torch.Tensor
    activation: str = "silu"

    def same_operands(self) -> np.ndarray:
        """y [B, O] of exact slots, rounded as the kernel rounds them, in float64."""
        wide = self.x.double().numpy().astype(np.longdouble)
        slots = exact_slots(wide, self.knots.double().numpy(), 3, self.activation, 0)
        slots[..., -1] = exact_activation(wide, self.activation, 0)
        values = rounded(slots.astype(np.float32), KINDS[self.weight.dtype])
        return np.einsum("bim,imo->bo", values, self.weight.double().numpy())

    def reference(self) -> torch.Tensor:
        """y [B, O] in float64 by reference.py, infinity and NaN as the contract has them."""
        return reference.forward(self.x.double(), self.weight.double(), None, self.knots.double(), 3, self.activation, 0)


def grids(inputs: int, grid_size: int, exact: bool = False) -> torch.Tensor:
    """Uniform knots [I, K] in float32, every input its own; exact: multiples of powers of two, so that 16-bit x can meet them."""
    generator = torch.Generator().manual_seed(grid_size)
    places = torch.arange(grid_size + 7, dtype=torch.float64)
    start = -2 + torch.rand(inputs, 1, generator=generator, dtype=torch.float64)
    width = 4 / (grid_size + 6) * (0.5 + torch.rand(inputs, 1, generator=generator, dtype=torch.float64))
    if exact:
        start, width = (start * 4).round() / 4, 2 ** width.log2().round()
    return (start + places * width).float()


def around(knots: torch.Tensor, rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """x [B, I] inside and around the grids: a third on knots, both ends of the extended grid among them, a third beside."""
    generator = torch.Generator().manual_seed(rows)
    low, high = knots[:, 0], knots[:, -1]
    x = low + (torch.rand(rows, len(knots), generator=generator) * 1.4 - 0.2) * (high - low)
    pick = torch.randint(knots.shape[1], (rows, len(knots)), generator=generator)
    pick[::5] = knots.shape[1] - 1
    pick[1::5] = 0
    on = knots.gather(1, pick.T).T
    beside = torch.nextafter(on, torch.where(pick % 2 == 0, -torch.inf, torch.inf))
    kind = torch.randint(3, (rows, len(knots)), generator=generator)
    return torch.where(kind == 0, on, torch.where(kind == 1, beside, x)).to(dtype)


def layer(B, I, O, grid_size=5, operand=torch.bfloat16, x_dtype=torch.float32, activation="silu") -> Layer:
    """A layer with x on, beside and outside knots."""
    generator = torch.Generator().manual_seed(B * I + O)
    knots = grids(I, grid_size, exact=x_dtype != torch.float32)
    weight = torch.randn(I, grid_size + 4, O, generator=generator).to(operand)
    return Layer(around(knots, B, x_dtype), weight, knots, activation)


# ---- kernels in the interpreter


def raw(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view(torch.uint8).numpy()


def kernel_name(kernel: str, first: torch.dtype, operand: torch.dtype, sizes: str = "") -> str:
    """A part of a kernel's mangled name that no other has: of two types, and integers."""
    types = f"f{OPERANDS[operand]}" if first == torch.float32 else f"{OPERANDS[first]}S2_"
    return f"{len(kernel)}{kernel}I{types}{sizes}E"


def packed(ptx: str, weight: torch.Tensor, operand: torch.dtype) -> np.ndarray:
    """What pack_weight makes of weight [I, M, O]."""
    inputs, slots, outputs = weight.shape
    size = -(-outputs // 16) * -(-inputs // 16) * (512 + 4096 * -(-(slots - 1) // 8))
    program = Program.from_text(ptx, kernel_name("pack_weight", weight.dtype, operand))
    memory = Global()
    source, result = memory.put(raw(weight)), memory.room(size)
    sizes = struct.pack("<qqq", inputs, slots - 1, outputs)
    Machine(program, memory).launch(-(-size // 16 // 256), struct.pack("<Q", source), struct.pack("<Q", result), sizes)
    return memory.get(result, (size,), np.uint8)


def forward(
    ptx: str, given: Layer, tile: str = "small", y_dtype: torch.dtype = torch.float32, order: str = "random", early: bool = False
) -> torch.Tensor:
    """y [B, O] of the forward kernel; order and early: see machine.Machine."""
    (rows, inputs), (_, slots, outputs), operand = given.x.shape, given.weight.shape, given.weight.dtype
    tiles, halves, stages = TILES[tile]
    program = Program.from_text(ptx, kernel_name("forward", given.x.dtype, operand, f"Li{tiles}ELi{halves}E"))
    memory = Global()
    arrays = raw(given.x), raw(two_four.grid_table(given.knots)), packed(ptx, given.weight, operand)
    addresses = [memory.put(one) for one in arrays]
    result = memory.room(rows * outputs * y_dtype.itemsize)
    sizes = inputs, outputs, -(-(slots - 1) // 8), ACTIVATIONS.index(given.activation), STORAGES[y_dtype], inputs % 4 == 0
    call = struct.pack("<QQQQqIIIii?3x", *addresses, result, rows, *sizes)
    machine = Machine(program, memory, shared_bytes=stages * (halves // 2 * 4608 + 128), order=order, early=early)
    machine.launch(-(-rows // (64 * tiles)) * -(-outputs // (8 * halves)), call)
    return torch.from_numpy(memory.get(result, (rows, outputs * y_dtype.itemsize), np.uint8)).view(y_dtype)


def assert_same_operands(y: torch.Tensor, given: Layer) -> None:
    """But for the order of the sum, slots that lie at a rounding's edge, and a 16-bit y's own rounding."""
    expected = given.same_operands()
    own = torch.finfo(y.dtype).eps / 2 if y.dtype != torch.float32 else 0
    error = np.sqrt(np.mean((y.double().numpy() - expected) ** 2))
    assert error <= (1e-4 + own) * np.sqrt(np.mean(expected**2)) + 1e-6
