"""The CPU core as host programs, under sanitizers and once per instruction set."""

import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from compilers import CPU, HERE, KERNELS, ROOT, STANDARD, compile_all, compiler, drivers, host_command, run, works

WARNINGS = [*STANDARD, "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
UNDEFINED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# GCC takes three times as long over the kernels with these, and the address sanitizer sees what they would see.
FEWER = ["-fno-sanitize=null,alignment,object-size,pointer-overflow,vptr", "-Wno-psabi", "-Wno-maybe-uninitialized"]
CASES = 25_000  # of fuzz, for each instruction set
DRIVERS = ("operations", "jet", "workspace", "parallel")
ISAS = ["avx512", "avx2", "baseline", "scalar"]  # scalar: the baseline of a compiler without vector extensions
try:
    from fastkan._C import cpu_isa

    BEST = cpu_isa()
except ImportError:
    BEST = "baseline"
ALONE = (BEST, "scalar")  # each in a core of its own, for make test; "any" is the best of the core that chooses
EVERY_ISA = [isa if isa in ALONE else pytest.param(isa, marks=pytest.mark.proof) for isa in (*ISAS, "any")]


def sanitized(folder: Path, *flags: str) -> list[str]:
    """The C++ compiler with these flags, and OpenMP if it has that."""
    command = [*host_command(), *WARNINGS, *flags]
    if not works(command, folder):
        pytest.skip(f"{command[0]} does not know {' '.join(flags)} here")
    return [*command, "-fopenmp"] if works([*command, "-fopenmp"], folder) else command


def isa_flags() -> dict[str, list[str]]:
    """How CMakeLists.txt compiles the instruction sets that this machine's compiler knows."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    known = {}
    for name, vector_bytes, flags in re.findall(r"add_isa\((\w+) (\d+)(.*)\)", (ROOT / "CMakeLists.txt").read_text()):
        if x86 or not flags:
            own = [f"-DFASTKAN_ISA={name}", f"-DFASTKAN_VECTOR_BYTES={vector_bytes}", *flags.split()]
            known["scalar" if vector_bytes == "0" else name] = own
    return known


def test_cmake_and_the_tests_know_the_same_instruction_sets() -> None:
    assert set(isa_flags()) == set(ISAS if platform.machine() in ("x86_64", "AMD64") else ISAS[2:])


@pytest.fixture(scope="module")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Links a test program with the core, both under sanitizers, and runs it with an instruction set.

    One core has all instruction sets and chooses among them; those of ALONE have one. A compiler takes a minute for each.
    """
    folder = tmp_path_factory.mktemp("native")
    compile_with = compiler(*sanitized(folder, *UNDEFINED))
    isas = isa_flags()
    jobs: dict[str, list[object]] = {f"kernels-{isa}": [*isas[isa], *FEWER, KERNELS] for isa in isas}
    jobs |= drivers(*DRIVERS)
    jobs["dispatch-choice"] = [*(["-DFASTKAN_X86"] if "avx2" in isas else []), CPU / "dispatch.cpp"]
    jobs |= {
        f"dispatch-{isa}": [f"-DFASTKAN_ONLY={'baseline' if isa == 'scalar' else isa}", CPU / "dispatch.cpp"] for isa in ALONE
    }
    jobs |= {name: [HERE / f"{name}.cpp"] for name in ("test_splines", "test_operations", "test_jets", "test_threads", "fuzz")}

    def linked_and_run(program: str, isa: str, *arguments: object) -> str:
        core = isa if isa in ALONE else "choice"
        path = folder / f"{program}-{core}"
        if not path.exists():
            kernels = [isa] if isa in ALONE else [name for name in isas if name != "scalar"]
            parts = [program, *DRIVERS, f"dispatch-{core}", *(f"kernels-{name}" for name in kernels)]
            compile_all(compile_with, folder, {name: jobs[name] for name in parts if not (folder / f"{name}.o").exists()})
            compile_with(*(folder / f"{name}.o" for name in parts), "-o", path)
        result = run(path, *arguments, FASTKAN_ISA="" if isa in (*ALONE, "any") else isa)
        if "FASTKAN_ISA must be one of" in result.stderr:
            pytest.skip(f"this machine has no {isa}")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return linked_and_run


def test_splines(run_program: Callable[..., str]) -> None:
    """Intervals, splines and activations, which the core shares with CUDA."""
    run_program("test_splines", "scalar")


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_operations(isa: str, run_program: Callable[..., str]) -> None:
    """The operations against their definitions."""
    run_program("test_operations", isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_jets(isa: str, run_program: Callable[..., str]) -> None:
    """A layer with its derivatives, and all its gradients, against their definitions."""
    run_program("test_jets", isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_threads(isa: str, run_program: Callable[..., str]) -> None:
    run_program("test_threads", isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_random_cases(isa: str, run_program: Callable[..., str]) -> None:
    run_program("fuzz", isa, [*ISAS, "any"].index(isa) * CASES, CASES)


@pytest.mark.proof
def test_no_data_race(tmp_path: Path) -> None:
    """Under the thread sanitizer; std_threads.cpp takes the place of OpenMP, which it does not understand."""
    command = [flag for flag in sanitized(tmp_path, "-fsanitize=thread") if flag != "-fopenmp"]
    jobs: dict[str, list[object]] = {
        "kernels": [*isa_flags()["baseline"], *FEWER, KERNELS],
        "dispatch": ["-DFASTKAN_ONLY=baseline", CPU / "dispatch.cpp"],
        **drivers("operations", "workspace"),
        **{name: [HERE / f"{name}.cpp"] for name in ("std_threads", "test_threads")},
    }
    objects = compile_all(compiler(*command), tmp_path, jobs)
    compiler(*command)(*objects, "-o", tmp_path / "test_threads")
    result = run(tmp_path / "test_threads")
    assert result.returncode == 0, result.stdout + result.stderr
