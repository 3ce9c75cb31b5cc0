"""Runs a static Linux program on a CPU that this machine is not, Unicorn's, with the few system calls that ours make."""

import errno
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import unicorn
from unicorn import arm64_const as arm64
from unicorn import x86_const as x86

PAGE = 1 << 12
HEAP = 1 << 32
STACK, STACK_BYTES = 1 << 46, 8 << 20  # where it begins, growing downwards


@dataclass(frozen=True)
class Cpu:
    """How Linux calls work on it: the registers of the call's number, its arguments, its result and the stack."""

    arch: int
    mode: int
    model: int
    number: int
    arguments: tuple[int, ...]
    result: int
    stack: int
    counter: int  # the address of the instruction
    calls: Mapping[int, str]  # number -> method of Guest


# By e_machine of the ELF header.
CPUS = {
    183: Cpu(
        unicorn.UC_ARCH_ARM64,
        unicorn.UC_MODE_ARM,
        arm64.UC_CPU_ARM64_A53,
        arm64.UC_ARM64_REG_X8,
        tuple(arm64.UC_ARM64_REG_X0 + i for i in range(3)),
        arm64.UC_ARM64_REG_X0,
        arm64.UC_ARM64_REG_SP,
        arm64.UC_ARM64_REG_PC,
        {64: "write", 66: "writev", 94: "exit", 98: "agree", 130: "abort", 215: "munmap", 222: "mmap", 226: "agree"},
    ),
    62: Cpu(  # a Core 2: SSSE3 and nothing later
        unicorn.UC_ARCH_X86,
        unicorn.UC_MODE_64,
        x86.UC_CPU_X86_CORE2DUO,
        x86.UC_X86_REG_RAX,
        (x86.UC_X86_REG_RDI, x86.UC_X86_REG_RSI, x86.UC_X86_REG_RDX),
        x86.UC_X86_REG_RAX,
        x86.UC_X86_REG_RSP,
        x86.UC_X86_REG_RIP,
        {
            1: "write",
            9: "mmap",
            10: "agree",
            11: "munmap",
            20: "writev",
            158: "arch_prctl",
            202: "agree",
            231: "exit",
            234: "abort",
        },
    ),
}


def whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


