"""PTX text as a list of instructions: what nvcc prints for one kernel, with registers, labels, parameters and shared memory."""

import functools
import re
from dataclasses import dataclass, field

import numpy as np

BITS = {"pred": bool, "8": np.uint8, "16": np.uint16, "32": np.uint32, "64": np.uint64}
KINDS = {"pred": bool, "f16": np.float16, "f32": np.float32, "f64": np.float64} | {
    letter + bits: np.dtype(f"{sign}{int(bits) // 8}").type
    for letter, sign in (("u", "u"), ("b", "u"), ("s", "i"))
    for bits in ("8", "16", "32", "64")
}


@dataclass
class Instruction:
    """One statement: `@!p add.s32 a, b, c` has guard p, negated, the parts add and s32, and the operands a, b, c."""

    text: str
    guard: str | None
    negated: bool
    parts: list[str]
    operands: list[str]

    @property
    def opcode(self) -> str:
        return self.parts[0]

    @property
    def kind(self) -> str:
        return self.parts[-1]


def split(operands: str) -> list[str]:
    """Operands at the commas that no brace or bracket encloses."""
    found, depth, current = [], 0, ""
    for letter in operands:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += letter
    return [*found, current.strip()] if current.strip() else found


def statements(body: str) -> list[str]:
    """Statements of a function body, labels as `LABEL name`; scopes that inline assembly opens are laid flat."""
    body = re.sub(r"//[^\n]*", "", body)
    body = re.sub(r"^\s*(\$?[A-Za-z_][\w$]*):(?!:)", r" ;LABEL \1; ", body, flags=re.MULTILINE)
    found, depth, current = [], 0, ""
    for letter in body:
        if letter == ";" and depth == 0:
            found.append(current.strip())
            current = ""
        elif (letter == "{" and not current.strip()) or (letter == "}" and depth == 0):
            continue  # a scope; the braces of a vector come within a statement
        else:
            depth += (letter == "{") - (letter == "}")
            current += letter
    return [" ".join(one.split()) for one in found if one.strip()]


def parse(statement: str) -> Instruction:
    guard = re.match(r"@(!?)(%?\w+)\s+(.*)", statement)
    negated, name, rest = (guard[1] == "!", guard[2], guard[3]) if guard else (False, None, statement)
    opcode, _, operands = rest.partition(" ")
    return Instruction(statement, name, negated, re.split(r"\.|::", opcode), split(operands))


@dataclass
class Program:
    """One kernel of a PTX module, by (a part of) its name."""

    name: str
    threads: int = 0
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)  # of brx.idx
    parameters: dict[str, int] = field(default_factory=dict)  # name -> bytes, in order
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> (alignment, bytes), dynamic: 0 bytes
    last_label: str = ""
    _prefixes: dict[str, type] = field(default_factory=dict)

    @classmethod
    @functools.cache
    def from_text(cls, text: str, name: str) -> "Program":
        entries = re.findall(r"\.entry\s+([\w$]+)", text)
        matching = [entry for entry in entries if name in entry]
        if len(matching) != 1:
            raise ValueError(f"{name} is a part of {len(matching)} kernels: {', '.join(matching or entries)}")
        head = re.search(rf"\.entry\s+{re.escape(matching[0])}\s*\((.*?)\)(.*?)\n\{{", text, re.DOTALL)
        end = text.find(".entry", head.end())
        body = text[head.end() : end if end >= 0 else len(text)]
        program = cls(matching[0])
        for one in head[1].split(",\n"):
            size, parameter, count = re.search(r"\.[busf](\d+)\b.*?([\w$]+)(?:\[(\d+)\])?$", one.strip()).groups()
            program.parameters[parameter] = int(size) // 8 * int(count or 1)
        program.threads = int(np.prod([int(n) for n in re.search(r"\.maxntid\s+([\d, ]+)", head[2])[1].split(",")]))
        program._declare_shared(text[: text.find(".entry")])
        program._read(body[: body.rfind("\n}") if "\n}" in body else len(body)])
        return program

    def _declare_shared(self, text: str) -> None:
        found = re.findall(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.\w(\d+)\s+([\w$]+)(?:\[(\d*)\])?", text)
        for alignment, size, name, count in found:
            self.shared[name] = (int(alignment or 1), int(size) // 8 * int(count) if count else 0)

    def _read(self, body: str) -> None:
        # what follows the kernel's closing brace belongs to the next one
        body = body.split("\n}\n")[0]
        self._declare_shared(body)
        for statement in statements(body):
            if statement.startswith("LABEL "):
                self.last_label = statement.removeprefix("LABEL ")
                self.labels[self.last_label] = len(self.instructions)
            elif statement.startswith(".reg"):
                kind, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement).groups()
                for one in names.split(","):
                    bits = kind if kind == "pred" else re.sub(r"\D", "", kind)
                    self._prefixes[re.sub(r"<\d+>", "", one.strip())] = BITS[bits]
            elif statement.startswith(".branchtargets"):
                self.tables[self.last_label] = split(statement.removeprefix(".branchtargets"))
            elif not statement.startswith("."):
                self.instructions.append(parse(statement))

    def bits(self, register: str) -> type | None:
        """The unsigned type that holds a register, or None for what is no register."""
        return self._prefixes.get(register) or self._prefixes.get(re.sub(r"\d+$", "", register))
