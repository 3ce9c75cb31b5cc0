"""The core compiled by Clang for CPUs and systems that this machine is not."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CPU = HERE.parents[1] / "csrc" / "cpu"
FLAGS = ["-std=c++17", "-fno-math-errno", "-fno-trapping-math", f"-I{HERE.parents[1] / 'csrc'}"]
DRIVERS = ("cpu", "isa", "parallel", "stack", "workspace")
BASELINE = ["-DFASTKAN_ISA=baseline", "-DFASTKAN_VECTOR_BYTES=16"]
AVX512 = ["-DFASTKAN_ISA=avx512", "-DFASTKAN_VECTOR_BYTES=64", "-mcpu=x86_64_v4"]


def compiler(*command: object) -> Callable[..., None]:
    def compile_with(*arguments: object) -> None:
        words = [str(word) for word in (*command, *arguments)]
        result = subprocess.run(words, check=False, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stdout + result.stderr

    return compile_with


def clang(system: str) -> Callable[..., None]:
    """For a system that Zig names, as it has Clang and everybody's headers."""
    pytest.importorskip("ziglang")
    return compiler(sys.executable, "-m", "ziglang", "c++", "-target", system, *FLAGS, "-Wall", "-Wextra", "-Werror")


def compile_core(compile_with: Callable[..., None], folder: Path, flags: Sequence[str], kernels: Sequence[str]) -> list[Path]:
    """The objects of the core, two at a time."""
    jobs = {"kernels": [*kernels, CPU / "isa" / "kernels.cpp"], **{name: [CPU / f"{name}.cpp"] for name in DRIVERS}}
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(compile_with, *flags, *job, "-c", "-o", folder / f"{name}.o") for name, job in jobs.items()]
    for job in running:
        job.result()
    return [folder / f"{name}.o" for name in jobs]