class Guest:
    """A process; status is what subprocess would call its return code, so -SIGILL after an instruction its CPU does not know."""

    def __init__(self, program: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        image = program.read_bytes()
        self.cpu = CPUS[struct.unpack_from("<H", image, 18)[0]]
        self.uc = unicorn.Uc(self.cpu.arch, self.cpu.mode)
        self.uc.ctl_set_cpu_model(self.cpu.model)
        self.free, self.output = HEAP, b""
        self.status: int | None = None
        self.enable_floating_point()
        about = self.load(image)
        self.push([str(program), *arguments], [f"{name}={value}" for name, value in environment.items()], about)

    def enable_floating_point(self) -> None:
        """What Linux does before a program starts."""
        if self.cpu.arch == unicorn.UC_ARCH_ARM64:
            self.uc.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)
            self.uc.hook_add(unicorn.UC_HOOK_INTR, self.interrupt)
        else:
            self.uc.reg_write(x86.UC_X86_REG_CR4, 3 << 9)  # SSE and its exceptions
            self.uc.reg_write(x86.UC_X86_REG_CR0, self.uc.reg_read(x86.UC_X86_REG_CR0) & ~4 | 2)  # no emulation, x87
            self.uc.reg_write(x86.UC_X86_REG_FPCW, 0x37F)  # in extended precision
            self.uc.reg_write(x86.UC_X86_REG_MXCSR, 0x1F80)
            self.uc.hook_add(unicorn.UC_HOOK_INSN, lambda *_: self.call(), aux1=x86.UC_X86_INS_SYSCALL)

    def load(self, image: bytes) -> dict[int, int]:
        """Brings the segments into memory; what the auxiliary vector says of them."""
        self.entry, headers = struct.unpack_from("<QQ", image, 24)
        size, count = struct.unpack_from("<HH", image, 54)
        mapped, headers_at = set(), 0
        for at in range(headers, headers + size * count, size):
            kind, _, offset, address, _, stored, occupied, _ = struct.unpack_from("<IIQQQQQQ", image, at)
            if kind != 1:  # PT_LOAD
                continue
            if offset <= headers < offset + stored:
                headers_at = address + headers - offset
            pages = set(range(address // PAGE * PAGE, address + occupied, PAGE))  # neighbours may share one
            for page in sorted(pages - mapped):
                self.uc.mem_map(page, PAGE)
            mapped |= pages
            self.uc.mem_write(address, image[offset : offset + stored])
        return {3: headers_at, 4: size, 5: count, 6: PAGE, 9: self.entry}

    def push(self, arguments: Sequence[str], environment: Sequence[str], about: Mapping[int, int]) -> None:
        """The stack that a program starts with."""
        self.uc.mem_map(STACK - STACK_BYTES, STACK_BYTES)
        strings, addresses = b"", []
        for text in (*arguments, *environment):
            addresses.append(STACK - STACK_BYTES // 2 + len(strings))
            strings += text.encode() + b"\0"
        self.uc.mem_write(STACK - STACK_BYTES // 2, strings)
        vector = about | {25: STACK - 16}  # 16 bytes said to be random
        words = [len(arguments), *addresses[: len(arguments)], 0, *addresses[len(arguments) :], 0]
        words += [word for entry in vector.items() for word in entry] + [0, 0]
        top = STACK - STACK_BYTES // 2 - whole_pages(8 * len(words))
        self.uc.mem_write(top, struct.pack(f"<{len(words)}Q", *words))
        self.uc.reg_write(self.cpu.stack, top)

    def run(self) -> int:
        try:
            self.uc.emu_start(self.entry, 0)
        except unicorn.UcError as error:
            illegal = error.errno in (unicorn.UC_ERR_INSN_INVALID, unicorn.UC_ERR_EXCEPTION)
            self.end(-signal.SIGILL if illegal else -signal.SIGSEGV)
            self.output += f"{error} at {self.uc.reg_read(self.cpu.counter):#x}\n".encode()
        assert self.status is not None
        return self.status

    def end(self, status: int) -> None:
        self.status = status
        self.uc.emu_stop()

    def interrupt(self, _: object, number: int, __: object) -> None:
        if number == 2:  # EXCP_SWI: svc
            self.call()
        else:
            self.end(-signal.SIGILL)

    def call(self) -> None:
        name = self.cpu.calls.get(self.uc.reg_read(self.cpu.number))
        arguments = [self.uc.reg_read(register) for register in self.cpu.arguments]
        result = getattr(self, name)(*arguments) if name else -errno.ENOSYS
        self.uc.reg_write(self.cpu.result, (result or 0) % (1 << 64))

    def write(self, _: int, address: int, size: int) -> int:
        self.output += bytes(self.uc.mem_read(address, size))
        return size

    def writev(self, file: int, vector: int, count: int) -> int:
        parts = struct.iter_unpack("<QQ", bytes(self.uc.mem_read(vector, 16 * count)))
        return sum(self.write(file, address, size) for address, size in parts if size)

    def mmap(self, _: int, size: int, __: int) -> int:
        address = self.free
        self.uc.mem_map(address, whole_pages(size))
        self.free += whole_pages(size) + PAGE  # a gap, for overruns to be seen
        return address

    def munmap(self, address: int, size: int, _: int) -> None:
        self.uc.mem_unmap(address, whole_pages(size))

    def agree(self, *_: int) -> None:
        """To mprotect, as everything may be read, written and run; to futex, as there is one thread."""

    def arch_prctl(self, code: int, address: int, _: int) -> None:
        assert code == 0x1002  # ARCH_SET_FS
        self.uc.reg_write(x86.UC_X86_REG_FS_BASE, address)

    def exit(self, status: int, *_: int) -> None:
        self.end(status)

    def abort(self, *_: int) -> None:
        self.end(-signal.SIGABRT)


def run(program: Path, *arguments: object, **environment: str) -> tuple[int, str]:
    """(status, output)"""
    guest = Guest(program, [str(word) for word in arguments], environment)
    status = guest.run()
    return status, guest.output.decode()
