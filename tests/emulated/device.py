"""csrc/cuda compiled for the CPU (tests/emulated/emulated_device.h), as backend "cuda" for CPU tensors.

FASTKAN_EMULATED=plain, address or thread makes a run of pytest test it, the latter two with the sanitizer's runtime preloaded.
FASTKAN_EMULATED_SEED chooses the order in which CUDA threads run.
"""

import dataclasses
import fcntl
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pybind11
import pytest
from limits import HANG

from fastkan.backends import cpu, cuda, registry

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SANITIZERS = {
    "plain": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=vptr"],
    "thread": ["-fsanitize=thread"],
}
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
FLAGS = ["-x", "c++", "-std=c++17", "-O1", "-g1", "-DFASTKAN_EMULATED_DEVICE", *WARNINGS]
INCLUDES = [f"-I{HERE}", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'cuda'}"]
KERNELS = [path for path in sorted((ROOT / "csrc" / "cuda").rglob("*.cu")) if path.stem != "runtime"]
MODULE = [ROOT / "csrc" / "bind" / "cuda.cpp", ROOT / "csrc" / "bind" / "two_four.cpp", HERE / "module.cpp"]


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=HANG, env=os.environ | environment)


def compiler() -> list[str]:
    named = os.environ.get("CXX")
    found = shlex.split(named) if named else [path for path in map(shutil.which, ("g++", "c++", "clang++")) if path][:1]
    if not found:
        pytest.skip("no C++ compiler")
    return found


def fused() -> list[str]:
    """The flags for fused multiply-adds, which nvcc forms too, where the machine has them."""
    flags = (
        []
        if platform.machine() not in ("x86_64", "AMD64")
        else ["-march=x86-64-v3", "-ffp-contract=fast", "-fexpensive-optimizations"]
    )
    return flags if "fma" in Path("/proc/cpuinfo").read_text() else []


def runtime(sanitizer: str) -> str:
    """The library that a Python without the sanitizer must load first."""
    name = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    path = run(*compiler(), f"-print-file-name={name}").stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"the compiler has no {name}")
    return os.path.realpath(path)


def build(sources: Iterable[Path], target: Path, sanitizer: str, *flags: str) -> None:
    """Compiles and links, as many files at a time as there are processors."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [*compiler(), *FLAGS, *INCLUDES, *SANITIZERS[sanitizer], *fused(), *flags]
    objects = {source: target.parent / f"{target.name}-{number}.o" for number, source in enumerate(sources)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda source: run(*command, "-c", source, "-o", objects[source]), objects):
            assert result.returncode == 0, result.stderr
    linked = run(*compiler(), *SANITIZERS[sanitizer], *flags, *objects.values(), "-o", target)
    assert linked.returncode == 0, linked.stderr


def key() -> str:
    files = [
        path for folder in (ROOT / "csrc", HERE) for path in sorted(folder.rglob("*.*")) if path.suffix in (".cu", ".h", ".cpp")
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in [*files, Path(__file__)])).hexdigest()[:16]


def module(sanitizer: str) -> Path:
    """The compiled module; built once for one state of the sources, whichever process comes first."""
    folder = ROOT / "build" / "emulated" / sanitizer
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = folder / key() / f"_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not target.exists():
            for old in folder.glob("*/"):
                shutil.rmtree(old)
            python = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
            build([*KERNELS, *MODULE], target, sanitizer, "-shared", "-fPIC", "-fvisibility=hidden", *python)
    return target


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def serve(sanitizer: str) -> None:
    """The emulated device takes the place of the GPU, for the whole run."""
    core = load(module(sanitizer))
    operations = cuda.operations(core, lambda tensor: (0, 0))
    registry.register(dataclasses.replace(cuda.BACKEND, operations=operations, declines=cpu.BACKEND.declines))
