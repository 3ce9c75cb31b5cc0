"""The CUDA kernels with a CPU in the GPU's place, under sanitizers: all of their tests for addresses and undefined behaviour, and
a spread that meets every kernel for races, which takes ten times as long.
"""

import sys

import pytest
from emulated import device

pytestmark = pytest.mark.proof
CHOSEN = {
    "address": "cuda",
    # some blocks along each axis
    "thread": "cuda and not bfloat16 and (33x1x17 or 66x9x131 or 65x20x130 or 1400x2x12 or 1400x2x3 or test_tf32 or test_gram)",
}
FILES = [
    device.ROOT / "tests" / "contract" / "test_backends.py",
    device.HERE / "test_paths.py",
    device.HERE / "test_two_four_forward.py",
]
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("sanitizer", CHOSEN)
def test_no_report(sanitizer: str) -> None:
    device.module(sanitizer)
    preloaded = {"LD_PRELOAD": device.runtime(sanitizer), "FASTKAN_EMULATED": sanitizer}
    # not captured: a report ends the process
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--capture=no", "--tb=short"]
    command += ["-n", "auto"] if sanitizer == "address" else []
    result = device.run(*command, *FILES, "-k", CHOSEN[sanitizer], **preloaded, **OPTIONS)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout[-6000:] + result.stderr[-6000:]
