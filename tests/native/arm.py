"""The core on an ARM Cortex-A53, in an emulator (make arm): NEON, as Clang makes it of vectors of 16 bytes.

Apart from make test for its time: before the core come musl and libc++, which Zig brings as sources, some 3 minutes of two CPUs.
"""

from pathlib import Path

import guest
from cross import BASELINE, HERE, clang, compile_core


def test_random_cases(tmp_path: Path) -> None:
    """Results as everywhere, and no memory touched outside pages."""
    arm = clang("aarch64-linux-musl")
    objects = compile_core(arm, tmp_path, ["-O2"], BASELINE)
    arm("-O2", "-static", HERE / "fuzz.cpp", *objects, "-o", tmp_path / "fuzz")
    status, output = guest.run(tmp_path / "fuzz", 0, 4000)
    assert status == 0, output
    assert output.endswith("ok\n")
