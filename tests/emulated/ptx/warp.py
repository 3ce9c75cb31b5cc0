"""One warp: 32 lanes with registers and a program counter each, run as vectors."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from memory import SHARED_WINDOW, Fault
from program import KINDS, Instruction, Program, split

LANES = np.arange(32)
Read = Callable[["Warp"], np.ndarray]
Write = Callable[["Warp", np.ndarray], None]


class Warp:
    """Lanes at the lowest program counter go first, so those that part meet again where their ways join."""

    def __init__(self, block: Any, number: int) -> None:
        self.block, self.number = block, number
        self.values: dict[str, np.ndarray] = {}
        self.known: dict[str, np.ndarray | None] = {}  # lanes that were written; None: all
        self.counters = np.zeros(32, np.int64)
        self.live = np.ones(32, bool)
        self.at: int | None = 0  # the counter of all lanes, while it is one
        self.mask, self.whole = self.live, True  # lanes that execute; whole: all 32
        self.waiting: tuple[int, int] | None = None  # barrier and threads it is for
        self.groups: list[list] = []  # copies in committed groups
        self.pending: list = []  # copies in none yet
        self.products = None  # of wgmma, see matrices.py

    def read(self, name: str) -> np.ndarray:
        known = self.known.get(name, False)
        if known is not None and (known is False or not known[self.mask].all()):
            raise Fault(f"{name} is read and was never written")
        return self.values[name]

    def write(self, name: str, values: np.ndarray) -> None:
        if self.whole:
            self.values[name], self.known[name] = values, None
            return
        old = self.values.get(name)
        self.values[name] = values if old is None else np.where(self.mask, values, old)
        known = self.known.get(name, False)
        if known is not None:
            self.known[name] = self.mask.copy() if known is False else known | self.mask

    # ---- control

    def run(self, code: list["Decoded"]) -> bool:
        """Until a barrier or the end; False where nothing could be done."""
        moved = False
        while self.live.any():
            if self.at is None:
                self.at = self._meet()
            together = self.at is not None
            counter = self.at if together else int(self.counters[self.live].min())
            active = self.live if together else self.live & (self.counters == counter)
            decoded = code[counter]
            decoded.executed += 1
            try:
                stop = self._execute(decoded, counter, active, together)
            except Exception as error:
                where = f"at {counter}: {decoded.instruction.text}, warp {self.number} of block {self.block.place}"
                raise Fault(f"{error} ({where})") from error
            moved = True
            if stop:
                break
        return moved

    def _meet(self) -> int | None:
        counters = self.counters[self.live]
        return int(counters[0]) if (counters == counters[0]).all() else None

    def _execute(self, decoded: "Decoded", counter: int, active: np.ndarray, together: bool) -> bool:
        executing = active
        if decoded.guard is not None:
            self.mask, self.whole = active, False
            taken = decoded.guard(self)
            executing = active & (~taken if decoded.instruction.negated else taken)
        self.mask, self.whole = executing, bool(executing.all())
        if decoded.control is not None:
            self._jump(decoded, counter, active, executing)
            return False
        stop = decoded.run(self) if executing.any() else None
        if together:
            self.at = counter + 1
        else:
            self.counters[active] = counter + 1
            self.at = self._meet()
        return stop is not None

    def _jump(self, decoded: "Decoded", counter: int, active: np.ndarray, executing: np.ndarray) -> None:
        if self.at is not None:
            self.counters[:] = self.at
        self.counters[active] = counter + 1
        if decoded.control == "ret":
            self.live = self.live & ~executing
        else:
            self.counters[executing] = decoded.run(self)[executing]
        self.at = self._meet() if self.live.any() else None


class Decoded:
    """An instruction ready to run; `run(warp)` returns what is not None where the warp must wait."""

    def __init__(self, instruction: Instruction, program: Program) -> None:
        self.instruction, self.executed = instruction, 0
        self.guard = source(program, instruction.guard, "pred") if instruction.guard else None
        self.control = {"bra": "bra", "brx": "bra", "ret": "ret", "exit": "ret"}.get(instruction.opcode)
        self.run: Callable[[Warp], Any] = lambda warp: None


# ---- operands

SPECIAL = {
    "%tid.x": lambda warp: warp.number * 32 + LANES,
    "%laneid": lambda warp: LANES,
    "%warpid": lambda warp: np.full(32, warp.number),
    "%ntid.x": lambda warp: np.full(32, warp.block.threads),
} | {
    f"%{name}.{letter}": lambda warp, of=of, axis=axis: np.full(32, getattr(warp.block, of)[axis])
    for name, of in (("ctaid", "place"), ("nctaid", "grid"))
    for axis, letter in enumerate("xyz")
}


def immediate(text: str, kind: type) -> np.ndarray:
    if text[:2].lower() in ("0f", "0d"):
        bits = np.array([int(text[2:], 16)], np.uint32 if text[1] in "fF" else np.uint64)
        return np.full(32, bits.view(np.float32 if text[1] in "fF" else np.float64)[0])
    if kind is bool:
        return np.full(32, bool(int(text, 0)))
    value = int(text.rstrip("U"), 0)
    if np.dtype(kind).kind == "f":
        return np.full(32, value, kind)
    size = np.dtype(kind).itemsize
    return np.full(32, value & ((1 << 8 * size) - 1), f"u{size}").view(kind)


def source(program: Program, text: str, kind: str) -> Read:
    """A function from a warp to the 32 values of an operand, as a type of PTX."""
    dtype = np.dtype(KINDS[kind])
    if text in SPECIAL:
        return lambda warp: SPECIAL[text](warp).astype(np.uint64).astype(f"u{dtype.itemsize}").view(dtype)
    if text.startswith(("%tid.", "%ntid.")):  # y and z: blocks are one-dimensional
        return lambda warp: np.full(32, int(text.startswith("%ntid")), dtype)
    if text in program.shared:
        return lambda warp: np.full(32, warp.block.symbols[text], dtype)
    bits = program.bits(text)
    if bits is None:
        value = immediate(text, dtype.type)
        value = value if value.dtype == dtype else value.view(dtype)
        return lambda warp: value
    if bits is bool or np.dtype(bits) == dtype:
        return lambda warp: warp.read(text)
    if np.dtype(bits).itemsize == dtype.itemsize:
        return lambda warp: warp.read(text).view(dtype)
    return lambda warp: warp.read(text).astype(f"u{dtype.itemsize}").view(dtype)  # the low bits, or zeros above


def split_registers(vector: str) -> list[str]:
    """{a, b} -> [a, b]; one register is a vector of one."""
    return split(vector.strip("{}"))


def target(program: Program, text: str) -> Write:
    """A function that writes 32 values of any type to a register: wider ones are cut, narrower ones extended."""
    if text == "_":
        return lambda warp, values: None
    bits = np.dtype(program.bits(text))

    def write(warp: Warp, values: np.ndarray) -> None:
        if bits.kind == "b":
            warp.write(text, values)
        elif values.dtype.itemsize == bits.itemsize:
            warp.write(text, np.ascontiguousarray(values).view(bits))
        else:  # sign-extended where the values have signs
            warp.write(text, values.astype(f"{'i' if values.dtype.kind == 'i' else 'u'}{bits.itemsize}").view(bits))

    return write


def address(program: Program, text: str) -> Read:
    """The 64-bit addresses of [register + offset] or [symbol + offset]."""
    base, offset = re.match(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]", text).groups()
    step = np.uint64(int(offset or "0", 0) & 0xFFFFFFFFFFFFFFFF)
    read = source(program, base, "u64")
    return lambda warp: read(warp) + step


def space(warp: Warp, addresses: np.ndarray, parts: list[str]) -> Any:
    """The memory that an access means: named, or told by a generic address."""
    if "shared" in parts:
        return warp.block.shared
    if "global" not in parts and (addresses[warp.mask] >= np.uint64(SHARED_WINDOW)).all():
        return warp.block.shared
    return warp.block.memory
