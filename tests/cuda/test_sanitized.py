"""The CUDA kernels with a CPU in the GPU's place, under sanitizers: a spread of their tests that meets every kernel.

All of them run without sanitizers: FASTKAN_EMULATED=plain pytest -k cuda (make test).
"""

import sys

import emulated
import pytest

SPREAD = {
    # one row, repeated knots, more outputs than a tile's; NaN and empty tensors; several tiles, windows and splits
    "address": "1x1x1 or 7x3x4-G5-p8 or 8x3x2-G6-p2 or 3x2x513 or 70x20x72 or empty or test_nan or test_paths or test_sparse",
    # some blocks along each axis
    "thread": "(33x1x17 or 66x9x131 or 65x20x130 or 1400x2x12 or 1400x2x3 or test_tf32 or test_gram) and not bfloat16",
}
FILES = [emulated.ROOT / "tests" / "test_backends.py", emulated.HERE / "test_paths.py", emulated.HERE / "test_sparse_forward.py"]
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("sanitizer", SPREAD)
def test_a_spread(sanitizer: str) -> None:
    emulated.module(sanitizer)
    preloaded = {"LD_PRELOAD": emulated.runtime(sanitizer), "FASTKAN_EMULATED": sanitizer}
    # not captured: a report ends the process
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--capture=no", "--tb=short"]
    result = emulated.run(*command, *FILES, "-k", f"cuda and ({SPREAD[sanitizer]})", **preloaded, **OPTIONS)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout[-6000:] + result.stderr[-6000:]
