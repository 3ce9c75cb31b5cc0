"""The compilers of the host programs, and the objects of the CPU core that the programs link with."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import HANG

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CPU = ROOT / "csrc" / "cpu"
KERNELS = CPU / "simd" / "kernels.cpp"
STANDARD = ["-std=c++17", f"-I{ROOT / 'csrc'}"]
Compile = Callable[..., None]


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=HANG, env=os.environ | environment)


def compiler(*command: object) -> Compile:
    """A function that adds its arguments to the command, runs it, and fails with what the compiler says."""

    def compile_with(*arguments: object) -> None:
        result = run(*command, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr

    return compile_with


def host_command() -> list[str]:
    """The C++ compiler of this machine: $CXX, or the first of c++, g++ and clang++."""
    named = os.environ.get("CXX")
    found = shlex.split(named) if named else [path for path in map(shutil.which, ("c++", "g++", "clang++")) if path][:1]
    if not found or not shutil.which(found[0]):
        pytest.skip(f"CXX={named!r} is not a program" if named else "none of c++, g++ and clang++ was found")
    return found


def works(command: Sequence[object], folder: Path) -> bool:
    """Whether the command compiles and links a program that runs here."""
    source = folder / "probe.cpp"
    source.write_text("int main() { return 0; }\n")
    return run(*command, source, "-o", folder / "probe").returncode == 0 and run(folder / "probe").returncode == 0


def compile_all(compile_with: Compile, folder: Path, jobs: Mapping[str, Sequence[object]]) -> list[Path]:
    """The objects folder / name.o, two at a time; jobs: {name: what to compile each from}."""
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(compile_with, *job, "-c", "-o", folder / f"{name}.o") for name, job in jobs.items()]
    for job in running:
        job.result()
    return [folder / f"{name}.o" for name in jobs]


def drivers(*names: str) -> dict[str, list[object]]:
    """Jobs for sources of csrc/cpu."""
    return {name: [CPU / f"{name}.cpp"] for name in names}
