"""Which kernel and which tile serve a call: a readable heuristic, and a table of what measurements have found better.

No autotuning at run time: the first call of a shape would be slow, and two runs could round differently.
"""

import functools
from dataclasses import dataclass

import torch
import triton

WORKSPACE = 64 << 20  # bytes of partial sums that cutting a sum over rows into splits may take


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


@dataclass(frozen=True)
class Card:
    """What the choice of a tile needs to know about a GPU."""

    architecture: int  # as `architecture` has it
    processors: int


@functools.cache
def card(device: torch.device) -> Card:
    if device.type != "cuda":
        return Card(INTERPRETER, 1)  # one program after the other
    properties = torch.cuda.get_device_properties(device)
    return Card(architecture(device), properties.multi_processor_count)


AMD, INTERPRETER = -1, 0


@functools.cache
def architecture(device: torch.device) -> int:
    """Compute capability times 10, AMD or INTERPRETER."""
    if device.type != "cuda" or torch.version.hip:
        return AMD if device.type == "cuda" else INTERPRETER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


# ---- what was measured, before any rule

# GPU name -> (kernel, dtype of the product, buckets of B, I, O) -> tile; benchmarks/tune.py prints the entries. Empty: nothing
# is measured yet.
MEASURED: dict[str, dict[tuple[str, str, tuple[int, ...]], Tile]] = {}


@functools.cache
def name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def key(kernel: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> tuple[str, str, tuple[int, ...]]:
    """Sizes within a factor of four share a bucket."""
    return kernel, str(dtype).removeprefix("torch."), tuple((size.bit_length() + 1) // 2 for size in sizes)


def chosen(kernel: str, device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...], rule: Tile) -> Tile:
    """The measured tile for B, I, O, else the rule's."""
    measured = MEASURED.get(name(device))
    return measured.get(key(kernel, dtype, sizes), rule) if measured else rule


# ---- any degree, grid and dtype (forward.py, grad_input.py, grad_weight.py)

SPILLS_FROM_DEGREE = 6  # degree + 1 values per x no longer fit beside the large tiles


def large(on_tensor_cores: bool, degree: int, rows: int, columns: int) -> bool:
    """Layers that fill tiles of 128: below them the small tiles leave fewer processors idle."""
    return on_tensor_cores and degree < SPILLS_FROM_DEGREE and rows >= 1024 and columns > 64


def small(B: int, I: int, O: int) -> bool:
    """Layers of pykan's sizes: their gradients share a launch, and short tiles spread them over more processors."""
    return B <= 8192 and I <= 64 and O <= 64


def gradients(dtype: torch.dtype) -> Tile:
    if dtype == torch.float64:
        return Tile(rows=16, columns=32, inputs=4, slots=4, depth=16)
    return Tile(rows=32, columns=64, inputs=4, slots=8, depth=32)


def forward(dtype: torch.dtype, large: bool, small: bool) -> Tile:
    if dtype == torch.float64:
        return Tile(rows=16 if small else 32, columns=32, inputs=2, slots=8)
    if small:
        return (
            Tile(rows=16, columns=64, inputs=2, slots=8)
            if dtype == torch.float32
            else Tile(rows=16, columns=64, inputs=4, slots=4)
        )
    if large:
        return Tile(rows=128, columns=128, inputs=2, slots=8, warps=8)
    if dtype == torch.float32:
        return Tile(rows=128, columns=64, inputs=2, slots=8, warps=8)
    return Tile(rows=64, columns=64, inputs=2, slots=8)


def grad_input(dtype: torch.dtype, large: bool) -> Tile:
    if dtype == torch.float64:
        return Tile(rows=32, inputs=4, slots=4, depth=16)
    return Tile(rows=128 if large and dtype.itemsize == 2 else 64, inputs=8, slots=8, depth=32, warps=8)


def grad_weight(dtype: torch.dtype, large: bool) -> Tile:
    if dtype == torch.float64:
        return Tile(columns=32, inputs=4, slots=8, depth=16)
    if large:
        return Tile(columns=128, inputs=16, slots=8, depth=16, warps=8)
    return Tile(columns=64, inputs=8, slots=8, depth=32)


# ---- cubic splines on uniform grids with 16-bit or TF32 operands (uniform.py)


def uniform_serves(arch: int, B: int, I: int, O: int) -> bool:
    """Small layers would fill few of its tiles; odd sizes load a value at a time and spill; AMD's compiler spills as well.

    sm_100 keeps register operands in tensor memory, and eight of them do not fit (1040 columns of 512): Triton 3.6 and 3.7 emit
    an empty kernel.
    """
    fills = B >= 64 and I >= 16 and O > 32 and not small(B, I, O)
    return fills and I % 4 == 0 and O % 8 == 0 and arch != AMD and arch // 10 != 10


def uniform_forward(arch: int, width: int, O: int) -> Tile:
    """Hopper's own instruction reads 256 columns at once; 4-byte operands fill shared memory twice as fast.

    Three stages where shared memory has room: with two, Triton waits for a step's copies right after it has asked for them.
    """
    widest = 256 if arch == 90 and width == 2 else 128 if width == 2 or arch == 90 else 64
    stages = 3 if arch in (80, 90) and width == 2 else 2
    return Tile(rows=128, columns=min(widest, triton.next_power_of_2(O)), warps=8, stages=stages)


def uniform_grad_input(arch: int, width: int) -> Tile:
    return Tile(rows=128, inputs=16, depth=128 // width if arch == 90 else 64 // width, warps=8, stages=3 if arch == 90 else 2)


def uniform_grad_weight(arch: int, width: int, O: int) -> Tile:
    widest = 256 if arch == 90 and width == 2 else 128 if width == 2 or arch == 90 else 64
    return Tile(columns=min(widest, triton.next_power_of_2(O)), inputs=16, slots=8, depth=64, warps=8)


# ---- the expanded basis and cuBLAS (unfused.py)

# GPU name -> outputs from which on `unfused` was measured to be faster than the fused kernels. Empty: nothing is measured yet.
UNFUSED_FROM_OUTPUTS: dict[str, int] = {}


def unfused(device: torch.device, O: int) -> bool:
    """True where a measurement says that writing out the basis pays: never by guess, for it costs up to 32 MiB a call."""
    least = UNFUSED_FROM_OUTPUTS.get(name(device))
    return least is not None and least <= O


# ---- sums over rows


def splits(programs: int, rows: int, rows_per_step: int, answer_bytes: int, processors: int) -> int:
    """Into how many parts a sum over rows is cut: two waves of programs, each with four steps at least."""
    wanted = triton.cdiv(2 * processors, max(1, programs))
    useful = max(1, rows // (4 * rows_per_step))
    affordable = max(1, WORKSPACE // max(1, answer_bytes))
    return max(1, min(wanted, useful, affordable))
