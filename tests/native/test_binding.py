"""The promises of the binding of the native module: arguments, threads, fork."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from limits import HANG

HERE = Path(__file__).resolve().parent


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
        (8, 65537, "num_knots must be at most 65536 for backend cpu, got 65537"),
        (9, 0, r"degree must be 1\.\.8, got 0"),
        (9, 9, r"degree must be 1\.\.8, got 9"),
        (10, "swish", "activation must be one of silu, .*, got 'swish'"),
        (11, -1, "nu must be at least 0, got -1"),
        (11, 9, "derivative order of activation 'silu' must be at most 8, got 9"),
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


def test_the_largest_grid(core: ModuleType) -> None:
    """65,535 intervals: their numbers, and that of the rows outside, fill 16 bit."""
    arrays = {
        "x": np.array([[0.9998], [0.0], [-3.0], [np.inf]]),
        "weight": np.ones((1, 65533, 1)),
        "knots": np.linspace(-1, 1, 65536)[None],
        "y": np.full((4, 1), np.nan),
    }
    arrays["weight"][:, -1] = 0  # no base slot
    x, weight, knots, y = (array.ctypes.data for array in arrays.values())
    core.cpu_forward(x, weight, 0, knots, y, 4, 1, 1, 65536, 3, "zero", 0, "float64", "float64", 1)
    np.testing.assert_allclose(arrays["y"][:, 0], [1, 1, 0, 0], atol=1e-12)  # splines sum to 1, and to 0 outside


def test_empty_tensors_need_no_address(core: ModuleType) -> None:
    core.cpu_forward(0, 0, 0, 0, 0, 0, 0, 0, 8, 3, "silu", 0, "float32", "float32", 2)
    core.cpu_fused_gradients(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 3, "silu", 0, 1, "bfloat16", "float16", 2)
    core.cpu_gram(0, 0, 0, 0, 0, 0, 8, 3, "silu", 0, 1, "float16", 2)
    core.cpu_quadratic(0, 0, 0, 0, 0, 0, 8, 3, "silu", 0, 1, "float64", 2)


RESULTS = ("grad_input", "grad_weight", "grad_row_weight", "joint")  # where cpu_fused_gradients writes, from its argument 5 on


def gradients_arguments() -> tuple[list, dict[str, np.ndarray]]:
    """Arguments of cpu_fused_gradients with one thread, and the arrays they point to."""
    (x, weight, _, knots, _, batch, features, outputs, *settings), arrays = forward_arguments()
    random = np.random.default_rng(1)
    arrays["g"], arrays["row_weight"] = random.normal(size=(batch, outputs)), random.normal(size=(batch, features))
    likes = (arrays["row_weight"], arrays["weight"], arrays["row_weight"], arrays["g"])
    arrays |= {name: np.full_like(like, np.nan) for name, like in zip(RESULTS, likes, strict=True)}
    g, row_weight, *results = (arrays[name].ctypes.data for name in ("g", "row_weight", *RESULTS))
    num_knots, degree, base, nu, dtype, value_dtype = settings
    sizes = [batch, features, outputs, num_knots, degree]
    return [x, weight, g, row_weight, knots, *results, *sizes, base, nu, 1, dtype, value_dtype, 1], arrays


@pytest.mark.parametrize("wanted", [w for count in range(5) for w in itertools.combinations(RESULTS, count)], ids="+".join)
def test_a_result_without_address_is_not_wanted(core: ModuleType, wanted: tuple[str, ...]) -> None:
    arguments, arrays = gradients_arguments()
    for position, name in enumerate(RESULTS, 5):
        if name not in wanted:
            arguments[position] = 0
    if set(wanted) <= {"grad_weight"}:
        arguments[1] = 0  # the weight
    core.cpu_fused_gradients(*arguments)
    for name in RESULTS:
        assert np.isfinite(arrays[name]).all() if name in wanted else np.isnan(arrays[name]).all()


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, 0, "weight must be the address"),
        (2, 0, "g must be the address"),
        (3, 0, "row_weight must be the address"),
        (5, 4, "grad_input must be aligned to 8 bytes, got 4"),
        (6, 4, "grad_weight must be aligned to 8 bytes, got 4"),
        (7, 4, "grad_row_weight must be aligned to 8 bytes, got 4"),
        (8, 4, "y must be aligned to 8 bytes, got 4"),
        (16, 9, "derivative order of activation 'silu' must be at most 8, got 9"),
        (17, "float32", "dtype and value_dtype must be both float64 or neither, got one of each"),
    ],
)
def test_a_wrong_argument_of_the_gradients_is_named(core: ModuleType, position: int, value: object, message: str) -> None:
    arguments, _arrays = gradients_arguments()
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        core.cpu_fused_gradients(*arguments)


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
sys.path[:0] = sys.argv[1:]
from test_binding import forward_arguments
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
    subprocess.run([sys.executable, "-c", FORKS, HERE, HERE.parent], check=True, timeout=HANG)
