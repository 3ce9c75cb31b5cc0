"""Tensors of more than 2^31 elements, without the memory: unwritten pages read as zeros, and what is written shares a few."""

import ctypes
import mmap
import os
import sys
from types import ModuleType

import numpy as np
import pytest

ROWS, WIDE = (1 << 21) + 1, 1024
SIZE = ROWS * WIDE * 4  # bytes of float32
BLOCK = 1 << 26
DEGREE, NUM_KNOTS = 1, 5  # G = 2: the cheapest splines
SLOTS = NUM_KNOTS - DEGREE
SETTINGS = NUM_KNOTS, DEGREE, "silu"
PROT_NONE, MAP_NORESERVE, MAP_FIXED = 0, 0x4000, 0x10

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps memory as Linux does")


def reserve(protection: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(SIZE), protection, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        pytest.skip(f"no {SIZE} bytes of address space: {os.strerror(ctypes.get_errno())}")
    return address


def as_array(address: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * (ROWS * WIDE)).from_address(address)).reshape(ROWS, WIDE)


@pytest.fixture
def zeros():
    """[ROWS, WIDE] zeros that take no memory while they are read."""
    address = reserve(mmap.PROT_READ | mmap.PROT_WRITE)
    yield as_array(address)
    ctypes.CDLL(None).munmap(ctypes.c_void_p(address), ctypes.c_size_t(SIZE))


@pytest.fixture
def window():
    """[ROWS, WIDE] to write equal rows to: all blocks but the last, of one row, lie in the same memory."""
    address = reserve(PROT_NONE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    file = os.memfd_create("window")
    os.ftruncate(file, 2 * BLOCK)
    for begin in range(0, SIZE, BLOCK):
        size, last = min(BLOCK, SIZE - begin), begin + BLOCK >= SIZE
        where, offset = ctypes.c_void_p(address + begin), ctypes.c_long(BLOCK if last else 0)
        flags = mmap.MAP_SHARED | MAP_FIXED
        assert libc.mmap(where, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, flags, file, offset) == where.value
    os.close(file)
    yield as_array(address)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(SIZE))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)


def forward(core: ModuleType, x: np.ndarray, weight: np.ndarray, y: np.ndarray) -> np.ndarray:
    knots = np.tile(np.arange(-2, 3, dtype=np.float32), (x.shape[1], 1))
    pointers = (x.ctypes.data, weight.ctypes.data, 0, knots.ctypes.data, y.ctypes.data)
    core.cpu_forward(*pointers, *x.shape, y.shape[1], *SETTINGS, 0, "float32", "float32", 2)
    return y


def gradients(core: ModuleType, x: np.ndarray, weight: np.ndarray, g: np.ndarray, grad_input: np.ndarray) -> np.ndarray:
    """Into grad_input; the weight's gradient is returned."""
    knots = np.tile(np.arange(-2, 3, dtype=np.float32), (x.shape[1], 1))
    grad_weight = np.full_like(weight, np.nan)
    pointers = (*(a.ctypes.data for a in (x, weight, g)), 0, *(a.ctypes.data for a in (knots, grad_input, grad_weight)))
    core.cpu_fused_gradients(*pointers, 0, 0, *x.shape, g.shape[1], *SETTINGS, 0, 1, "float32", "float32", 2)
    return grad_weight


@pytest.mark.proof
def test_many_inputs(core, zeros, window):
    """x and grad_input: rows of zeros, and one that differs at the very end."""
    weight, last = random(WIDE, SLOTS, 1), random(1, WIDE)
    zeros[-1] = last
    y = forward(core, zeros, weight, np.empty((ROWS, 1), np.float32))
    tail = np.concatenate((np.zeros((600, WIDE), np.float32), last))  # sorted as the large ones are
    np.testing.assert_allclose(y[-601:], forward(core, tail, weight, np.empty((601, 1), np.float32)), rtol=1e-5)
    assert (y[:-1] == y[0]).all() and y[-1] != y[0]

    g = np.zeros((ROWS, 1), np.float32)
    g[-1] = 2
    grad_weight = gradients(core, zeros, weight, g, window)
    expected = np.empty((601, WIDE), np.float32)
    np.testing.assert_allclose(grad_weight, gradients(core, tail, weight, g[-601:].copy(), expected), rtol=1e-5)
    np.testing.assert_allclose(window[-1], expected[-1], rtol=1e-5)
    assert (window[: BLOCK // WIDE // 4] == 0).all() and (window[-1] != 0).all()


def test_many_outputs(core, zeros, window):
    """y and g, as above."""
    weight, x = random(1, SLOTS, WIDE), np.zeros((ROWS, 1), np.float32)
    x[-1] = 0.7
    forward(core, x, weight, window)
    expected = forward(core, x[-601:].copy(), weight, np.empty((601, WIDE), np.float32))
    np.testing.assert_allclose(window[-1], expected[-1], rtol=1e-5)
    np.testing.assert_allclose(window[0], expected[0], rtol=1e-5)

    zeros[-1] = random(WIDE)
    grad_input, last = np.empty((ROWS, 1), np.float32), np.empty((1, 1), np.float32)
    grad_weight = gradients(core, x, weight, zeros, grad_input)
    np.testing.assert_allclose(grad_weight, gradients(core, x[-1:].copy(), weight, zeros[-1:].copy(), last), rtol=1e-5)
    np.testing.assert_allclose(grad_input[-1], last[0], rtol=1e-5)
    assert (grad_input[:-1] == 0).all() and grad_input[-1] != 0
