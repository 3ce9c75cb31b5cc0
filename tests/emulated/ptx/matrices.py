"""mma, mma.sp, wgmma, wgmma.sp and ldmatrix, from the PTX manual's description of fragments and metadata.

Products are exact in float64, with one rounding to float32 per instruction (the GPU's order differs, not its size).
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from arithmetic import operation
from memory import Fault
from numbers16 import VALUES
from program import Instruction, Program
from warp import LANES, Warp, address, source, space, split_registers, target

ROW, PAIR = LANES >> 2, LANES & 3  # lane = 4 row + pair


def shape_of(i: Instruction) -> tuple[int, int, int, str]:
    m, n, k = next(map(int, found.groups()) for part in i.parts if (found := re.fullmatch(r"m(\d+)n(\d+)k(\d+)", part)))
    return m, n, k, next(part for part in i.parts if part in VALUES)


def left_operand(registers: list[np.ndarray], columns: int, kind: str) -> np.ndarray:
    """a [16, columns] of one warp: register q has row g + 8 (q mod 2) and half q / 2 of the columns."""
    a = np.full((16, columns), np.nan)
    for q, register in enumerate(registers):
        row = ROW + 8 * (q & 1)
        if kind == "tf32":
            a[row, PAIR + 4 * (q >> 1)] = VALUES[kind](register)
        else:
            a[row, 2 * PAIR + 8 * (q >> 1)] = VALUES[kind](register & np.uint32(0xFFFF))
            a[row, 2 * PAIR + 8 * (q >> 1) + 1] = VALUES[kind](register >> np.uint32(16))
    return a


def right_operand(registers: list[np.ndarray], rows: int, kind: str) -> np.ndarray:
    """b [rows, 8] of mma."""
    b = np.full((rows, 8), np.nan)
    for q, register in enumerate(registers):
        if kind == "tf32":
            b[PAIR + 4 * q, ROW] = VALUES[kind](register)
        else:
            b[2 * PAIR + 8 * q, ROW] = VALUES[kind](register & np.uint32(0xFFFF))
            b[2 * PAIR + 8 * q + 1, ROW] = VALUES[kind](register >> np.uint32(16))
    return b


def expanded(stored: np.ndarray, metadata: np.ndarray, selector: int, columns: int, kind: str) -> np.ndarray:
    """a [16, columns] of stored [16, columns / 2]: two of every four (tf32: one of every two) by their indices.

    Selector 0 takes the words of lanes 4 g and 4 g + 1, selector 1 those of 4 g + 2 and 4 g + 3; the first has the first
    half of the columns. Bits 0 to 15 are row g, 16 to 31 row g + 8; four bits a group, the first index low.
    """
    a = np.zeros((16, columns))
    each = 2 if kind == "tf32" else 4
    groups = columns // each // 2  # in one word and row
    for row in range(16):
        for half in range(2):
            bits = int(metadata[4 * (row % 8) + 2 * selector + half]) >> (16 * (row // 8))
            for group in range(groups):
                nibble, at = bits >> (4 * group) & 15, half * groups + group
                if kind == "tf32":
                    if nibble not in (0b0100, 0b1110):
                        raise Fault(f"{nibble:04b} is no metadata of tf32: row {row}, group {at}")
                    a[row, 2 * at + (nibble == 0b1110)] = stored[row, at]
                    continue
                first, second = nibble & 3, nibble >> 2
                if first >= second:
                    raise Fault(f"metadata {nibble:04b} is not in order: row {row}, group {at}")
                a[row, 4 * at + first], a[row, 4 * at + second] = stored[row, 2 * at], stored[row, 2 * at + 1]
    return a


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return a @ b


@operation("mma")
def multiply(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    _, n, k, kind = shape_of(i)
    sparse = "sp" in i.parts
    if sparse and "ordered_metadata" not in i.parts:
        raise NotImplementedError("mma.sp without ordered_metadata: slower on newer GPUs")
    d, *operands = (split_registers(operand) for operand in i.operands[:4])
    a, b = ([source(program, name, "b32") for name in names] for names in operands[:2])
    c, writes = [source(program, name, "f32") for name in operands[2]], [target(program, name) for name in d]
    metadata = source(program, i.operands[4], "b32") if sparse else None
    selector = int(i.operands[5], 0) if sparse else 0

    def run(warp: Warp) -> None:
        if not warp.whole:
            raise RuntimeError("mma without all lanes")
        left = left_operand([read(warp) for read in a], k // 2 if sparse else k, kind)
        if metadata is not None:
            left = expanded(left, metadata(warp), selector, k, kind)
        total = product(left, right_operand([read(warp) for read in b], k, kind))
        assert total.shape == (16, n)
        for q, write in enumerate(writes):
            own = c[q](warp).astype(np.float64) + total[ROW + 8 * (q >> 1), 2 * PAIR + (q & 1)]
            write(warp, own.astype(np.float32))

    return run


@operation("ldmatrix")
def load_matrix(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    """8 x 8 squares of 16 bits: lanes 8 q .. 8 q + 7 give the rows of square q, lane 4 g + t gets row g (trans: column g)."""
    names = split_registers(i.operands[0])
    writes, read = [target(program, name) for name in names], address(program, i.operands[1])

    def run(warp: Warp) -> None:
        if not warp.whole:
            raise RuntimeError("ldmatrix without all lanes")
        rows = space(warp, read(warp), i.parts).load(read(warp)[: 8 * len(names)], 16).view(np.uint16).reshape(-1, 8, 8)
        for square, write in zip(rows, writes, strict=True):
            taken = square.T if "trans" in i.parts else square
            pairs = np.stack([taken[ROW, 2 * PAIR], taken[ROW, 2 * PAIR + 1]], axis=1)
            write(warp, np.ascontiguousarray(pairs).view(np.uint32).reshape(32))

    return run


# ---- wgmma: a warp computes its 16 rows at once, and what it read must stay as it is until the wait


class Running:
    """What a warp has on its way: operands by place, with what they held."""

    def __init__(self) -> None:
        self.fenced = False
        self.groups: list[list] = []
        self.pending: list = []

    def check(self, warp: Warp, pending: int) -> None:
        while len(self.groups) > pending:
            for places, held, registers in self.groups.pop(0):
                shared = warp.block.shared.bytes
                if not (shared.written[places].all() and (shared.data[places] == held).all()):
                    raise Fault("shared memory was overwritten while wgmma was reading it")
                for name, values in registers:
                    if not (warp.values[name] == values).all():
                        raise Fault(f"{name} was overwritten while wgmma was reading it")


def described(descriptor: int, columns: int, depth: int) -> np.ndarray:
    """Byte addresses [columns, depth, 2] of a K-major operand of 16-bit numbers, swizzled in 128 (type 1) or 32 (3) bytes."""
    start, stride, way = (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4, descriptor >> 62
    if way not in (1, 3):
        raise NotImplementedError(f"descriptors of type {way}")
    n, k = np.meshgrid(np.arange(columns), np.arange(depth), indexing="ij")
    plain = start + n // 8 * stride + n % 8 * (128 if way == 1 else 32) + 2 * k
    swizzled = plain ^ ((plain >> 7 & (7 if way == 1 else 1)) << 4)
    return swizzled[..., None] + np.arange(2)


def _control(i: Instruction) -> Callable[[Warp], Any]:
    def run(warp: Warp) -> None:
        warp.products = warp.products or Running()
        if "fence" in i.parts:
            warp.products.fenced = True
        elif "commit_group" in i.parts:
            warp.products.groups.append(warp.products.pending)
            warp.products.pending = []
        else:
            warp.products.check(warp, int(i.operands[0]))

    return run


@operation("wgmma")
def multiply_group(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    if "mma_async" not in i.parts:
        return _control(i)
    _, n, k, kind = shape_of(i)
    sparse = "sp" in i.parts
    d, names = (split_registers(operand) for operand in i.operands[:2])
    a, sums = [source(program, name, "b32") for name in names], [source(program, name, "f32") for name in d]
    writes, descriptor = [target(program, name) for name in d], source(program, i.operands[2], "u64")
    metadata = source(program, i.operands[3], "b32") if sparse else None
    selector = int(i.operands[4], 0) if sparse else 0

    def run(warp: Warp) -> None:
        if not (warp.whole and warp.products and warp.products.fenced):
            raise Fault("wgmma without all lanes, or before wgmma.fence")
        places = described(int(descriptor(warp)[0]), n, k)
        held = warp.block.shared.bytes.load(places[..., 0].reshape(-1), 2)
        b = VALUES[kind](held.copy().view(np.uint16).reshape(n, k)).astype(np.float64)
        left = left_operand([read(warp) for read in a], k // 2 if sparse else k, kind)
        if metadata is not None:
            left = expanded(left, metadata(warp), selector, k, kind)
        total, flat = product(left, b.T), places.reshape(-1)
        for q, write in enumerate(writes):
            column = 8 * (q // 4) + 2 * PAIR + (q & 1)
            write(warp, (sums[q](warp).astype(np.float64) + total[ROW + 8 * (q >> 1 & 1), column]).astype(np.float32))
        registers = [(name, warp.values[name]) for name in [*names, *([i.operands[3]] if sparse else [])]]
        warp.products.pending.append((flat, held.reshape(-1), registers))

    return run
