"""The compiled core as host programs, under sanitizers and once per instruction set."""

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CPU = ROOT / "csrc" / "cpu"
WARNINGS = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", f"-I{ROOT / 'csrc'}"]
UNDEFINED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# GCC takes three times as long over the kernels with these, and the address sanitizer sees what they would see.
KERNELS = ["-fno-sanitize=null,alignment,object-size,pointer-overflow,vptr", "-Wno-psabi", "-Wno-maybe-uninitialized"]
CASES = 100_000  # of fuzz, over all instruction sets
ISAS = ["avx512", "avx2", "baseline", "scalar"]  # scalar: the baseline of a compiler without vector extensions


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=600, env=os.environ | environment)


def compiles(command: list[str], folder: Path) -> bool:
    probe = folder / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    build = run(*command, probe, "-o", folder / "probe")
    return build.returncode == 0 and run(folder / "probe").returncode == 0


def compiler_with(folder: Path, *flags: str) -> list[str]:
    """The C++ compiler with these flags, and OpenMP if it has that."""
    named = os.environ.get("CXX")
    found = shlex.split(named) if named else [path for path in map(shutil.which, ("c++", "g++", "clang++")) if path][:1]
    if not found:
        pytest.skip("no C++ compiler")
    command = [*found, *WARNINGS, *flags]
    if not compiles(command, folder):
        pytest.skip(f"{found[0]} does not know {' '.join(flags)} here")
    return [*command, "-fopenmp"] if compiles([*command, "-fopenmp"], folder) else command


def isa_flags() -> dict[str, list[str]]:
    """How CMakeLists.txt compiles the instruction sets that this machine's compiler knows."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    known = {}
    for name, vector_bytes, flags in re.findall(r"add_isa\((\w+) (\d+)(.*)\)", (ROOT / "CMakeLists.txt").read_text()):
        if x86 or not flags:
            own = [f"-DFASTKAN_ISA={name}", f"-DFASTKAN_VECTOR_BYTES={vector_bytes}", *flags.split()]
            known["scalar" if vector_bytes == "0" else name] = own
    return known


def compile_all(compiler: list[str], folder: Path, jobs: dict[str, list[object]]) -> None:
    """{object: what to compile it from}, two at a time."""

    def compile_one(job: tuple[str, list[object]]) -> subprocess.CompletedProcess[str]:
        return run(*compiler, *job[1], "-c", "-o", folder / job[0])

    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(compile_one, jobs.items()):
            assert result.returncode == 0, result.stderr


def test_cmake_and_the_tests_know_the_same_instruction_sets() -> None:
    assert set(isa_flags()) == set(ISAS if platform.machine() in ("x86_64", "AMD64") else ISAS[2:])


@pytest.fixture(scope="module")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Links a test program with the core, both under sanitizers, and runs it with an instruction set.

    One core has all instruction sets and chooses among them; the other has single values only.
    """
    folder = tmp_path_factory.mktemp("native")
    compiler = compiler_with(folder, *UNDEFINED)
    isas = isa_flags()
    choice = ["-DFASTKAN_X86"] if "avx2" in isas else []
    jobs: dict[str, list[object]] = {
        f"kernels-{isa}.o": [*isas[isa], *KERNELS, CPU / "isa" / "kernels.cpp"]
        for isa in sorted(isas, key=["scalar", "avx512", "avx2", "baseline"].index)
    }
    for part in ("cpu", "workspace", "parallel"):
        jobs[f"{part}.o"] = [CPU / f"{part}.cpp"]
    jobs["isa.o"] = [*choice, CPU / "isa.cpp"]
    jobs["isa-scalar.o"] = ["-DFASTKAN_ONLY=baseline", CPU / "isa.cpp"]
    for program in ("test_basis", "test_operations", "test_threads", "fuzz"):
        jobs[f"{program}.o"] = [HERE / f"{program}.cpp"]
    compile_all(compiler, folder, jobs)

    def linked_and_run(program: str, isa: str, *arguments: object) -> str:
        scalar = isa == "scalar"
        path = folder / f"{program}{'-scalar' if scalar else ''}"
        if not path.exists():
            chosen = ["isa-scalar", "kernels-scalar"] if scalar else ["isa", *(f"kernels-{i}" for i in isas if i != "scalar")]
            objects = [folder / f"{name}.o" for name in (program, "cpu", "workspace", "parallel", *chosen)]
            build = run(*compiler, *objects, "-o", path)
            assert build.returncode == 0, build.stderr
        result = run(path, *arguments, FASTKAN_ISA="" if scalar else isa)
        if not scalar and "FASTKAN_ISA must be one of" in result.stderr:
            pytest.skip(f"this machine has no {isa}")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return linked_and_run


def test_basis(run_program: Callable[..., str]) -> None:
    """Intervals, splines and activations, which the core shares with CUDA."""
    run_program("test_basis", "baseline")


@pytest.mark.parametrize("isa", ISAS)
def test_operations(isa: str, run_program: Callable[..., str]) -> None:
    """The operations against their definitions."""
    run_program("test_operations", isa)


@pytest.mark.parametrize("isa", ISAS)
def test_threads(isa: str, run_program: Callable[..., str]) -> None:
    run_program("test_threads", isa)


@pytest.mark.parametrize("isa", ISAS)
def test_random_cases(isa: str, run_program: Callable[..., str]) -> None:
    count = CASES // len(ISAS)
    run_program("fuzz", isa, ISAS.index(isa) * count, count)


def test_no_data_race(tmp_path: Path) -> None:
    """Under the thread sanitizer; std_threads.cpp takes the place of OpenMP, which it does not understand."""
    compiler = [flag for flag in compiler_with(tmp_path, "-fsanitize=thread") if flag != "-fopenmp"]
    jobs: dict[str, list[object]] = {
        "kernels.o": [*isa_flags()["baseline"], *KERNELS, CPU / "isa" / "kernels.cpp"],
        "isa.o": ["-DFASTKAN_ONLY=baseline", CPU / "isa.cpp"],
    }
    for source in (CPU / "cpu.cpp", CPU / "workspace.cpp", HERE / "std_threads.cpp", HERE / "test_threads.cpp"):
        jobs[f"{source.stem}.o"] = [source]
    compile_all(compiler, tmp_path, jobs)
    build = run(*compiler, *(tmp_path / name for name in jobs), "-o", tmp_path / "test_threads")
    assert build.returncode == 0, build.stderr
    result = run(tmp_path / "test_threads")
    assert result.returncode == 0, result.stdout + result.stderr
