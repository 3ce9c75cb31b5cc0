"""The compile gate itself: what it records, and that it catches what it is there to catch."""

import os

import ahead
import controls
import figures
import pytest
import rules
import sass
import torch
import triton
import triton.language as tl
from workloads import LARGE, Workload

from fastkan.kernels.devices import ARCHITECTURES

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
HOPPER = ahead.target_of("sm_90")
ANY = Workload("forward", "float16", 1, 1, 1)


@triton.jit
def scale_kernel(x_ptr, y_ptr, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n) * factor, mask=at < n)


def launch_scale(n, x=None, warps=4):
    x = torch.ones(2048) if x is None else x
    y = torch.zeros(2048)
    scale_kernel[lambda settings: (triton.cdiv(settings["n"], settings["BLOCK"]),)](x, y, n, 2.0, BLOCK=256, num_warps=warps)
    return y


def test_nothing_runs_and_the_launch_is_recorded():
    driver = triton.runtime.driver._active
    with ahead.recorded(HOPPER) as launches:
        y = launch_scale(1000, warps=8)
    assert not y.any()
    assert triton.runtime.driver._active is driver
    (launch,) = launches
    assert (launch.name, launch.grid, launch.settings) == ("scale_kernel", (4,), {"n": 1000, "factor": 2.0, "BLOCK": 256})
    assert launch.compiled.metadata.num_warps == 8
    assert ".target sm_90a" in launch.compiled.asm["ptx"]


def divisible(launch):
    return {path[0] for path, attributes in launch.compiled.src.attrs.items() if ["tt.divisibility", 16] in attributes}


def test_specialised_as_on_a_gpu():
    """Sizes and addresses divisible by 16, the size 1 and sizes past 2^31 each get a binary of their own."""
    with ahead.recorded(HOPPER) as launches:
        for n in (1024, 1000, 1, 2**31 + 16):
            launch_scale(n)
        launch_scale(1024, torch.ones(2048)[1:])
    even, odd, one, giant, shifted = launches
    assert [divisible(launch) for launch in launches] == [{0, 1, 2}, {0, 1}, {0, 1}, {0, 1, 2}, {1, 2}]
    assert one.compiled.src.signature["n"] == "constexpr"
    assert giant.compiled.src.signature["n"] == "i64"
    assert ["ld.global.v2" in launch.compiled.asm["ptx"] for launch in (even, odd, shifted)] == [True, False, False]
    assert len({launch.compiled.hash for launch in launches}) == 5


@pytest.mark.parametrize("architecture", ahead.ARCHITECTURES)
def test_figures_for_every_architecture(architecture):
    with ahead.recorded(ahead.target_of(architecture)) as launches:
        controls.launch_product(64, 64, 32)
    row = figures.figures(launches[0]) | {"grid": launches[0].grid}
    assert rules.broken(ANY, architecture, "product", row) == []
    assert row["matrix"] == ARCHITECTURES[architecture].matrix


def broken(launch_control, *arguments):
    with ahead.recorded(HOPPER) as launches:
        launch_control(*arguments)
    row = figures.figures(launches[0]) | {"grid": launches[0].grid}
    return " ".join(rules.broken(ANY, "sm_90", launches[0].name, row))


def test_a_register_operand_overwritten_in_flight_is_caught():
    assert "overwritten" in broken(controls.launch_deep_register_operand)


def test_a_refill_without_a_barrier_is_caught():
    assert "unguarded" in broken(controls.launch_deep_register_operand)


def test_spills_are_caught():
    reasons = broken(controls.launch_many_live_values)
    assert "spills" in reasons
    assert "local" in reasons


def test_more_shared_memory_than_there_is_is_caught():
    assert "shared memory 524288, limit 232448" in broken(controls.launch_product, 256, 256, 512)


def test_slow_loops_and_missing_tensor_cores_are_caught():
    row = {"shared": 0, "registers": 40, "grid": (1, 70000), "loop_matrix": "8 HMMA", "loop_issue": 99}
    large = Workload("forward", "float16", *LARGE)
    reasons = " ".join(rules.broken(large, "sm_90", "forward_kernel", row))
    assert "grid" in reasons
    assert "expected HGMMA" in reasons
    assert "ceiling" in reasons


@pytest.mark.parametrize(
    "opcode, operands, registers",
    [
        ("HGMMA.64x256x16.F32.BF16", "R24, R152, gdesc[UR8], R24", range(24, 152)),
        ("LDG.E.128", "R4, desc[UR6][R2.64]", range(4, 8)),
        ("LDSM.16.MT88.4", "R8, [R3+UR4]", range(8, 12)),
        ("IMAD.WIDE", "R2, R0, 0x4, R6", (2, 3)),
        ("FSETP.GT.AND", "P0, PT, R5, RZ, PT", ()),
        ("IADD3", "R4, P0, R6, R8, RZ", (4,)),
        ("SHFL.BFLY", "PT, R9, R8, 0x1, 0x1f", (9,)),
        ("STG.E", "desc[UR6][R2.64], R4", ()),
        ("BAR.SYNC.DEFER_BLOCKING", "0x0", ()),
    ],
)
def test_registers_written(opcode, operands, registers):
    assert sass.written(sass.Instruction(0, opcode, operands)) == set(registers)


def test_the_hot_loop_is_the_one_with_most_matrix_products():
    lines = ["MOV R1, R2", ".L_x_0:", "FFMA R1, R1, R1, R1", ".L_x_1:", "HMMA.16816.F32 R4, R8, R12, R4"]
    lines += ["@!P0 BRA `(.L_x_1)", "FFMA R1, R1, R1, R1", "@P1 BRA `(.L_x_0)", "EXIT"]
    listing = "\n".join(line if line.startswith(".L") else f"  /*{n:04x}*/  {line} ;" for n, line in enumerate(lines))
    program = sass.parse(listing)
    assert program.loops == [(2, 3), (1, 5)]
    assert [i.opcode for i in program.hot_loop()] == ["HMMA.16816.F32", "BRA"]
