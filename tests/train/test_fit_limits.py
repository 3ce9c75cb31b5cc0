"""How a fit ends early, goes on from a checkpoint, and what it refuses."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from fastkan import KAN, fit, sparsify

torch.manual_seed(0)
X = torch.rand(120, 2, dtype=torch.float64) * 2 - 1
Y = torch.exp(torch.sin(torch.pi * X[:, :1]) + X[:, 1:] ** 2)
NAN = torch.full_like(X, torch.nan)


def made(widths=(2, 3, 1), **settings):
    return KAN(widths, seed=0, dtype=torch.float64, **settings)


def rmse(model):
    return (model(X) - Y).square().mean().sqrt().item()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- ends


def interrupt_after(count):
    def callback(history, model):
        if len(history) >= count:
            raise KeyboardInterrupt

    return callback


def test_ctrl_c_keeps_the_best_so_far():
    model = made()
    history = fit(model, X, Y, optimizer="adamw", val=0.2, callback=interrupt_after(30))
    assert history.stopped == "interrupted" and len(history) == 30
    assert history.rows[-1]["train"] < history.rows[0]["train"]
    assert rmse(model) < rmse(made())


def test_ctrl_c_between_grids_keeps_the_best_grid():
    model = made()
    history = fit(model, X, Y, grids=[3, 5, 40], starts=1, steps=8, callback=interrupt_after(12))
    assert history.stopped == "interrupted" and model[0].grid_size == history.grid_size


def test_callback_ends_a_fit():
    history = fit(made(), X, Y, optimizer="lbfgs", callback=lambda history, model: len(history) == 3)
    assert len(history) == 3 and history.stopped == "the callback said so"


def test_seconds():
    history = fit(made(), X, Y, optimizer="lbfgs", seconds=1e-9)
    assert len(history) == 1 and history.stopped == "the seconds were over"


def test_progress(capfd):
    fit(made(), X, Y, optimizer="lbfgs", steps=2, progress=True)
    assert "train=" in capfd.readouterr().err
    fit(made(), X, Y, optimizer="lbfgs", steps=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "ssbroyden", "adamw"])
def test_a_loss_that_is_no_longer_finite(optimizer):
    """The guard names the step and restores what was there at the last look."""
    model, calls = made(), []

    def residual(model):
        calls.append(1)
        r = model(X) - Y
        return r if len(calls) < 12 else r * torch.nan

    with pytest.raises(FloatingPointError, match=r"^step \d+: the loss became nan; .* it is the loss itself"):
        fit(model, residual=residual, optimizer=optimizer, starts=1)
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_guard_names_the_culprit():
    model = made()
    with pytest.raises(FloatingPointError, match=r"parameter 0\.weight became NaN or infinite"):
        fit(model, X, Y, optimizer=torch.optim.SGD(model.parameters(), lr=1e300))
    assert all(p.isfinite().all() for p in model.parameters())


# ---- checkpoints


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "steps": 60, "batch_size": 32, "grids": [4, 8]},
        {"optimizer": "lm", "steps": 12, "grids": [4, 8, 16]},
        {"optimizer": "lbfgs", "steps": 20},
        {"optimizer": "adamw", "steps": 60, "val": 0.2, "patience": 40},
    ],
)
def test_a_resumed_fit_is_the_same_bit_for_bit(tmp_path, settings):
    whole, model, path = made(), made(), tmp_path / "fit.safetensors"
    expected = fit(whole, X, Y, **settings)
    for stop in (9, 17, 31):
        fit(model, X, Y, checkpoint=path, callback=interrupt_after(stop), **settings)
        model = made()
    history = fit(model, X, Y, checkpoint=path, **settings)
    assert same(state(model), state(whole))
    keys = ("step", "grid_size", "train", "val")
    assert [[row[k] for k in keys] for row in history.rows] == [[row[k] for k in keys] for row in expected.rows]
    assert history.stopped == expected.stopped == "done"


def test_a_checkpoint_is_safetensors_and_json(tmp_path):
    path = tmp_path / "fit.safetensors"
    fit(made(), X, Y, steps=4, starts=1, checkpoint=path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["fastkan"])["format"] == 1
        assert "model" in json.loads(file.metadata()["fastkan"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    path = tmp_path / "fit.safetensors"
    fit(made(), X, Y, steps=4, starts=1, checkpoint=path)
    model = made()
    before = state(model)
    with pytest.raises(ValueError, match="^checkpoint: expected one of this fit"):
        fit(model, X, Y, steps=5, starts=1, checkpoint=path)
    assert same(state(model), before)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(Exception, match=r"(?i)header|checkpoint"):
        fit(model, X, Y, steps=4, starts=1, checkpoint=path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "fit.safetensors"
    fit(made(), X, Y, steps=4, starts=1, checkpoint=path, callback=interrupt_after(2))
    written = path.read_bytes()

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        fit(made(), X, Y, steps=4, starts=1, checkpoint=path)
    assert path.read_bytes() == written and len(list(tmp_path.iterdir())) == 1


# ---- bad input


def frozen():
    model = made()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def broken():
    model = made()
    with torch.no_grad():
        model[1].weight[0, 0, 0] = torch.inf
    return model


CLASSES = torch.zeros(len(X), dtype=torch.int64)
BAD = {
    "NaN in x": ({"x": torch.where(torch.arange(len(X))[:, None] == 7, NAN, X)}, ValueError, "^x: expected finite.* row 7"),
    "infinite y": ({"y": Y / 0}, ValueError, "^y: expected finite values, received NaN or infinity in 120 rows"),
    "x of one dimension": ({"x": X[:, 0]}, ValueError, "^x: expected rows"),
    "x without rows": ({"x": X[:0], "y": Y[:0]}, ValueError, "^x: expected rows"),
    "x of another width": ({"x": X[:, :1]}, ValueError, "^x: expected last dimension 2"),
    "integer x": ({"x": X.long()}, TypeError, "^x: expected a real floating dtype"),
    "x as a list": ({"x": X.tolist()}, TypeError, "^x: expected a torch.Tensor"),
    "x in float32": ({"x": X.float()}, TypeError, "^x: expected the model's dtype torch.float64"),
    "x elsewhere": ({"x": X.to("meta")}, ValueError, "^x: expected the model's device"),
    "y as numbers": ({"y": Y[:, 0].tolist()}, TypeError, "^y: expected a torch.Tensor"),
    "y of one dimension": ({"y": Y[:, 0]}, ValueError, r"^y: expected shape \(120, 1\)"),
    "y with other rows": ({"y": Y[:100]}, ValueError, "^y: expected 120 rows"),
    "y of two outputs": ({"y": Y.expand(-1, 2)}, ValueError, r"^y: expected shape \(120, 1\)"),
    "y in float32": ({"y": Y.float()}, TypeError, "^y: expected the model's dtype"),
    "classes as numbers": ({"loss": "cross_entropy"}, ValueError, "^y: expected class numbers"),
    "a class too many": ({"y": CLASSES + 1, "loss": "cross_entropy"}, ValueError, "^y: expected classes from 0 to 0"),
    "no y": ({"y": None}, ValueError, "^x, y: expected both"),
    "data and a residual": ({"residual": lambda m: m(X)}, ValueError, "^residual: expected no x and y"),
    "no residual": ({"x": None, "y": None, "residual": 3}, TypeError, "^residual: expected a function"),
    "a residual of one number": ({"x": None, "y": None, "residual": lambda m: m(X).mean()}, ValueError, "single number"),
    "a residual of integers": ({"x": None, "y": None, "residual": lambda m: CLASSES}, TypeError, "real floating dtype"),
    "weight with a residual": (
        {"x": None, "y": None, "residual": lambda m: m(X), "weight": Y[:, 0]},
        ValueError,
        "^residual: expected no",
    ),
    "batches of a residual": (
        {"x": None, "y": None, "residual": lambda m: m(X), "batch_size": 3},
        ValueError,
        "^batch_size: expected data",
    ),
    "unknown loss": ({"loss": "mae"}, ValueError, "^loss: expected mse or cross_entropy"),
    "loss without a number": ({"loss": lambda a, b: a - b, "steps": 1}, ValueError, "^loss: expected a single number"),
    "unknown optimizer": ({"optimizer": "sgd"}, ValueError, "^optimizer: expected one of lm"),
    "optimizer of another kind": ({"optimizer": 3}, TypeError, "^optimizer: expected a name"),
    "optimizer class": ({"optimizer": torch.optim.Adam}, TypeError, "^optimizer: expected a name"),
    "optimizer of another model": ({"optimizer": torch.optim.Adam(made().parameters())}, ValueError, "those of another model"),
    "lm with classes": (
        {"y": CLASSES, "loss": "cross_entropy", "optimizer": "lm"},
        ValueError,
        "^optimizer: expected a sum of squares",
    ),
    "lm with batches": ({"optimizer": "lm", "batch_size": 10}, ValueError, "^batch_size: expected None"),
    "lm with a penalty": ({"optimizer": "lm", "penalty": lambda m: 0}, ValueError, "^penalty: expected another optimizer"),
    "negative weights": ({"weight": -Y[:, 0]}, ValueError, "^weight: expected finite numbers"),
    "weights of another length": ({"weight": Y[:9, 0]}, ValueError, r"^weight: expected shape \(120,\)"),
    "no steps": ({"steps": 0}, ValueError, "^steps: expected a whole number of at least 1"),
    "half a start": ({"starts": 1.5}, ValueError, "^starts: expected a whole number"),
    "lr of 0": ({"lr": 0}, ValueError, "^lr: expected a number above 0"),
    "no time": ({"seconds": -1}, ValueError, "^seconds: expected a number above 0"),
    "no memory": ({"memory": 0}, ValueError, "^memory: expected a number above 0"),
    "falling grids": ({"grids": [10, 5]}, ValueError, "^grids: expected sizes that rise"),
    "grids past the rows": ({"grids": [5, 121]}, ValueError, "^grids: expected at most 9[0-9] cells"),
    "one grid as a number": ({"grids": 5}, ValueError, "^grids: expected a list"),
    "val of all rows": ({"val": 0.999}, ValueError, "^val: expected rows to be left"),
    "val above 1": ({"val": 2.0}, ValueError, "^val: expected"),
    "val of three": ({"val": (X, Y, Y)}, ValueError, "^val: expected"),
    "val with NaN": ({"val": (NAN, Y)}, ValueError, "^val x: expected finite values"),
    "patience without val": ({"patience": 3}, ValueError, "^patience: expected held-back rows"),
    "a frozen model": ({"model": frozen()}, ValueError, "^model: expected something to train"),
    "a broken model": ({"model": broken()}, ValueError, "^model: expected finite parameters.*1.weight"),
    "no KAN": ({"model": nn.Linear(2, 1).double()}, ValueError, "^model: expected at least one KANLinear"),
    "no module": ({"model": 3}, TypeError, "^model: expected an nn.Module"),
    "checkpoint of another kind": (
        {"checkpoint": "fit.pt"},
        ValueError,
        "^checkpoint: expected a path that ends in .safetensors",
    ),
    "checkpoint nowhere": ({"checkpoint": "/nowhere/fit.safetensors"}, FileNotFoundError, "^checkpoint: expected an existing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changed, error, message = BAD[name]
    arguments = {"model": made(), "x": X, "y": Y} | changed
    model = arguments.pop("model")
    before = state(model) if isinstance(model, nn.Module) else None
    with pytest.raises(error, match=message):
        fit(model, **arguments)
    assert before is None or same(state(model), before)


def test_lm_in_float32_and_lbfgs_with_grids_are_refused():
    with pytest.raises(ValueError, match="^optimizer: expected a model in float64"):
        fit(made().float(), X.float(), Y.float(), optimizer="lm")
    model = made()
    with pytest.raises(ValueError, match="^optimizer: expected 'lbfgs' by name with grids"):
        fit(model, X, Y, optimizer=torch.optim.LBFGS(model.parameters()), grids=[3, 5])


@pytest.mark.parametrize("x", [X[:1], torch.cat((X, X)), torch.cat((X[:, :1], torch.ones_like(X[:, 1:])), 1), X[:5]])
def test_odd_data_are_fitted_all_the_same(x):
    """One row, every row twice, a constant column, fewer rows than weights."""
    model = made()
    y = torch.sin(3 * x[:, :1])
    fit(model, x, y, steps=10)
    assert (model(x) - y).abs().max() < 0.05


def test_several_processes_are_refused(monkeypatch):
    """Each would fit its own rows, and their models would drift apart."""
    monkeypatch.setattr("fastkan.train.checks.ranks", lambda: 2)
    for call in (fit, sparsify):
        with pytest.raises(RuntimeError, match="^expected one process, received 2"):
            call(made(), X, Y)
