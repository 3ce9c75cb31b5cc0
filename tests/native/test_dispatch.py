"""Several instruction sets in one module: nothing leaks from one into the rest, and each that is named gives right answers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ISAS = ["avx512", "avx2", "baseline"]


def tool(name: str, *arguments: object) -> str:
    if not shutil.which(name):
        pytest.skip(f"no {name}")
    return subprocess.run([name, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def is_current(path: Path) -> bool:
    """Whether an object's source still exists: build folders keep what older versions left."""
    return (ROOT / str(path).split(".dir/")[1].removesuffix(".o")).exists()


@pytest.mark.parametrize("isa", ISAS)
def test_the_linker_merges_no_function_across_instruction_sets(isa: str, built: Path) -> None:
    """A weak function under a shared name could be taken from AVX-512 and run where there is none."""
    own = f"7fastkan{len(isa)}{isa}"
    objects = list((built / f"fastkan_isa_{isa}.dir").rglob("*.o"))
    assert objects
    for path in objects:
        lines = [line.split() for line in tool("nm", "--defined-only", path).splitlines()]
        symbols = {name: kind for _, kind, name in lines}
        shared = {name for name, kind in symbols.items() if kind in "wWvVuC" and own not in name}
        # those that name sections of debug information or exception handling hold no code
        assert not {name for name in shared if not name.startswith("DW.ref.")}, path
        public = {name for name, kind in symbols.items() if kind in "TDRB" and own not in name}
        assert not public, path


def test_only_their_own_objects_use_wide_registers(built: Path) -> None:
    objects = [path for path in built.glob("*.dir/**/*.o") if not re.search("fastkan_isa_avx", str(path)) and is_current(path)]
    assert any("fastkan_isa_baseline" in str(path) for path in objects)
    assert any("fastkan_cpu" in str(path) for path in objects)
    for path in objects:
        wide = re.search(r"^.*%[yz]mm.*$", tool("objdump", "-d", "--no-show-raw-insn", path), re.MULTILINE)
        assert not wide, f"{path}: {wide[0]}"


@pytest.mark.parametrize("isa", ISAS[:2])
def test_their_own_objects_do_use_wide_registers(isa: str, built: Path) -> None:
    """The test above would see nothing if the disassembler wrote registers in another way."""
    (path,) = (built / f"fastkan_isa_{isa}.dir").rglob("*.o")
    assert ("%zmm" if isa == "avx512" else "%ymm") in tool("objdump", "-d", "--no-show-raw-insn", path)


ANSWERS = """
import torch
from fastkan import _C, ops
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    for batch, inputs, outputs, grid, degree in [(70, 5, 33, 5, 3), (9, 3, 64, 50, 2), (130, 2, 7, 4, 8)]:
        knots = torch.linspace(-1.5, 1.5, grid + 2 * degree + 1, dtype=torch.float64).repeat(inputs, 1)
        x, g = torch.empty(batch, inputs).uniform_(-2, 2).to(dtype), torch.randn(batch, outputs).to(dtype)
        weight = torch.randn(inputs, grid + degree + 1, outputs).to(dtype)
        knots = knots.to(torch.float64 if dtype == torch.float64 else torch.float32)
        for backend in ("cpu", "reference"):
            for nu in (0, 1):
                kind = (degree, "silu", backend, nu)
                answers = [ops.forward(x, weight, None, knots, *kind), ops.grad_input(x, weight, g, knots, *kind),
                           ops.grad_weight(x, g, None, knots, *kind)]
                if backend == "reference":
                    for mine, right in zip(kept[nu], answers):
                        scale = right.abs().max()
                        assert (mine - right).abs().max() <= 200 * torch.finfo(dtype).eps * scale, (dtype, batch, nu)
                elif nu == 0:
                    kept = [answers]
                else:
                    kept.append(answers)
print(_C.cpu_isa())
"""


def run_with(isa: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FASTKAN_ISA": isa}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("isa", ISAS)
def test_the_named_one_serves(isa: str, core: ModuleType) -> None:
    result = run_with(isa, ANSWERS)
    if "FASTKAN_ISA must be one of" in result.stderr:
        pytest.skip(f"this machine or build has no {isa}")
    assert result.stdout.strip() == isa, result.stdout + result.stderr


@pytest.mark.proof
@pytest.mark.parametrize("isa", ISAS[1:])
def test_the_case_table(isa: str, core: ModuleType) -> None:
    """What the best one answers in other tests; 16-bit numbers only change how it reads and writes."""
    if "FASTKAN_ISA must be one of" in run_with(isa, "from fastkan import _C; _C.cpu_isa()").stderr:
        pytest.skip(f"this machine or build has no {isa}")
    chosen = "(cpu-cpu and test_accuracy and (float64 or float32)) or test_rows_do_not_touch"
    files = ["tests/contract/test_backends.py", "tests/backends/test_cpu.py"]
    command = [sys.executable, "-m", "pytest", "-n", "auto", "-p", "no:cacheprovider", *files, "-k", chosen]
    environment = os.environ | {"FASTKAN_ISA": isa, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout[-6000:] + result.stderr[-2000:]


def test_an_unknown_name_is_refused(core: ModuleType) -> None:
    result = run_with("sse9", "from fastkan import _C; _C.cpu_isa()")
    assert result.returncode == 1
    assert re.search(r"ValueError: fastkan: FASTKAN_ISA must be one of[ \w]* baseline on this machine, got 'sse9'", result.stderr)


def test_none_named_is_the_best(core: ModuleType) -> None:
    refusal = run_with("sse9", "from fastkan import _C; _C.cpu_isa()").stderr
    best = re.search(r"must be one of (\w+)", refusal)
    assert best
    assert run_with("", "from fastkan import _C; print(_C.cpu_isa())").stdout.strip() == best[1]
