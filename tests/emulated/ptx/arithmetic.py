"""Instructions that compute from registers to registers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from memory import SHARED_WINDOW
from numbers16 import BITS, VALUES
from program import KINDS, Instruction, Program
from warp import LANES, Warp, source, split_registers, target

OPERATIONS: dict[str, Callable[[Instruction, Program], Callable[[Warp], Any]]] = {}


def operation(*opcodes: str) -> Callable:
    """Registers decode(instruction, program) -> run(warp)."""

    def register(decode: Callable) -> Callable:
        OPERATIONS.update(dict.fromkeys(opcodes, decode))
        return decode

    return register


def saturated(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0, np.clip(values, 0, 1)).astype(values.dtype)


def elementwise(opcode: str, of: Callable[..., np.ndarray], count: int) -> None:
    """Registers an instruction whose operands and result have the one type it names."""

    def decode(i: Instruction, program: Program) -> Callable[[Warp], Any]:
        reads = [source(program, operand, i.kind) for operand in i.operands[1 : count + 1]]
        write, dtype = target(program, i.operands[0]), np.dtype(KINDS[i.kind])
        saturate = "sat" in i.parts

        def run(warp: Warp) -> None:
            values = of(*[read(warp) for read in reads])
            write(warp, saturated(values) if saturate else values if values.dtype == dtype else values.astype(dtype))

        return run

    OPERATIONS[opcode] = decode


def is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


def shift_left(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    bits = 8 * values.dtype.itemsize
    return np.where(counts < bits, values << np.minimum(counts, bits - 1).astype(values.dtype), 0).astype(values.dtype)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if is_float(a):
        return a / b
    if not b.all():
        raise ZeroDivisionError("division by 0")
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)) if a.dtype.kind == "i" else a // b


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - divide(a, b) * b


for _opcode, _of, _count in (
    ("add", lambda a, b: a + b, 2),
    ("sub", lambda a, b: a - b, 2),
    ("div", divide, 2),
    ("rem", remainder, 2),
    ("neg", lambda a: -a, 1),
    ("abs", np.abs, 1),
    ("min", lambda a, b: np.fmin(a, b) if is_float(a) else np.minimum(a, b), 2),
    ("max", lambda a, b: np.fmax(a, b) if is_float(a) else np.maximum(a, b), 2),
    ("and", lambda a, b: a & b, 2),
    ("or", lambda a, b: a | b, 2),
    ("xor", lambda a, b: a ^ b, 2),
    ("not", lambda a: ~a, 1),
    ("copysign", lambda a, b: np.copysign(b, a), 2),
    ("ex2", lambda a: np.exp2(a.astype(np.float64)), 1),
    ("lg2", lambda a: np.log2(a.astype(np.float64)), 1),
    ("rcp", lambda a: 1 / a.astype(np.float64), 1),
    ("sqrt", lambda a: np.sqrt(a.astype(np.float64)), 1),
    ("rsqrt", lambda a: 1 / np.sqrt(a.astype(np.float64)), 1),
    ("tanh", lambda a: np.tanh(a.astype(np.float64)), 1),
):
    elementwise(_opcode, _of, _count)


@operation("mul", "mad", "fma")
def multiply(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    """Exact in twice the width, then one rounding (a second one in rare halfway cases of float32, and in float64)."""
    dtype = np.dtype(KINDS[i.kind])
    wide = {"f": np.float64 if dtype.itemsize < 8 else np.longdouble, "i": np.int64, "u": np.uint64}[dtype.kind]
    reads = [source(program, operand, i.kind) for operand in i.operands[1:3]]
    added_kind = f"{i.kind[0]}{2 * int(i.kind[1:])}" if "wide" in i.parts else i.kind
    added = source(program, i.operands[3], added_kind) if len(i.operands) > 3 else None
    write, high, shift = target(program, i.operands[0]), "hi" in i.parts, 8 * dtype.itemsize
    if high and dtype.itemsize == 8:
        raise NotImplementedError(i.text)

    def run(warp: Warp) -> None:
        product = reads[0](warp).astype(wide) * reads[1](warp).astype(wide)
        if high:
            product >>= wide(shift)
        if added is not None:
            product = product + added(warp).astype(wide)
        values = product.astype(KINDS[added_kind])
        write(warp, saturated(values) if "sat" in i.parts else values)

    return run


@operation("shl", "shr")
def shift(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    read, counts = source(program, i.operands[1], i.kind), source(program, i.operands[2], "u32")
    write, left = target(program, i.operands[0]), i.opcode == "shl"

    def run(warp: Warp) -> None:
        values, by = read(warp), counts(warp)
        if left:
            write(warp, shift_left(values, by))
            return
        bits = 8 * values.dtype.itemsize
        most = bits - 1 if values.dtype.kind == "i" else bits  # what is left of a signed number is its sign
        kept = values >> np.minimum(by, bits - 1).astype(values.dtype)
        write(warp, np.where(by < most, kept, kept if values.dtype.kind == "i" else 0).astype(values.dtype))

    return run


@operation("prmt")
def permute(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    reads, write = [source(program, operand, "u32") for operand in i.operands[1:4]], target(program, i.operands[0])

    def run(warp: Warp) -> None:
        low, high, selectors = (read(warp) for read in reads)
        both = np.concatenate([low.copy().view(np.uint8).reshape(32, 4), high.copy().view(np.uint8).reshape(32, 4)], axis=1)
        nibbles = (selectors[:, None] >> (4 * np.arange(4, dtype=np.uint32))) & np.uint32(15)
        chosen = both[LANES[:, None], nibbles & 7]
        signs = np.where(chosen >= 128, 255, 0)  # bit 3: the sign eight times
        write(warp, np.where(nibbles >= 8, signs, chosen).astype(np.uint8).view(np.uint32).reshape(32))

    return run


@operation("lop3")
def logic(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    reads, write = [source(program, operand, "u32") for operand in i.operands[1:4]], target(program, i.operands[0])
    table = int(i.operands[4], 0)

    def run(warp: Warp) -> None:
        a, b, c = (read(warp) for read in reads)
        rows = [(a if n & 4 else ~a) & (b if n & 2 else ~b) & (c if n & 1 else ~c) for n in range(8) if table >> n & 1]
        write(warp, np.bitwise_or.reduce(rows) if rows else np.zeros(32, np.uint32))

    return run


COMPARISONS: dict[str, Callable] = {
    "eq": np.equal, "ne": lambda a, b: (a != b) & ~_unordered(a, b), "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "equ": lambda a, b: (a == b) | _unordered(a, b), "neu": np.not_equal, "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b), "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "nan": lambda a, b: _unordered(a, b), "num": lambda a, b: ~_unordered(a, b),
}  # fmt: skip


def _unordered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.isnan(a) | np.isnan(b) if is_float(a) else np.zeros(32, bool)


@operation("setp")
def compare(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    reads, of = [source(program, operand, i.kind) for operand in i.operands[1:3]], COMPARISONS[i.parts[1]]
    write = target(program, i.operands[0].split("|")[0])
    if "|" in i.operands[0]:
        raise NotImplementedError(i.text)
    join = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(i.parts[2])
    third = i.operands[3].removeprefix("!") if join else None
    other = source(program, third, "pred") if third else None

    def run(warp: Warp) -> None:
        values = of(reads[0](warp), reads[1](warp))
        if join and other:
            with_it = other(warp)
            values = join(values, ~with_it if i.operands[3].startswith("!") else with_it)
        write(warp, values)

    return run


@operation("selp")
def choose(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    first, second = (source(program, operand, i.kind) for operand in i.operands[1:3])
    chosen, write = source(program, i.operands[3], "pred"), target(program, i.operands[0])
    return lambda warp: write(warp, np.where(chosen(warp), first(warp), second(warp)))


@operation("mov")
def move(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    result, given = i.operands
    if given.startswith("{"):  # parts to a whole
        parts = split_registers(given)
        size = int(i.kind[1:]) // len(parts)
        reads = [source(program, part, f"u{size}") for part in parts]
        write = target(program, result)
        return lambda warp: write(warp, np.stack([read(warp) for read in reads], 1).copy().view(KINDS[i.kind]).reshape(32))
    read = source(program, given, i.kind)
    if result.startswith("{"):
        parts = split_registers(result)
        writes = [target(program, part) for part in parts]

        def run(warp: Warp) -> None:
            columns = read(warp).copy().view(f"u{int(i.kind[1:]) // 8 // len(parts)}").reshape(32, len(parts))
            for k, write in enumerate(writes):
                write(warp, np.ascontiguousarray(columns[:, k]))

        return run
    write = target(program, result)
    return lambda warp: write(warp, read(warp))


@operation("cvta")
def convert_address(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    """Global addresses are generic ones; those of shared memory lie in a window."""
    read, write = source(program, i.operands[1], "u64"), target(program, i.operands[0])
    step = np.uint64(SHARED_WINDOW if "shared" in i.parts else 0)
    to = "to" in i.parts
    return lambda warp: write(warp, read(warp) - step if to else read(warp) + step)


ROUNDINGS = {"rni": np.rint, "rmi": np.floor, "rpi": np.ceil, "rzi": np.trunc}


@operation("cvt")
def convert(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    to, kind = i.parts[-2:]
    write = target(program, i.operands[0])
    if to in ("bf16x2", "f16x2"):
        high, low = (source(program, operand, "f32") for operand in i.operands[1:3])
        bits = BITS[to.removesuffix("x2")]
        return lambda warp: write(warp, bits(high(warp)) << np.uint32(16) | bits(low(warp)))
    if to == "tf32":  # ties away from zero
        read = source(program, i.operands[1], "u32")
        return lambda warp: write(warp, (read(warp) + np.uint32(0x1000)) & np.uint32(0xFFFFE000))
    if kind in VALUES:
        read = source(program, i.operands[1], "u16")
        return lambda warp: write(warp, VALUES[kind](read(warp)).astype(KINDS[to]))
    if to in BITS:
        read = source(program, i.operands[1], "f32")
        return lambda warp: write(warp, BITS[to](read(warp)).astype(np.uint16))
    read, whole = source(program, i.operands[1], kind), next((ROUNDINGS[p] for p in i.parts if p in ROUNDINGS), None)
    dtype, saturate = KINDS[to], "sat" in i.parts

    def run(warp: Warp) -> None:
        values = read(warp)
        values = whole(values) if whole is not None else values
        write(warp, (saturated(values) if saturate else values).astype(dtype))

    return run


@operation("shfl")
def shuffle(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    read, lanes, limits = (source(program, operand, "u32") for operand in i.operands[1:4])
    result = i.operands[0].split("|")
    writes = [target(program, name) for name in result]
    way = {"bfly": np.bitwise_xor, "idx": lambda lane, b: b & 31, "down": np.add, "up": np.subtract}
    of = next(way[part] for part in i.parts if part in way)

    def run(warp: Warp) -> None:
        if not warp.whole:
            raise RuntimeError("a shuffle without all lanes")
        if ((limits(warp) & 31) != (0 if "up" in i.parts else 31)).any():
            raise NotImplementedError("shuffles within parts of a warp")
        sources = of(LANES, lanes(warp).astype(np.int64))
        inside = (sources >= 0) & (sources < 32)
        writes[0](warp, read(warp)[np.where(inside, sources, LANES)])
        for write in writes[1:]:
            write(warp, inside)

    return run
