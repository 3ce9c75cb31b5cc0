"""What the profiler asks of the core: loops whose results and work are known, and the count of a call's multiplications."""

from types import ModuleType

import numpy as np
import pytest

BYTES = {"avx512": 64, "avx2": 32, "baseline": 16}  # of a vector
SUMS = {"avx512": 24, "avx2": 12, "baseline": 12}  # on x86-64
ITEMS = {"float32": 4, "float64": 8}


@pytest.fixture
def lanes(core: ModuleType) -> dict[str, int]:
    return {dtype: BYTES[core.cpu_isa()] // size for dtype, size in ITEMS.items()}


@pytest.mark.parametrize("dtype", ITEMS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("steps", [0, 1, 7, 12])
def test_multiply_adds(core: ModuleType, lanes: dict[str, int], dtype: str, threads: int, steps: int) -> None:
    """Sum k starts at k; after n steps of sum * 0.5 + 3 it is k / 2^n + 6 (1 - 1 / 2^n), without rounding."""
    sums = SUMS[core.cpu_isa()]
    total, flops, rate = core.cpu_multiply_add(steps, 0.5, 3.0, dtype, threads)
    assert rate >= 0
    assert flops == 2 * steps * sums * lanes[dtype] * threads
    assert total == threads * lanes[dtype] * sum(k / 2**steps + 6 * (1 - 1 / 2**steps) for k in range(sums))


@pytest.mark.parametrize("count", [0, 1, 31, 128, 4099])
@pytest.mark.parametrize("threads", [1, 3])
def test_reads_touch_every_word_as_often_as_asked(core: ModuleType, count: int, threads: int) -> None:
    words = np.random.default_rng(count).integers(2**32, size=count + 1, dtype=np.uint32)
    for passes in (0, 1, 5):
        expected = passes * int(words[:count].sum(dtype=np.uint64)) % 2**32
        total, read, rate = core.cpu_read(words.ctypes.data, count, passes, threads)
        assert total == expected and read == 4 * count * passes and rate >= 0


def whole(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


@pytest.mark.parametrize("dtype", ITEMS)
@pytest.mark.parametrize("outputs", [24, 33, 256])
@pytest.mark.parametrize("degree", [1, 3])
def test_multiplications_of_many_outputs(core: ModuleType, lanes: dict[str, int], dtype: str, outputs: int, degree: int) -> None:
    rows, inputs, knots, p = 100, 7, 5 + 2 * degree + 1, degree
    edges, splines = rows * inputs * whole(outputs, lanes[dtype]), 3 * p * (p + 1) // 2 - 1
    count = lambda operation, rows: core.cpu_multiplications(operation, rows, inputs, outputs, knots, p, dtype)  # noqa: E731
    assert count("forward", rows) == edges * (p + 1) + rows * inputs * splines
    assert count("fused_gradients", rows) == edges * (2 * p + 3) + rows * inputs * (splines + p + 1)
    one = inputs * whole(outputs, lanes[dtype])
    assert count("forward", 1) == one * (p + 2) + inputs * splines  # row by row there is no pivot


def test_multiplications_of_few_outputs(core: ModuleType, lanes: dict[str, int]) -> None:
    """With tables in registers, rows are padded; grad_weight works on every slot."""
    if core.cpu_isa() != "avx512":
        pytest.skip("only AVX-512 has tables in registers")
    rows, inputs, outputs, grid, p = 101, 7, 2, 5, 3
    edges, splines = whole(rows, lanes["float32"]) * inputs * outputs, 3 * p * (p + 1) // 2 - 1
    sizes = (rows, inputs, outputs, grid + 2 * p + 1, p, "float32")
    assert core.cpu_multiplications("forward", *sizes) == edges * (p + 2) + rows * inputs * splines
    slots = grid + p + 1
    expected = edges * (p + 3 + slots) + rows * inputs * (splines + p + 1)
    assert core.cpu_multiplications("fused_gradients", *sizes) == expected


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("cpu_multiply_add", (-1, 0.5, 1.0, "float32", 1), "steps must be at least 0, got -1"),
        ("cpu_multiply_add", (1, 0.5, 1.0, "float16", 1), "dtype must be float32 or float64, got 'float16'"),
        ("cpu_multiply_add", (1, 0.5, 1.0, "float32", 0), r"threads must be 1\.\.1024, got 0"),
        ("cpu_read", (0, 4, 1, 1), "words must be the address of 16 bytes, got 0"),
        ("cpu_read", (4, 0, -1, 1), "passes must be at least 0, got -1"),
        ("cpu_multiplications", ("gram", 1, 1, 1, 12, 3, "float32"), "operation must be forward or fused_gradients, got 'gram'"),
    ],
)
def test_a_wrong_argument_is_named(core: ModuleType, call: str, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(core, call)(*arguments)
