"""Each guard catches a fault planted in a toy kernel, and passes the sound kernel beside it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="for the run in Triton's interpreter")
if os.environ.get("TRITON_INTERPRET") == "1":
    import guards
    from triton.runtime.errors import InterpreterError


@triton.jit
def copy_kernel(x_ptr, y_ptr, n, SHIFT: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = (at < n) & (at + SHIFT >= 0) if MASKED else at == at
    x = tl.load(x_ptr + at + SHIFT, mask=there, other=0.0)
    tl.store(y_ptr + at, x, mask=at < n)


@triton.jit
def count_kernel(x_ptr, STEP: tl.constexpr, ATOMIC: tl.constexpr):
    at = tl.program_id(0) * STEP + tl.arange(0, 4)
    if ATOMIC:
        tl.atomic_add(x_ptr + at, 1.0)
    else:
        tl.store(x_ptr + at, tl.load(x_ptr + at) + 1.0)


@triton.jit
def fold_kernel(x_ptr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x_ptr + at // 2, at.to(tl.float32))


@triton.jit
def row_kernel(x_ptr, y_ptr, row, length, WIDE: tl.constexpr):
    row = row.to(tl.int64) if WIDE else row
    tl.store(y_ptr + tl.arange(0, 4), tl.load(x_ptr + row * length + tl.arange(0, 4)))


@triton.jit
def assert_kernel(x_ptr):
    tl.device_assert(tl.load(x_ptr) > 0, "positive")


# ---- fences: the fault kills, so each runs in a child


def copy_between_fences(side, shift, masked):
    """The child's whole program."""
    x = torch.arange(1.0, 6.0)
    y = torch.zeros(5)
    with guards.fences(side):
        copy_kernel[(1,)](x, y, 5, SHIFT=shift, MASKED=masked, BLOCK=8)
    print("survived", y.tolist())


@pytest.mark.parametrize(
    "side, shift, masked, survives",
    [("after", 0, True, True), ("after", 0, False, False), ("before", -1, True, True), ("before", -1, False, False)],
)
def test_fences(side, shift, masked, survives):
    code = f"import test_guards; test_guards.copy_between_fences({side!r}, {shift}, {masked})"
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    if survives:
        expected = [1.0, 2.0, 3.0, 4.0, 5.0] if shift == 0 else [0.0, 1.0, 2.0, 3.0, 4.0]
        assert (child.returncode, child.stdout.strip()) == (0, f"survived {expected}"), child.stderr
    else:
        assert child.returncode == -signal.SIGSEGV, child.stdout + child.stderr


@pytest.mark.parametrize("side", ["after", "before"])
def test_fenced_tensors_are_copies(side):
    for shape, dtype in (((3, 5), torch.float32), ((4096,), torch.float64), ((7,), torch.bfloat16), ((0, 3), torch.float16)):
        tensor = torch.randn(shape).to(dtype)
        copy = guards.fenced(tensor, side)
        assert torch.equal(copy, tensor) and copy.dtype == tensor.dtype
        assert copy.data_ptr() != tensor.data_ptr() or not tensor.numel()


def test_fences_refuse_strides():
    with guards.fences("after"), pytest.raises(ValueError, match="strides"):
        count_kernel[(1,)](torch.zeros(8, 8).T, STEP=4, ATOMIC=False)


# ---- races


def test_overlap_catches_two_programs_on_one_address():
    with guards.Overlap() as racy:
        count_kernel[(3,)](torch.zeros(16), STEP=2, ATOMIC=False)
    assert {kind for kind, _ in racy.conflicts} == {"write after write", "write after read", "read after write"}


def test_overlap_catches_two_lanes_on_one_address():
    with guards.Overlap() as racy:
        fold_kernel[(1,)](torch.zeros(4), BLOCK=8)
    assert [kind for kind, _ in racy.conflicts] == ["two lanes of one store"]


def test_overlap_passes_separate_programs_atomics_and_a_second_launch():
    x = torch.zeros(16)
    with guards.Overlap() as clean:
        count_kernel[(3,)](x, STEP=4, ATOMIC=False)
        count_kernel[(3,)](x, STEP=4, ATOMIC=False)
        count_kernel[(3,)](torch.zeros(16), STEP=2, ATOMIC=True)
    assert clean.conflicts == []
    assert clean.stored == 24


# ---- integers, assertions, giant tensors, chosen programs


def test_overflow_is_an_error():
    x, y = torch.zeros(8), torch.zeros(4)
    with guards.checked_arithmetic(), pytest.raises(InterpreterError, match="int32 overflow"):
        row_kernel[(1,)](x, y, 2**16, 2**16, WIDE=False)


def test_a_failed_device_assert_is_an_error():
    assert_kernel[(1,)](torch.zeros(1))  # the interpreter alone lets it pass
    with guards.checked_arithmetic(), pytest.raises(InterpreterError, match="positive"):
        assert_kernel[(1,)](torch.zeros(1))


def test_giant_tensors():
    x, y = guards.giant((3, 2**30), torch.float16), torch.zeros(4, dtype=torch.float16)
    x[2, :4] = torch.arange(1, 5)
    with guards.checked_arithmetic():
        row_kernel[(1,)](x, y, 2, 2**30, WIDE=True)
    assert y.tolist() == [1, 2, 3, 4]


def test_only_the_chosen_programs_run():
    x = torch.zeros(16)
    with guards.programs(lambda size: [(size[0] - 1, 0, 0)]):
        count_kernel[(3,)](x, STEP=4, ATOMIC=False)
    assert x.tolist() == [0] * 8 + [1] * 4 + [0] * 4
