"""F for any degree and any knots with 16-bit operands, in large layers: what is alive at every x is found once, then only placed.

`locate_kernel` writes planes: the number of the first alive spline, the degree + 1 values from there on, the base activation,
row weights folded in, each rounded once. `placed_forward_kernel` is the matrix product whose left operand is made from them in
the registers that feed the tensor cores: slot m is sum_q value_q [first == m - q], exact since at most one bracket is 1, in
packed arithmetic on pairs: one comparison and degree + 1 multiply-adds a slot, whatever the degree. NaN times 0 is NaN: a NaN
reaches every slot of its input, as the contract wants.

Planes lie as [blocks of 16 inputs, first | values | base, rows, 16], both sizes padded, so that a step reads whole sectors of
neighbouring rows and needs no mask. As in kernels/uniform.py every leaf of the operand's expression is a load or a constant,
and a register operand spans one step of 16.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkan.kernels import tiles
from fastkan.kernels.basis import alive, base_value, first_alive
from fastkan.kernels.elementary import INTERPRETED
from fastkan.kernels.tiles import Tile
from fastkan.kernels.uniform import GROUP, STEP

PLANE_BYTES = 64 << 20  # of planes at a time: half of it would be less than one wave of programs on a large GPU
LARGEST_SLOT = {torch.bfloat16: 2**8, torch.float16: 2**11}  # up to which the dtype has every integer
SHARED, LEAST_SHARED = {80: 166912, 90: 232448}, 101376  # bytes of shared memory for one program, by architecture
ROWS, LOCATED_ROWS = 128, 32  # per program


@triton.jit(do_not_specialize=["rows"])  # the last part of the rows has any number of them
def locate_kernel(
    x_ptr, row_weight_ptr, knots_ptr, planes_ptr, table_ptr, rows, padded_rows, I, K,
    DEGREE: tl.constexpr, BASE: tl.constexpr, NU: tl.constexpr, WEIGHTED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The planes of ROWS rows and STEP inputs; the first program also writes table [chunks, STEP], every chunk's first slot."""
    OPERAND: tl.constexpr = planes_ptr.dtype.element_ty
    row_tiles = padded_rows // ROWS
    block = tl.program_id(0) // row_tiles
    b = (tl.program_id(0) % row_tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    i = block * STEP + tl.arange(0, STEP)[None, :]
    there = (b < rows) & (i < I)
    at = b.to(tl.int64) * I + i
    x = tl.load(x_ptr + at, mask=there, other=0.0).to(WIDE)
    own_knots = tl.minimum(i, I - 1) * K
    first = first_alive(x, knots_ptr, own_knots, K, DEGREE)
    values = alive(x, first, knots_ptr, own_knots, K, DEGREE, NU) + (base_value(x, BASE, NU),)
    plane = planes_ptr + (block * (DEGREE + 3) * padded_rows + b) * STEP + tl.arange(0, STEP)[None, :]
    tl.store(plane, first.to(tl.float32).to(OPERAND))
    if WEIGHTED:
        r = tl.load(row_weight_ptr + at, mask=there, other=0.0).to(WIDE)
    for q in tl.static_range(DEGREE + 2):
        value = values[q]
        if WEIGHTED:
            value = value * r
        tl.store(plane + (q + 1) * padded_rows * STEP, value.to(OPERAND))
    if tl.program_id(0) == 0:
        for chunk in range(0, tl.cdiv(K - DEGREE - 1, SLOTS)):
            start = tl.zeros((STEP,), tl.float32) + chunk * SLOTS
            tl.store(table_ptr + chunk * STEP + tl.arange(0, STEP), start.to(OPERAND))


# ---- two 16-bit values at a time. Triton's interpreter runs no assembly: PACKED is False there, and values are float32.


@triton.jit
def less(a, b, PACKED: tl.constexpr):
    """a - b, exact wherever it can be one of a chunk's slots."""
    if not PACKED:
        return a - b
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("sub.rn.f16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise("sub.rn.bf16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.bfloat16, is_pure=True, pack=2)


@triton.jit
def equals(a, number: tl.constexpr, PACKED: tl.constexpr):
    """1 where a is the number, else 0."""
    b = tl.full(a.shape, number, a.dtype)
    if not PACKED:
        return (a == b).to(tl.float32)
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("set.eq.f16x2.f16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise("set.eq.bf16x2.bf16x2 $0, $1, $2;", "=r,r,r", [a, b], tl.bfloat16, is_pure=True, pack=2)


@triton.jit
def multiply_add(a, b, c, PACKED: tl.constexpr):
    if not PACKED:
        return a * b + c
    elif a.dtype == tl.float16:
        return tl.inline_asm_elementwise("fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.float16, is_pure=True, pack=2)
    else:
        return tl.inline_asm_elementwise(
            "fma.rn.bf16x2 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.bfloat16, is_pure=True, pack=2
        )


@triton.jit
def unpacked(a, PACKED: tl.constexpr):
    return a if PACKED else a.to(tl.float32)


@triton.jit(do_not_specialize=["rows"])
def placed_forward_kernel(
    planes_ptr, table_ptr, weight_ptr, y_ptr, rows, padded_rows, I, O, S,
    DEGREE: tl.constexpr, PACKED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One tile [ROWS, COLUMNS] of y: splines chunk by chunk for 16 inputs at a time, then the base slots."""
    OPERAND: tl.constexpr = planes_ptr.dtype.element_ty
    row_tiles, column_tiles = tl.cdiv(rows, ROWS), tl.cdiv(O, COLUMNS)
    first_tile = tl.program_id(0) // (GROUP * column_tiles) * GROUP
    group = tl.minimum(row_tiles - first_tile, GROUP)
    within = tl.program_id(0) % (GROUP * column_tiles)
    b = (first_tile + within % group) * ROWS + tl.arange(0, ROWS)
    o = within // group * COLUMNS + tl.arange(0, COLUMNS)
    column_there = (o < O)[None, :]
    lane = tl.arange(0, STEP)
    chunks = tl.cdiv(S, SLOTS)
    plane_size = padded_rows * STEP
    own = planes_ptr + b[:, None] * STEP + lane[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(0, tl.cdiv(I, STEP) * chunks):
        chunk = step % chunks
        block = step // chunks
        plane = own + block * (DEGREE + 3) * plane_size
        start = unpacked(tl.load(table_ptr + chunk * STEP + lane)[None, :], PACKED)
        distance = unpacked(tl.load(plane), PACKED)
        distance = less(distance, tl.broadcast_to(start, (ROWS, STEP)), PACKED)
        values = ()
        for q in tl.static_range(1, DEGREE + 2):
            values = values + (unpacked(tl.load(plane + q * plane_size), PACKED),)
        brackets = ()  # [distance == -degree], ..., and one more for every slot
        for k in tl.static_range(DEGREE):
            brackets = brackets + (equals(distance, k - DEGREE, PACKED),)
        i = block * STEP + lane
        w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + chunk * SLOTS) * O + o[None, :]
        for k in tl.static_range(SLOTS):
            w = tl.load(w_row + k * O, mask=(i < I)[:, None] & column_there & (chunk * SLOTS + k < S), other=0.0)
            brackets = brackets + (equals(distance, k, PACKED),)
            left = tl.full(distance.shape, 0.0, distance.dtype)
            for q in tl.static_range(DEGREE + 1):
                left = multiply_add(values[q], brackets[k + DEGREE - q], left, PACKED)
            total = tl.dot(left.to(OPERAND), w, total)
    for i0 in range(0, I, 4 * STEP):
        for q in tl.static_range(4):
            i = i0 + q * STEP + lane
            base = own + ((i0 // STEP + q) * (DEGREE + 3) + DEGREE + 2) * plane_size
            left = tl.load(base, mask=(i < I)[None, :], other=0.0)
            w_row = weight_ptr + (i.to(tl.int64)[:, None] * (S + 1) + S) * O + o[None, :]
            w = tl.load(w_row, mask=(i < I)[:, None] & column_there, other=0.0)
            total = tl.dot(left, w, total)
    y = y_ptr + b.to(tl.int64)[:, None] * O + o[None, :]
    tl.store(y, total.to(y_ptr.dtype.element_ty), mask=(b < rows)[:, None] & column_there)


def serves(architecture: int, dtype: torch.dtype, degree: int, nu: int, slots: int, B: int, I: int, O: int) -> bool:
    """Whether F of weights [I, slots, O] may take this path; slots times row weights must fit the dtype.

    Not sm_100, whose tensor memory does not hold eight register operands (tiles.uniform_serves). bfloat16 is compared in pairs
    from sm_90 on. Derivatives leave float16's range. Smaller layers do not fill the tiles, and inputs so many that a tile's
    planes pass PLANE_BYTES would take too much memory.
    """
    if dtype not in LARGEST_SLOT or (dtype == torch.float16 and nu > 0) or slots - 1 > LARGEST_SLOT[dtype]:
        return False
    families = (8, 9, 12) if dtype == torch.float16 else (9, 12)
    if architecture // 10 not in families and not INTERPRETED:
        return False
    return B >= 1024 and STEP.value <= I and O > 64 and _row_bytes(I, degree) * ROWS <= PLANE_BYTES


def _tile(architecture: int, degree: int, S: int, O: int) -> Tile:
    """Three stages: with two, Triton copies a step's operands only after the products of the step before, and then waits.

    Hopper's own instruction reads 256 columns at once, and its last product still reads its weights in the next step. Of the
    slots a step for which the buffers fit, those that move the fewest bytes: a chunk moves the planes again, and the last one
    may be partly empty.
    """
    columns = 256 if architecture == 90 and O > 128 else 128
    plane, slot = ROWS * STEP.value * 2, columns * STEP.value * 2
    left = SHARED.get(architecture, LEAST_SHARED) - 2 * (degree + 2) * plane - 4 * STEP.value
    fitting = range(1, max(1, min(8, left // ((3 if architecture == 90 else 2) * slot))) + 1)
    slots = min(fitting, key=lambda slots: triton.cdiv(S, slots) * (slots * slot + (degree + 2) * plane))
    return Tile(rows=ROWS, columns=columns, slots=slots, warps=8, stages=3)


def _row_bytes(I: int, degree: int) -> int:
    return triton.cdiv(I, STEP.value) * STEP.value * (degree + 3) * 2


def _rows_at_once(row_bytes: int, column_tiles: int, processors: int) -> int:
    """Tiles whose planes fit into PLANE_BYTES, as whole waves of programs if that many do."""
    affordable = max(1, PLANE_BYTES // (row_bytes * ROWS))
    wave = max(1, processors // column_tiles)
    return (affordable - affordable % wave if affordable >= wave else affordable) * ROWS


def forward(
    y: Tensor, x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int
) -> Tensor:
    """Fill y: the contiguous arguments of fastkan/reference.py, where `serves` says so."""
    (B, I), (_, M, O) = x.shape, weight.shape
    step, card = STEP.value, tiles.card(x.device)
    tile = _tile(tiles.architecture(x.device), degree, M - 1, O)
    column_tiles, blocks = triton.cdiv(O, tile.columns), triton.cdiv(I, step)
    at_once = _rows_at_once(_row_bytes(I, degree), column_tiles, card.processors)
    planes = weight.new_empty(_row_bytes(I, degree) // 2 * min(at_once, triton.cdiv(B, ROWS) * ROWS))
    table = weight.new_empty(triton.cdiv(M - 1, tile.slots) * step)
    wide = tl.float64 if x.dtype == torch.float64 else tl.float32
    for start in range(0, B, at_once):
        part = slice(start, min(start + at_once, B))
        rows = part.stop - start
        row_tiles = triton.cdiv(rows, ROWS)
        locate_kernel[(blocks * row_tiles * (ROWS // LOCATED_ROWS),)](
            x[part], None if row_weight is None else row_weight[part], knots, planes, table, rows, row_tiles * ROWS, I,
            knots.shape[1], DEGREE=degree, BASE=base, NU=nu, WEIGHTED=row_weight is not None, WIDE=wide, ROWS=LOCATED_ROWS,
            SLOTS=tile.slots, enable_fp_fusion=True,
        )  # fmt: skip
        placed_forward_kernel[(row_tiles * column_tiles,)](
            planes, table, weight, y[part], rows, row_tiles * ROWS, I, O, M - 1,
            DEGREE=degree, PACKED=not INTERPRETED, ROWS=ROWS, COLUMNS=tile.columns, SLOTS=tile.slots,
            num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
        )  # fmt: skip
    return y
