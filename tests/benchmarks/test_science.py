"""The science benchmark on few rows: what it measures, and how it names structures."""

import json
from pathlib import Path

import pytest
import torch

import fastkan
from benchmarks.science import equations, fits, formulas, kanpiler, laws, naming, poisson, run, speed, structures, targets
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
    monkeypatch.setattr(fits, "FITS", [("exp", [2, 1, 1], fits.USUAL[:2], 0.0, 1)])
    monkeypatch.setattr(fits, "USUAL", fits.USUAL[:2])
    monkeypatch.setattr(fits, "PYKAN_STEPS", 1)
    monkeypatch.setattr(structures, "STRUCTURES", [("product", [2, (0, 1), 1], "0*1")])
    monkeypatch.setattr(poisson, "EQUATIONS", [(3, (4,))])
    monkeypatch.setattr(poisson, "INSIDE", 100)
    monkeypatch.setattr(poisson, "LOOK", 0.0)
    monkeypatch.setattr(poisson, "GIVEN", 0.3)
    monkeypatch.setattr(poisson, "PYKAN_GIVEN", 0.1)
    monkeypatch.setattr(speed, "SIZES", [([2, 2, 1], 80, 2)])
    monkeypatch.setattr(speed, "PYKAN_STEPS", 1)
    monkeypatch.setattr(kanpiler, "EQUATIONS", {"I.10.7": equations.EQUATIONS["I.10.7"]})
    monkeypatch.setattr(formulas, "SETS", {"development": {"product": laws.DEVELOPMENT["product"]}})
    monkeypatch.setattr(laws, "ROWS", 80)
    monkeypatch.setattr(formulas, "BUDGET", 1e-3)
    monkeypatch.setattr(naming, "WIDTHS", [4, 1, 1])
    monkeypatch.setattr(naming, "ROWS", 60)
    monkeypatch.setattr(naming, "EDGES", 1)
    monkeypatch.setattr(run, "results_folder", lambda found: tmp_path)
    assert run.main(["--seeds", "1", "--name", "tiny"]) == 0
    results = {part: json.loads((tmp_path / f"tiny-{part}.json").read_text())["results"] for part in run.PARTS}
    ours, theirs = results["fits"]
    assert ours["peer"] == "fastkan" and ours["train"] < 0.1 and ours["test_over_best"] >= 1
    assert theirs["peer"] == "pykan" and theirs["grid_size"] == 5
    assert set(results["structures"][0]) == {"target", "seed", "found", "right", "test", "cpu_seconds"}
    assert [row["noise"] for row in results["formulas"]] == [0.0, formulas.NOISE] and results["formulas"][0][
        "target"
    ] == "product"
    assert results["naming"][0]["r2"] > results["naming"][0]["pykan_r2"] - 0.01
    assert [row["peer"] for row in results["poisson"]] == ["fastkan", "MLP 4 x 100", "pykan"]
    for row in results["poisson"]:
        seconds = [look[0] for look in row["curve"]]
        assert seconds == sorted(seconds) and row["curve"][-1] == [row["cpu_seconds"], row["mse"], row["mse_of_gradient"]]
    assert 0 < results["poisson"][0]["mse"] < results["poisson"][0]["mse_of_gradient"]
    assert [(row["peer"], row["what"]) for row in results["speed"]][:3] == [
        ("fastkan", "step"),
        ("pykan", "step"),
        ("fastkan", "fit"),
    ]
    exact, theirs, present, absent = results["kanpiler"]
    assert theirs["kind"] == "pykan" and theirs["error"] < 1e-12
    assert exact["error"] < 1e-14 and exact["widths"] == "[3, (1, 1), (0, 1)]"
    assert present["after"] < 1e-6 * present["before"] and absent["kind"] == "absent"
    assert (tmp_path / "tiny-poisson.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "structure of product" in shown and "over the best of (3, 5), noise 0%" in shown and "times as fast" in shown


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/science*.json")), ids=lambda path: path.stem)
def test_committed_results_are_readable(path, capsys):
    run.show(path)
    shown = " ".join(capsys.readouterr().out.split())  # a narrow console breaks lines
    assert "median (worst) of" in shown


def test_structures():
    net = KAN([3, (2, 1), 1])
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 0] = mask[1, 2] = mask[2, 3] = mask[0, 1] = mask[1, 1] = True
    net.layers[0].set_mask(mask)
    assert structures.structure(net) == "0 + 1*2 + f(0 1)"
    net.layers[1].set_mask(torch.tensor([[True], [False], [True]]))
    assert structures.structure(net) == "0 + 1*2"


@pytest.mark.parametrize("name", [name for laws_ in laws.SETS.values() for name in laws_])
def test_laws(name):
    law = next(laws_[name] for laws_ in laws.SETS.values() if name in laws_)
    x, y, new, wanted = laws.data(law, 0, 0.0)
    assert x.shape == (law.rows, len(law.ranges)) and len(new) == laws.ROWS
    assert y.isfinite().all() and wanted.isfinite().all() and y.std() > 1e-3
    noisy = laws.data(law, 0, 0.1)
    share = (noisy[1] - y).std() / y.std()
    assert torch.equal(noisy[0], x) and 0.08 < share < 0.12 and torch.equal(noisy[3], wanted)


@pytest.mark.parametrize("name", ["trig", "ratio", "additive", "hypot"])
def test_structure_of_a_formula(name):
    text = {
        "trig": "sin(a) + cos(b)*c",
        "ratio": "a/(1 + b**2)",
        "additive": "2*a + b**2 - log(c + 2)",
        "hypot": "sqrt(a**2 + b**2)",
    }[name]
    ranges = dict.fromkeys("abc"[: len(laws.DEVELOPMENT[name].ranges)], (0.2, 0.9))
    assert formulas.structure(fastkan.formulas.kanpiler(text, list(ranges), ranges)) == laws.DEVELOPMENT[name].structure
