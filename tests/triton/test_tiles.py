"""Measured tiles go before the rule's, and the tuner that finds them works without a GPU as far as it can."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("sizes", "dtype", "goes_first"),
    [
        ((1000, 256, 300), torch.float32, True),
        ((900, 257, 256), torch.float32, True),  # the same key
        ((9000, 256, 300), torch.float32, False),
        ((1000, 256, 300), torch.float64, False),
    ],
)
def test_measured_tiles_go_first(sizes, dtype, goes_first):
    from fastkan.kernels import devices, measured, plan

    better = measured.Tile(rows=48, columns=16, inputs=2, slots=16)
    card = devices.Card(90, 132, {measured.key("forward", torch.float32, (1000, 256, 300)): better})
    B, I, O = sizes
    x, weight = torch.empty(B, I, dtype=dtype, device="meta"), torch.empty(I, 9, O, dtype=dtype, device="meta")
    with devices.on(card):
        planned = plan.forward(x, weight, None, torch.zeros(I, 12), 3, "silu", 0)
    assert (planned.tile == better) == goes_first
    assert not goes_first or planned.steps[0].settings["ROWS"] == 48


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
def test_tuner(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "tune", "--tiny", "--folder", str(tmp_path), "--seconds", "0"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    (path,) = tmp_path.iterdir()
    row = json.loads(path.read_text())["rows"][0]
    assert row["kernel"] == "uniform_forward" and row["ratios"]["rule"] == 1 and "unfused" in row["ratios"]
    assert "time is up" in output and "MEASURED entries:" in output
