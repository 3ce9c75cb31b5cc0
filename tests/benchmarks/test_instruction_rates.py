"""benchmarks/instructions: it compiles for a GPU with wgmma and for one without, and says what it finds."""

import shutil

import pytest

from benchmarks.instructions import rates


@pytest.mark.proof
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_it_compiles(architecture, tmp_path):
    rates.build(tmp_path / "rates", architecture)
    assert (tmp_path / "rates").stat().st_size > 100_000


def test_it_shows_what_it_found(capsys):
    rate = {"instruction": "mma", "operands": "zeros", "copied_bytes_per_clock": 1.5, "teraflops": 700.0, "clocks": 8.0}
    rates.show({"device": "GPU", "unit": "clocks", "rates": [rate]})
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "mma",
        "zeros",
        "1.5",
        "B/clk",
        "copied",
        "700.0",
        "TFLOP/s",
        "8.00",
        "clk",
    ]
