"""The compiled core: host programs under sanitizers, and the promises of the binding (arguments, threads, fork)."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, timeout=600)


def compiles(command: list[str], folder: Path) -> bool:
    probe = folder / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    build = run(*command, probe, "-o", folder / "probe")
    return build.returncode == 0 and run(folder / "probe").returncode == 0


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A C++ compiler with its sanitizers, and OpenMP if it has that."""
    folder = tmp_path_factory.mktemp("compiler")
    named = os.environ.get("CXX")
    found = shlex.split(named) if named else [path for path in map(shutil.which, ("c++", "g++", "clang++")) if path][:1]
    if not found:
        pytest.skip("no C++ compiler")
    command = [*found, "-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", *SANITIZERS]
    if not compiles(command, folder):
        pytest.skip(f"{found[0]} has no address and undefined-behaviour sanitizers here")
    return [*command, "-fopenmp"] if compiles([*command, "-fopenmp"], folder) else command


# As in CMakeLists.txt
ISAS = {
    "avx512": ("avx512", 64, "-march=x86-64-v4", "-mprefer-vector-width=512"),
    "avx2": ("avx2", 32, "-march=x86-64-v3"),
    "baseline": ("baseline", 16),
}
FLAGS = {"avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}, "avx2": {"avx2", "fma", "bmi2", "f16c"}}


def here(isa: str) -> bool:
    """Whether this machine has an instruction set."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return isa not in FLAGS
    info = Path("/proc/cpuinfo")
    return isa not in FLAGS or (info.exists() and FLAGS[isa] <= set(info.read_text().split()))


def build_core(compiler: list[str], isa: str, folder: Path) -> list[Path]:
    """Object files of the CPU core with one instruction set only, which it then takes for the best."""
    name, vector_bytes, *flags = ISAS[isa]
    names = [f"-DFASTKAN_ISA={name}", f"-DFASTKAN_VECTOR_BYTES={vector_bytes}", f"-DFASTKAN_ONLY={name}", f"-I{CSRC}"]
    sources = [CSRC / "cpu" / f"{part}.cpp" for part in ("cpu", "isa", "workspace", "parallel", "isa/kernels")]
    objects = [folder / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
        own = [*flags, "-Wno-psabi", "-Wno-maybe-uninitialized"] if source.stem == "kernels" else []
        return run(*compiler, *names, *own, "-c", source, "-o", out)

    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(compile_one, sources, objects):
            assert result.returncode == 0, result.stderr
    return objects


def run_programs(compiler: list[str], objects: list[Path], folder: Path, programs: list[str]) -> None:
    for program in programs:
        build = run(*compiler, f"-I{CSRC}", HERE / f"{program}.cpp", *objects, "-o", folder / program)
        assert build.returncode == 0, build.stderr
        result = run(folder / program)
        assert result.returncode == 0, result.stdout + result.stderr


def test_under_address_and_undefined_behaviour_sanitizers(compiler: list[str], tmp_path: Path) -> None:
    """The CPU core for this machine's widest vectors, and the CUDA kernel bodies, on the host against the definitions."""
    objects = build_core(compiler, next(filter(here, ISAS)), tmp_path)
    run_programs(compiler, objects, tmp_path, ["test_basis", "test_operations"])


@pytest.fixture(scope="module")
def core() -> ModuleType:
    return pytest.importorskip("fastkan._C", reason="fastkan was built without its compiled core")


def forward_arguments(batch: int = 300, features: int = 40, outputs: int = 50) -> tuple[list, dict[str, np.ndarray]]:
    """Arguments of cpu_forward, all but the thread count, and the arrays they point to."""
    rng, degree, num_knots = np.random.default_rng(0), 3, 12
    arrays = {
        "x": rng.uniform(-2, 2, (batch, features)),
        "weight": rng.normal(size=(features, num_knots - degree, outputs)),
        "knots": np.tile((np.arange(num_knots) - degree) * 0.4 - 1, (features, 1)),
        "y": np.full((batch, outputs), np.nan),
    }
    x, weight, knots, y = (array.ctypes.data for array in arrays.values())
    return [x, weight, 0, knots, y, batch, features, outputs, num_knots, degree, "silu", 0, "float64", "float64"], arrays


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0, "x must be the address of 96000 bytes, got 0"),
        (1, 0, "weight must be the address"),
        (3, 0, "knots must be the address"),
        (4, 0, "y must be the address"),
        (4, 12, "y must be aligned to 8 bytes, got 12"),
        (5, -1, "batch must be at least 0, got -1"),
        (5, 2**62, r"the size of \w+ must be less than 2\^63 bytes"),
        (6, -1, "in_features must be at least 0, got -1"),
        (7, -1, "out_features must be at least 0, got -1"),
        (8, 7, "num_knots must be at least 8, got 7"),
        (9, 0, r"degree must be 1\.\.8, got 0"),
        (9, 9, r"degree must be 1\.\.8, got 9"),
        (10, "swish", "base must be one of silu, .*, got 'swish'"),
        (11, -1, "nu must be at least 0, got -1"),
        (11, 5, "derivative order of base 'silu' must be at most 4, got 5"),
        (12, "int8", "dtype must be float32, float64, bfloat16 or float16, got 'int8'"),
        (13, "float32", "dtype and value_dtype must be both float64 or neither, got one of each"),
        (14, 0, r"threads must be 1\.\.1024, got 0"),
    ],
)
def test_a_wrong_argument_is_named(core: ModuleType, position: int, value: object, message: str) -> None:
    arguments, _arrays = forward_arguments()
    arguments.append(1)
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        core.cpu_forward(*arguments)


def test_empty_tensors_need_no_address(core: ModuleType) -> None:
    core.cpu_forward(0, 0, 0, 0, 0, 0, 0, 0, 8, 3, "silu", 0, "float32", "float32", 2)


def test_threads_do_not_change_a_bit(core: ModuleType) -> None:
    """For any number of OpenMP threads, and for callers on eight Python threads at once."""
    arguments, arrays = forward_arguments()
    core.cpu_forward(*arguments, 1)
    expected = arrays["y"].copy()
    assert np.isfinite(expected).all()

    def call(threads: int) -> bytes:
        own, own_arrays = forward_arguments()
        for _ in range(20):
            core.cpu_forward(*own, threads)
        return own_arrays["y"].tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, [1, 2, 3, 4, 5, 6, 7, 8])) == {expected.tobytes()}


FORKS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_native import forward_arguments
from fastkan import _C
arguments, arrays = forward_arguments()
_C.cpu_forward(*arguments, 2)
expected = arrays["y"].tobytes()
for _ in range(20):
    arrays["y"][:] = 0
    child = os.fork()
    if child == 0:
        _C.cpu_forward(*arguments, 2)
        os._exit(0 if arrays["y"].tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_still_works(core: ModuleType) -> None:
    """OpenMP's pool does not survive a fork: without care the first call of the child hangs."""
    subprocess.run([sys.executable, "-c", FORKS, HERE], check=True, timeout=60)
