"""CPUs and systems that this machine is not: a Core 2 in an emulator, and Clang for macOS and Windows; arm.py has ARM."""

import platform
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from compilers import HERE, compiler, host_command, works
from cross import AVX512, BASELINE, DRIVERS, FLAGS, clang, compile_core

pytestmark = pytest.mark.proof
guest = pytest.importorskip("guest", reason="needs unicorn")


@pytest.mark.parametrize(
    ("system", "kernels", "flags"),
    [("aarch64-macos", BASELINE, []), ("x86_64-windows-gnu", AVX512, ["-DFASTKAN_X86"])],
    ids=["macOS", "Windows"],
)
def test_clang_takes_it_without_a_warning(system: str, kernels: list[str], flags: list[str], tmp_path: Path) -> None:
    objects = compile_core(clang(system, "-O0", *flags), tmp_path, kernels)
    assert all(path.stat().st_size for path in objects)


@pytest.fixture(scope="module")
def link_static(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Programs without shared libraries, of this machine's kind."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("Linux on x86-64 can build what the emulator runs")
    folder = tmp_path_factory.mktemp("static")
    command = [*host_command(), "-O1", *FLAGS, "-static", "-no-pie"]
    if not works(command, folder):
        pytest.skip(f"{command[0]} links no program without shared libraries")
    link = compiler(*command)

    def linked(name: str, *inputs: object) -> Path:
        link(*inputs, "-o", folder / name)
        return folder / name

    return linked


@pytest.fixture(scope="module")
def fuzz_on_x86(link_static: Callable[..., Path], built: Path) -> Path:
    """With the very objects of the module, those of all instruction sets."""
    objects = [built / "fastkan_cpu.dir" / "csrc" / "cpu" / f"{name}.cpp.o" for name in DRIVERS]
    for isa in ("avx512", "avx2", "baseline"):
        objects.append(built / f"fastkan_isa_{isa}.dir" / "csrc" / "cpu" / "simd" / "kernels.cpp.o")
    return link_static("fuzz", HERE / "fuzz.cpp", *objects, "-fopenmp")


def test_a_cpu_without_avx_is_served(fuzz_on_x86: Path) -> None:
    status, output = guest.run(fuzz_on_x86, 0, 2000, OMP_THREAD_LIMIT="1")
    assert status == 0, output
    assert output.endswith("ok\n")


def test_a_cpu_without_avx_refuses_avx2(fuzz_on_x86: Path) -> None:
    status, output = guest.run(fuzz_on_x86, 0, 1, FASTKAN_ISA="avx2")
    assert status == -signal.SIGABRT
    assert "FASTKAN_ISA must be one of baseline on this machine, got 'avx2'" in output


def test_the_emulator_knows_no_avx(link_static: Callable[..., Path], tmp_path: Path) -> None:
    """Or the tests above would prove nothing."""
    source = tmp_path / "avx.cpp"
    source.write_text('int main() { __asm__ volatile("vpxor %ymm0, %ymm0, %ymm0"); }\n')
    status, _ = guest.run(link_static("avx", source))
    assert status == -signal.SIGILL
