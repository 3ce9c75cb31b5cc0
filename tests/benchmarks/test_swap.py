"""The study of swapped models, on the smallest of them for a few steps."""

import pytest
import torch

from benchmarks import document
from benchmarks.swap import chart, models, run, table, train

NAME = "MLP, diabetes"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    short = {name: case._replace(steps=3) for name, case in models.CASES.items()}
    monkeypatch.setattr(train, "CASES", short)
    monkeypatch.setattr(train, "ONE_BATCH", 2)


@pytest.mark.parametrize("name", [name for name in models.CASES if name not in models.MORE])
def test_every_model_of_plain_torch_trains_swapped(name):
    linear, swapped = (train.trained(name, variant, "AdamW 0.001", 0) for variant in ("linear", "swapped"))
    assert swapped["parameters"] > linear["parameters"]
    assert linear["train"] < 10 and swapped["train"] < 10 and linear["held"] != swapped["held"]


def test_a_study_is_shown_and_drawn(tmp_path, capsys):
    results = [planned.call(*planned.settings) for planned in run.runs([NAME], 1)]
    document.write({"environment": {}, "results": results}, tmp_path / "swap.json")
    run.show(tmp_path / "swap.json")
    shown = capsys.readouterr().out
    assert "geometric mean" in shown and "worst" in shown
    chart.draw(results, tmp_path / "swap.png")
    assert (tmp_path / "swap.png").stat().st_size > 10_000


def test_a_study_goes_on_where_its_file_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "results_folder", lambda _: tmp_path)
    monkeypatch.setattr(
        run, "trained", lambda *settings: dict(zip(run.SETTINGS, settings, strict=True)) | {"train": 1.0, "held": 1.0}
    )
    run.swap((NAME,), seeds=1)
    whole = document.read(tmp_path / "swap.json")["results"]
    document.write({"environment": {}, "results": whole[3:]}, tmp_path / "swap.json")
    run.swap((NAME,), seeds=1)
    assert document.read(tmp_path / "swap.json")["results"] == whole[3:] + whole[:3]


def test_a_ratio_is_that_of_means_with_slack():
    common = {"model": "m", "optimizer": "o", "one_batch": False, "seed": 0}
    rows = [common | {"variant": variant, "held": held} for variant, held in (("linear", 0.08), ("swapped", 0.03))]
    assert run.ratios(rows, "held")["m", "swapped", "o", False] == pytest.approx(0.5)


def test_muon_steps_the_matrices_of_kan_layers_where_they_lie():
    model = train.prepared(models.CASES[NAME], train.VARIANTS["swapped"], 0)
    before = [p.detach().clone() for p in model.parameters()]
    train.step(model, models.CASES[NAME].task(), models.CASES[NAME].task().held, train.optimizer_of("Muon 0.02", model))
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_model_is_swapped_trained_saved_loaded_and_exported():
    row = table.treated("MLP, digits")
    assert row["blocks"] == 3 and row["change"] < 1e-6 and row["loaded_equal"] and row["losses"][1] < row["losses"][0]
    assert row["pt2"] < 1e-6 and row["pt2_unswapped"] < 1e-6
