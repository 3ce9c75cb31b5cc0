"""Blocks of warps: loads and stores, barriers, asynchronous copies, and a launch of a grid."""

import random
import re
from collections.abc import Callable
from typing import Any

import matrices  # noqa: F401  registers its instructions
import numpy as np
from arithmetic import OPERATIONS, operation
from memory import SHARED_WINDOW, Fault, Global, Shared
from program import Instruction, Program
from warp import Decoded, Warp, address, source, space, split_registers, target

FIRST_SHARED = 1024  # bytes before the first variable: what a kernel computes from 0 is a fault
assert SHARED_WINDOW % (1 << 32) == 0


class Block:
    """Warps in an order of choice, each until its next barrier. early: copies land at once, else only at the wait."""

    def __init__(self, machine: "Machine", place: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
        self.place, self.grid, self.memory = place, grid, machine.memory
        self.threads, self.arguments, self.early = machine.program.threads, machine.arguments, machine.early
        self.symbols, top = {}, FIRST_SHARED
        for name, (alignment, size) in sorted(machine.program.shared.items(), key=lambda one: one[1][1] == 0):
            top = -(-top // alignment) * alignment  # dynamic shared memory, of no size of its own, comes last
            self.symbols[name] = top
            top += size
        self.shared = Shared(top + machine.shared_bytes)
        self.warps = [Warp(self, number) for number in range(self.threads // 32)]

    def run(self, machine: "Machine") -> None:
        while any(warp.live.any() for warp in self.warps):
            moved = False
            for warp in machine.ordered(self.warps):
                if warp.live.any() and warp.waiting is None:
                    moved |= warp.run(machine.code)
            moved |= self._open_barriers()
            if not moved:
                raise Fault(f"block {self.place}: no warp can go on")

    def _open_barriers(self) -> bool:
        opened = False
        for barrier in {warp.waiting for warp in self.warps if warp.waiting}:
            waiting = [warp for warp in self.warps if warp.waiting == barrier]
            if 32 * len(waiting) >= barrier[1]:
                for warp in waiting:
                    warp.waiting = None
                opened = True
        return opened


class Machine:
    """Runs one kernel. order: forwards, backwards or random warps; early: see Block."""

    def __init__(self, program: Program, memory: Global, *, shared_bytes: int = 0, order: str = "random", early: bool = False):
        self.program, self.memory, self.shared_bytes, self.early, self.order = program, memory, shared_bytes, early, order
        self.code = [Decoded(instruction, program) for instruction in program.instructions]
        for decoded in self.code:
            if decoded.control != "ret":
                decode = OPERATIONS.get(decoded.instruction.opcode)
                if decode is None:
                    raise NotImplementedError(decoded.instruction.text)
                decoded.run = decode(decoded.instruction, program)
        self.arguments: dict[str, bytes] = {}
        self._random = random.Random(1)

    def ordered(self, warps: list[Warp]) -> list[Warp]:
        if self.order == "random":
            return self._random.sample(warps, len(warps))
        return warps if self.order == "forwards" else warps[::-1]

    def launch(self, grid: int, *arguments: bytes) -> None:
        """`grid` blocks in a row; one bytes object a parameter."""
        sizes = list(self.program.parameters.values())
        if [len(one) for one in arguments] != sizes:
            raise ValueError(f"parameters of {sizes} bytes, received {[len(one) for one in arguments]}")
        self.arguments = dict(zip(self.program.parameters, arguments, strict=True))
        with np.errstate(all="ignore"):
            for x in range(grid):
                Block(self, (x, 0, 0), (grid, 1, 1)).run(self)

    def executed(self, opcode: str) -> int:
        """How often instructions of an opcode were run, by warps."""
        return sum(decoded.executed for decoded in self.code if decoded.instruction.opcode == opcode)


def lanes_of(i: Instruction) -> int:
    return 4 if "v4" in i.parts else 2 if "v2" in i.parts else 1


def item_size(i: Instruction) -> int:
    return int(re.sub(r"\D", "", i.kind)) // 8


@operation("ld", "ldu")
def load(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    count, size = lanes_of(i), item_size(i)
    writes = [target(program, name) for name in split_registers(i.operands[0])]
    kind = f"{'i' if i.kind[0] == 's' else 'u'}{size}"
    if "param" in i.parts:
        name, offset = re.match(r"\[([\w$]+)(?:\+(\d+))?\]", i.operands[1]).groups()

        def read_parameter(warp: Warp) -> None:
            raw = np.frombuffer(warp.block.arguments[name], np.uint8)[int(offset or 0) :][: size * count]
            for value, write in zip(raw.view(kind), writes, strict=True):
                write(warp, np.full(32, value))

        return read_parameter
    read = address(program, i.operands[1])

    def run(warp: Warp) -> None:
        addresses = read(warp)
        data = np.zeros((32, count * size), np.uint8)
        data[warp.mask] = _aligned(warp, addresses, i).load(addresses[warp.mask], count * size)
        columns = data.view(kind)
        for k, write in enumerate(writes):
            write(warp, np.ascontiguousarray(columns[:, k]))

    return run


def _aligned(warp: Warp, addresses: np.ndarray, i: Instruction) -> Any:
    return space(warp, addresses, i.parts)


@operation("st")
def store(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    kind, read = f"u{8 * item_size(i)}", address(program, i.operands[0])
    values = [source(program, name, kind) for name in split_registers(i.operands[1])]

    def run(warp: Warp) -> None:
        addresses = read(warp)
        data = np.stack([value(warp) for value in values], axis=1)[warp.mask].copy()
        _aligned(warp, addresses, i).store(addresses[warp.mask], data.view(np.uint8).reshape(len(data), -1))

    return run


@operation("bra", "brx")
def branch(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    """The counters where lanes go."""
    if i.opcode == "bra":
        to = np.full(32, program.labels[i.operands[0]])
        return lambda warp: to
    read, table = source(program, i.operands[0], "u32"), [program.labels[name] for name in program.tables[i.operands[1]]]
    return lambda warp: np.array(table)[np.minimum(read(warp), len(table) - 1)]


@operation("bar", "barrier")
def barrier(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    if "warp" in i.parts:
        return lambda warp: None
    number = source(program, i.operands[0], "u32")
    threads = source(program, i.operands[1], "u32") if len(i.operands) > 1 else None

    def run(warp: Warp) -> bool:
        if not (warp.mask == warp.live).all():
            raise Fault("a barrier that only some lanes reach")
        warp.waiting = int(number(warp)[0]), int(threads(warp)[0]) if threads else warp.block.threads
        return True

    return run


@operation("cp")
def copy(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    if "commit_group" in i.parts:
        return _commit
    if "wait_group" in i.parts or "wait_all" in i.parts:
        pending = int(i.operands[0]) if i.operands else 0
        return lambda warp: _land(warp, pending)
    if "bulk" in i.parts or len(i.operands) > 4:
        raise NotImplementedError(i.text)
    to, read = (address(program, operand) for operand in i.operands[:2])
    size = int(i.operands[2])
    filled = source(program, i.operands[3], "u32") if len(i.operands) > 3 else None  # bytes copied, the rest is 0

    def run(warp: Warp) -> None:
        block, mask = warp.block, warp.mask
        data = np.zeros((int(mask.sum()), size), np.uint8)
        taken = np.full(32, size) if filled is None else filled(warp)
        for lane, (begin, count) in enumerate(zip(read(warp)[mask], taken[mask], strict=True)):
            data[lane, :count] = block.memory.load(begin + np.arange(count, dtype=np.uint64), 1)[:, 0]
        if (read(warp)[mask] % size).any():
            raise Fault(f"a copy of {size} bytes is not aligned")
        places = block.shared.offsets(to(warp)[mask])
        if block.early:
            block.shared.bytes.store(places, data)
        else:
            block.shared.bytes.expect(places, size)
            warp.pending.append((places, data))

    return run


def _commit(warp: Warp) -> None:
    warp.groups.append(warp.pending)
    warp.pending = []


def _land(warp: Warp, pending: int) -> None:
    while len(warp.groups) > pending:
        for places, data in warp.groups.pop(0):
            warp.block.shared.bytes.store(places, data)


@operation("fence", "prefetch", "setmaxnreg", "membar", "griddepcontrol", "nop", "discard")
def nothing(i: Instruction, program: Program) -> Callable[[Warp], Any]:
    return lambda warp: None
