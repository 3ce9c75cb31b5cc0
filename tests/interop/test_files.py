"""Models of all kinds through one file: the same answers, and nothing but tensors and JSON in it."""

import json
import pickle

import pytest
import torch
from interop.formulas import RadialLayer, Stack
from torch import nn

from fastkan import KAN, KANLinear
from fastkan.interop import from_fast_kan, load, save

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


def rich():
    """Products, formulas, masks, moved grids of two sizes, columns."""
    from fastkan.interop.assembled import make_kan
    from fastkan.nn import Columns, Products

    first = KANLinear(2, 4, grid_size=7, degree=2, grid_range=(-2, 3), activation="tanh", dtype=torch.float64)
    first.update_grid(torch.randn(200, 2))
    first.set_mask(torch.tensor([[True, False, True, True], [True, True, True, False]]))
    first.set_symbolic({(0, 3): ("sin", (2.0, 0.1, 1.0, 0.3)), (1, 0): ("x**2", (1.0, 0.0, 0.5, 0.0))})
    nn.init.normal_(first.bias)
    last = KANLinear(3, 1, bias=False, dtype=torch.float64)
    return make_kan([Columns([2, 0], 3), first, Products(2, (2,)), last])


MODELS = {
    "rich": rich,
    "kan": lambda: KAN([3, 5, 1], grid_size=4),
    "layer": lambda: KANLinear.from_linear(nn.Linear(3, 2)),
    "half": lambda: KAN([3, 1], dtype=torch.bfloat16),
    "row": lambda: nn.Sequential(KANLinear(3, 2), KANLinear(2, 1)),
    "normed": lambda: from_fast_kan(Stack(RadialLayer(3, 4), RadialLayer(4, 1)), 1e-2).model,
    "no base, gelu": lambda: from_fast_kan(
        Stack(RadialLayer(3, 4, base=False), RadialLayer(4, 1)), 1e-2, activation="gelu"
    ).model,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(name, tmp_path):
    torch.manual_seed(0)
    model = MODELS[name]()
    x = torch.randn(20, 3, dtype=next(model.parameters()).dtype)
    save(model, tmp_path / "model.safetensors")
    before = torch.get_rng_state()
    loaded = load(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert type(loaded) is type(model) and str(loaded) == str(model)
    assert torch.equal(loaded(x), model(x))
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_other_models_and_paths_are_refused(tmp_path):
    with pytest.raises(TypeError, match="model: expected a KAN, an nn.Sequential or a KANLinear, received Linear"):
        save(nn.Linear(2, 2), tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="model: expected KANLinear, Columns, .* in it, received a ReLU"):
        save(nn.Sequential(KANLinear(2, 2), nn.ReLU()), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"path: expected one that ends in .safetensors, received .*a.pt"):
        save(KAN([2, 1]), tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match="path: expected an existing folder"):
        save(KAN([2, 1]), tmp_path / "no" / "a.safetensors")
    with pytest.raises(FileNotFoundError, match="path: expected a file"):
        load(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def written(tmp_path, change):
    """A file whose description was changed."""
    save(KAN([2, 1]), tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["fastkan.model"])
    change(described)
    tensors = safetensors.load_file(tmp_path / "a.safetensors")
    safetensors.save_file(tensors, tmp_path / "a.safetensors", metadata={"fastkan.model": json.dumps(described)})
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.update(format=2), "expected format 1 at most, received 2; a newer fastkan wrote it"),
        (lambda d: d["modules"][0].update(type="Exec"), "expected a module that fastkan knows, received 'Exec'"),
        (lambda d: d["modules"][0].update(dtype="load"), "path: expected a model of fastkan"),
        (lambda d: d["modules"][0].update(degree=99), "path: expected a model of fastkan"),
        (lambda d: d["modules"][0].update(grid_size=9), "size mismatch for 0.weight"),
        (lambda d: d.pop("modules"), "path: expected a model of fastkan"),
        (lambda d: d.update(kind="system"), "path: expected a model of fastkan"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(written(tmp_path, change))


def test_a_file_of_something_else_is_refused(tmp_path):
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match="path: expected a model that fastkan.interop.save wrote, received .* without its description"
    ):
        load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(pickle.dumps(3))
    with pytest.raises(ValueError, match="path: expected a file of safetensors, received"):
        load(tmp_path / "b.safetensors")
