"""The rules: which layers each family of kernels serves, and with which tile. What was measured (measured.py) goes first.

No autotuning at run time: the first call of a shape would be slow, and two runs could round differently.
"""

import torch

from fastkan.kernels.call import ceil_div
from fastkan.kernels.devices import AMD, INTERPRETED, Card
from fastkan.kernels.measured import Tile
from fastkan.kernels.uniform import STEP

WORKSPACE = 64 << 20  # bytes of partial sums that cutting a sum over rows into splits may take


# ---- any degree, grid and dtype (forward.py, grad_input.py, grad_weight.py, fused_gradients.py)

SPILLS_FROM_DEGREE = 6  # degree + 1 values per x no longer fit beside the large tiles


def large(on_tensor_cores: bool, degree: int, rows: int, columns: int) -> bool:
    """Layers that fill tiles of 128: below them the small tiles leave fewer processors idle."""
    return on_tensor_cores and degree < SPILLS_FROM_DEGREE and rows >= 1024 and columns > 64


def small(B: int, I: int, O: int) -> bool:
    """Layers of pykan's sizes: their gradients share a launch, and short tiles spread them over more processors."""
    return B <= 8192 and I <= 64 and O <= 64


def fused_gradients(dtype: torch.dtype) -> Tile:
    if dtype == torch.float64:
        return Tile(rows=16, columns=32, inputs=4, slots=4, depth=16)
    return Tile(rows=32, columns=64, inputs=4, slots=8, depth=32)


def forward(dtype: torch.dtype, large: bool, small: bool) -> Tile:
    if dtype == torch.float64:
        return Tile(rows=16 if small else 32, columns=32, inputs=2, slots=8)
    if small and dtype == torch.float32:
        return Tile(rows=16, columns=64, inputs=2, slots=8)
    if small:
        return Tile(rows=16, columns=64, inputs=4, slots=4)
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


# ---- cubic splines on uniform grids with 16-bit or TF32 operands (uniform.py); width: bytes of an operand


def uniform_serves(card: Card, B: int, I: int, O: int) -> bool:
    """Small layers would fill few of its tiles; odd sizes load a value at a time and spill; AMD's compiler spills as well.

    sm_100 keeps register operands in tensor memory, and eight of them do not fit (1040 columns of 512): Triton 3.6 and 3.7 emit
    an empty kernel.
    """
    fills = B >= 64 and I >= 16 and O > 32 and not small(B, I, O)
    return fills and I % 4 == 0 and O % 8 == 0 and card.architecture != AMD and card.architecture // 10 != 10


def _uniform_columns(card: Card, width: int, O: int) -> int:
    """Hopper's own instruction reads 256 columns at once; 4-byte operands fill shared memory twice as fast."""
    widest = 256 if card.architecture == 90 and width == 2 else 128 if width == 2 or card.architecture == 90 else 64
    return min(widest, 1 << (O - 1).bit_length())


def uniform_forward(card: Card, width: int, O: int) -> Tile:
    """Three stages where shared memory has room: with two, Triton waits for a step's copies right after it has asked for them."""
    stages = 3 if card.architecture in (80, 90) and width == 2 else 2
    return Tile(rows=128, columns=_uniform_columns(card, width, O), warps=8, stages=stages)


def uniform_grad_input(card: Card, width: int) -> Tile:
    hopper = card.architecture == 90
    return Tile(rows=128, inputs=16, depth=(128 if hopper else 64) // width, warps=8, stages=3 if hopper else 2)


def uniform_grad_weight(card: Card, width: int, O: int) -> Tile:
    return Tile(columns=_uniform_columns(card, width, O), inputs=16, slots=8, depth=64, warps=8)


# ---- any degree and grid with 16-bit operands, in large layers (placed.py)

PLANE_BYTES = 64 << 20  # of planes at a time: half of it would be less than one wave of programs on a large GPU
PLACED_ROWS = 128  # of a tile
LARGEST_SLOT = {torch.bfloat16: 2**8, torch.float16: 2**11}  # up to which the dtype has every integer


def placed_serves(card: Card, dtype: torch.dtype, degree: int, nu: int, slots: int, B: int, I: int, O: int) -> bool:
    """Whether the forward pass of weights [I, slots, O] may take this path; slots times row weights must fit the dtype.

    Not sm_100, whose tensor memory does not hold eight register operands (`uniform_serves`). bfloat16 is compared in pairs from
    sm_90 on. Derivatives leave float16's range. Smaller layers do not fill the tiles, and inputs so many that a tile's planes
    pass PLANE_BYTES would take too much memory.
    """
    if dtype not in LARGEST_SLOT or (dtype == torch.float16 and nu > 0) or slots - 1 > LARGEST_SLOT[dtype]:
        return False
    families = (8, 9, 12) if dtype == torch.float16 else (9, 12)
    if card.architecture // 10 not in families and not INTERPRETED:
        return False
    return B >= 1024 and STEP.value <= I and O > 64 and plane_row_bytes(I, degree) * PLACED_ROWS <= PLANE_BYTES


def placed_forward(card: Card, degree: int, S: int, O: int) -> Tile:
    """Three stages: with two, Triton copies a step's operands only after the products of the step before, and then waits.

    Hopper's own instruction reads 256 columns at once, and its last product still reads its weights in the next step. Of the
    slots a step for which the buffers fit, those that move the fewest bytes: a chunk moves the planes again, and the last one
    may be partly empty.
    """
    hopper = card.architecture == 90
    columns = 256 if hopper and O > 128 else 128
    plane, slot = PLACED_ROWS * STEP.value * 2, columns * STEP.value * 2
    left = card.shared - 2 * (degree + 2) * plane - 4 * STEP.value
    fitting = range(1, max(1, min(8, left // ((3 if hopper else 2) * slot))) + 1)
    slots = min(fitting, key=lambda slots: ceil_div(S, slots) * (slots * slot + (degree + 2) * plane))
    return Tile(rows=PLACED_ROWS, columns=columns, slots=slots, warps=8, stages=3)


def plane_row_bytes(I: int, degree: int) -> int:
    return ceil_div(I, STEP.value) * STEP.value * (degree + 3) * 2


def placed_rows(card: Card, row_bytes: int, column_tiles: int) -> int:
    """Rows at a time: tiles whose planes fit into PLANE_BYTES, as whole waves of programs if that many do."""
    affordable = max(1, PLANE_BYTES // (row_bytes * PLACED_ROWS))
    wave = max(1, card.processors // column_tiles)
    return (affordable - affordable % wave if affordable >= wave else affordable) * PLACED_ROWS


# ---- sums over rows


def splits(programs: int, rows: int, rows_per_step: int, answer_bytes: int, processors: int) -> int:
    """Into how many parts a sum over rows is cut: two waves of programs, each with four steps at least."""
    wanted = ceil_div(2 * processors, max(1, programs))
    useful = max(1, rows // (4 * rows_per_step))
    affordable = max(1, WORKSPACE // max(1, answer_bytes))
    return max(1, min(wanted, useful, affordable))
