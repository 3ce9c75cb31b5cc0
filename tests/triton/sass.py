"""Machine code of NVIDIA GPUs as nvdisasm prints it: loops, kinds of instruction, and two races that Triton has let through.

Both races are of Hopper's asynchronous matrix product (WGMMA, HGMMA in machine code), which goes on reading its operands until
WARPGROUP.DEPBAR: a register operand must not be written before (triton-lang/triton#9433), and a shared-memory operand must not
be overwritten by another warpgroup's copy without a barrier in between (#11047).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

MATRIX = re.compile(r"UTC\w*MMA|[HQID]GMMA|[HQIDO]MMA")
SCALAR_PRODUCT = re.compile(r"[FD]FMA|HFMA2")
LOCAL = ("LDL", "STL")
# Whose first operand is no register that they write.
WRITES_NOTHING = (
    "BRA", "EXIT", "NOP", "BAR", "WARP", "DEPBAR", "LDGDEPBAR", "SYNCS", "FENCE", "ERRBAR", "MEMBAR", "CCTL",
    "ISETP", "FSETP", "DSETP", "HSETP2", "PLOP3", "R2UR", "R2P", "ST", "LDGSTS", "RED", "U",
)  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str  # with its modifiers: HGMMA.64x256x16.F32.BF16
    operands: str


@dataclass(frozen=True)
class Program:
    instructions: list[Instruction]
    loops: list[tuple[int, int]]  # numbers of the first and the last instruction, the branch back

    def body(self, loop: tuple[int, int]) -> list[Instruction]:
        return self.instructions[loop[0] : loop[1] + 1]

    def matrix_loops(self) -> list[list[Instruction]]:
        return [body for body in map(self.body, self.loops) if any(is_matrix(i) for i in body)]

    def hot_loop(self) -> list[Instruction]:
        """The loop that multiplies most per turn, loops inside it left out: on tensor cores where the kernel uses any."""
        work = {loop: self._work(loop) for loop in self.loops}
        hottest = max(work, key=work.__getitem__, default=None)
        return self.body(hottest) if hottest and work[hottest] > (0, 0) else []

    def _work(self, loop: tuple[int, int]) -> tuple[int, int]:
        """(columns of matrix products, scalar products) of one turn: compared in this order."""
        inside = [other for other in self.loops if other != loop and _within(other, loop)]
        inner = {n for start, end in inside for n in range(start, end + 1)}
        own = [self.instructions[n] for n in range(loop[0], loop[1] + 1) if n not in inner]
        widths = [re.search(r"\.\d+x(\d+)x", i.opcode) for i in own if is_matrix(i)]
        return sum(int(w[1]) if w else 8 for w in widths), sum(SCALAR_PRODUCT.match(i.opcode) is not None for i in own)


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def is_matrix(instruction: Instruction) -> bool:
    return MATRIX.match(instruction.opcode) is not None


def parse(listing: str) -> Program:
    """The output of `nvdisasm -c` for one kernel."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(\S+?)(?:\s+(.*?))?\s*;", line):
            instruction = Instruction(int(found[1], 16), found[2], found[3] or "")
            back = re.search(r"\.L_\w+", instruction.operands) if instruction.opcode.startswith("BRA") else None
            if back and back[0] in labels:  # seen already, so the branch goes back
                loops.append((labels[back[0]], len(instructions)))
            instructions.append(instruction)
    return Program(instructions, loops)


def tensor_clocks(body: list[Instruction]) -> float:
    """Clocks that Hopper's tensor cores need for the WGMMAs of a body, at 2048 16-bit products a clock.

    A warpgroup issues one instruction a clock and SM: more instructions than clocks, and the tensor cores wait for them.
    """
    clocks = 0.0
    for instruction in body:
        if shape := re.match(r"HGMMA(\.SP)?\.(\d+)x(\d+)x(\d+)", instruction.opcode):
            rate = 2048 * (2 if shape[1] else 1) / (2 if "TF32" in instruction.opcode else 1)
            clocks += int(shape[2]) * int(shape[3]) * int(shape[4]) / rate
    return clocks


# ---- race 1: a register operand written while its matrix product may still read it


def written(instruction: Instruction) -> set[int]:
    """Numbers of the registers that an instruction writes."""
    if instruction.opcode.startswith(WRITES_NOTHING):
        return set()
    first = None
    for operand in instruction.operands.split(",")[:3]:  # predicates may come first
        if first := re.match(r"\s*R(\d+)", operand):
            break
        if not re.match(r"\s*!?U?P(T|\d+)\s*$", operand):
            return set()
    return set(range(int(first[1]), int(first[1]) + _registers_wide(instruction.opcode))) if first else set()


def _registers_wide(opcode: str) -> int:
    if width := re.match(r"[HQI]GMMA(?:\.SP)?\.\d+x(\d+)x", opcode):
        return int(width[1]) // 2
    if matrices := re.match(r"LDSM.*\.(\d)$", opcode):
        return int(matrices[1])
    if re.match(r"[HI]MMA|LD\S*\.128", opcode):
        return 4
    return 2 if re.search(r"\.64|\.WIDE", opcode) or opcode.startswith("D") else 1


def register_operand(instruction: Instruction) -> set[int]:
    """The four registers of the left operand of a WGMMA; none where it lies in shared memory."""
    if not re.match(r"[HQI]GMMA", instruction.opcode):
        return set()
    left = re.match(r"R\d+,\s*R(\d+)", instruction.operands)
    return set(range(int(left[1]), int(left[1]) + 4)) if left else set()


def _twice(body: list[Instruction]) -> Iterator[Instruction]:
    return chain(body, body)  # for what crosses the branch back


def overwritten_operands(body: list[Instruction]) -> set[int]:
    """Addresses of instructions that write a register which a WGMMA in flight may still read."""
    in_flight: list[set[int]] = []
    guilty = set()
    for instruction in _twice(body):
        if instruction.opcode.startswith("WARPGROUP.DEPBAR"):
            left = int(instruction.operands.split(",")[-1], 16)
            in_flight = in_flight[len(in_flight) - left :] if left else []
        elif re.match(r"[HQI]GMMA", instruction.opcode):
            in_flight.append(register_operand(instruction))
        elif written(instruction) & set().union(*in_flight):
            guilty.add(instruction.address)
    return guilty


# ---- race 2: a slot of the pipeline refilled while another warpgroup may still read it


def unguarded_refills(body: list[Instruction]) -> set[int]:
    """Addresses of asynchronous copies to shared memory without a barrier since the last wait for a WGMMA."""
    guarded, guilty = True, set()
    for instruction in _twice(body):
        if instruction.opcode.startswith("BAR"):
            guarded = True
        elif instruction.opcode.startswith("WARPGROUP.DEPBAR"):
            guarded = False
        elif instruction.opcode.startswith("LDGSTS") and not guarded:
            guilty.add(instruction.address)
    return guilty
