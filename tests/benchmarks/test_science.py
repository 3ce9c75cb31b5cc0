"""The science benchmark on few rows: what it measures, and how it names structures."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.document import read
from benchmarks.science import poisson, run, targets
from fastkan import KAN

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(targets, "ROWS", 80)
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(False)  # pykan's lstsq has no such algorithm
    yield
    torch.set_num_threads(threads)


def test_rows_are_those_of_the_seed():
    one, same, other = targets.rows("jv", 3), targets.rows("jv", 3), targets.rows("jv", 4)
    assert torch.equal(one.x, same.x) and not torch.equal(one.x, other.x)
    noisy = targets.rows("exp", 0, noise=0.1)
    share = (noisy.y - targets.rows("exp", 0).y).std() / noisy.y.std()
    assert 0.07 < share < 0.13 and torch.equal(noisy.new_y, targets.rows("exp", 0).new_y)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_targets(name):
    data = targets.rows(name, 0)
    assert data.y.shape == (80, 1) and data.y.isfinite().all() and data.y.std() > 0.1


def test_the_command(monkeypatch, tmp_path, capsys):
    pytest.importorskip("kan", reason="pykan is not installed")
    monkeypatch.setattr(run, "FITS", [("exp", [2, 1, 1], (3, 5), 0.0)])
    monkeypatch.setattr(run, "STRUCTURES", [("product", [2, (0, 1), 1], "0*1")])
    monkeypatch.setattr(run, "EQUATIONS", [(3, (4,))])
    monkeypatch.setattr(poisson, "INSIDE", 100)
    monkeypatch.setattr(run, "PYKAN_STEPS", 1)
    monkeypatch.setattr(run, "results_folder", lambda found: tmp_path)
    assert run.main(["--seeds", "1", "--pykan-seeds", "1", "--name", "tiny"]) == 0
    document = json.loads((tmp_path / "tiny.json").read_text())
    ours, theirs = document["fits"]
    assert ours["peer"] == "fastkan" and ours["train"] < 0.1 and ours["test_over_best"] >= 1
    assert theirs["peer"] == "pykan" and theirs["grid_size"] == 5
    assert set(document["structures"][0]) == {"target", "seed", "found", "right", "test", "cpu_seconds"}
    assert 0 < document["poisson"][0]["mse"] < document["poisson"][0]["mse_of_gradient"]
    assert "structure of product" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/science*.json")), ids=lambda path: path.stem)
def test_committed_results_are_readable(path, capsys):
    run.show(read(path))
    assert "median (worst) of 5" in capsys.readouterr().out


def test_structures():
    net = KAN([3, (2, 1), 1])
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 0] = mask[1, 2] = mask[2, 3] = mask[0, 1] = mask[1, 1] = True
    net.layers[0].set_mask(mask)
    assert run.structure(net) == "0 + 1*2 + f(0 1)"
    net.layers[1].set_mask(torch.tensor([[True], [False], [True]]))
    assert run.structure(net) == "0 + 1*2"
