"""Measured tiles go before the rule's, and the tuner that finds them works without a GPU as far as it can."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_measured_tiles_go_first(monkeypatch):
    from fastkan.kernels import tiles

    rule, better = tiles.Tile(rows=64), tiles.Tile(rows=128)
    device = torch.device("cpu")
    monkeypatch.setitem(tiles.MEASURED, "cpu", {tiles.key("forward", torch.float32, (1000, 256, 300)): better})
    assert tiles.chosen("forward", device, torch.float32, (1000, 256, 300), rule) == better
    assert tiles.chosen("forward", device, torch.float32, (900, 257, 256), rule) == better  # the same buckets
    assert tiles.chosen("forward", device, torch.float32, (9000, 256, 300), rule) == rule
    assert tiles.chosen("forward", device, torch.bfloat16, (1000, 256, 300), rule) == rule


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
def test_tuner(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "tune.py"), "--tiny", "--folder", str(tmp_path), "--seconds", "1"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    (path,) = tmp_path.iterdir()
    row = json.loads(path.read_text())["rows"][0]
    assert row["kernel"] == "uniform_forward" and row["ratios"]["rule"] == 1 and "expanded basis" in row["ratios"]
    assert "time is up" in output and "MEASURED entries:" in output
