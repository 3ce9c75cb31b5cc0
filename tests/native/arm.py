"""The core on an ARM Cortex-A53, in an emulator (make arm): NEON, as Clang makes it of vectors of 16 bytes.

Not part of make test, for its time: Zig first compiles musl and libc++ from source, which takes some 3 minutes of two CPUs.
"""

from pathlib import Path

import guest
from compilers import HERE
from cross import BASELINE, clang, compile_core


def test_random_cases(tmp_path: Path) -> None:
    """Results as everywhere, and no memory touched outside pages."""
    arm = clang("aarch64-linux-musl", "-O2")
    objects = compile_core(arm, tmp_path, BASELINE)
    arm("-static", HERE / "fuzz.cpp", *objects, "-o", tmp_path / "fuzz")
    status, output = guest.run(tmp_path / "fuzz", 0, 4000)
    assert status == 0, output
    assert output.endswith("ok\n")
