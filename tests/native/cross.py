"""The core compiled by Clang for CPUs and systems that this machine is not."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from compilers import KERNELS, STANDARD, Compile, compile_all, compiler, drivers

FLAGS = [*STANDARD, "-fno-math-errno", "-fno-trapping-math"]
DRIVERS = ("operations", "dispatch", "jet", "parallel", "stack", "workspace")
BASELINE = ["-DFASTKAN_ISA=baseline", "-DFASTKAN_VECTOR_BYTES=16"]
AVX512 = ["-DFASTKAN_ISA=avx512", "-DFASTKAN_VECTOR_BYTES=64", "-mcpu=x86_64_v4"]


def clang(system: str, *flags: str) -> Compile:
    """For a system that Zig names: Zig has Clang, and the headers of every system."""
    pytest.importorskip("ziglang")
    return compiler(sys.executable, "-m", "ziglang", "c++", "-target", system, *FLAGS, "-Wall", "-Wextra", "-Werror", *flags)


def compile_core(compile_with: Compile, folder: Path, kernels: Sequence[str]) -> list[Path]:
    """The objects of the core, its kernels with these flags."""
    return compile_all(compile_with, folder, {"kernels": [*kernels, KERNELS], **drivers(*DRIVERS)})
