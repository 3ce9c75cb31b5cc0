"""python -m fastkan convert: what it recognises, writes, prints and refuses."""

import pickle
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from interop.formulas import EfficientLayer, RadialLayer, Stack

from fastkan import KAN
from fastkan.interop import from_file, load, save
from fastkan.tools.convert import convert

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


def run(source, target, **settings):
    defaults = {"to": "fastkan", "tolerance": 1e-4, "activation": "silu", "in_features": None}
    return convert(Namespace(source=str(source), target=str(target), **(defaults | settings)))


@pytest.fixture
def x():
    return torch.randn(30, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("end", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_of_efficient_kan(tmp_path, x, end, wrapped):
    torch.manual_seed(0)
    theirs = Stack(EfficientLayer(3, 4), EfficientLayer(4, 1))
    file = tmp_path / f"state{end}"
    if end == ".safetensors":
        safetensors.save_file(theirs.state_dict(), file)
    else:
        torch.save({"state_dict": theirs.state_dict(), "epoch": 3} if wrapped else theirs.state_dict(), file)
    said = run(file, tmp_path / "kan.safetensors")
    assert "state: efficient-kan state" in said.replace(end, "") and said.count("to rounding") == 2
    ours = load(tmp_path / "kan.safetensors")
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    run(tmp_path / "kan.safetensors", tmp_path / "back.safetensors", to="efficient-kan")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "back.safetensors"))
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-4, atol=1e-4)


def test_a_state_of_fast_kan_with_its_error(tmp_path, x):
    torch.manual_seed(0)
    theirs = Stack(RadialLayer(3, 4), RadialLayer(4, 1))
    torch.save(theirs.state_dict(), tmp_path / "state.pt")
    said = run(tmp_path / "state.pt", tmp_path / "kan.safetensors", tolerance=1e-3)
    errors = [line.split()[-1] for line in said.splitlines() if "NormedKANLinear" in line]
    assert len(errors) == 2 and all(0 < float(error) < 1e-2 for error in errors)
    torch.testing.assert_close(load(tmp_path / "kan.safetensors")(x), theirs(x), rtol=0.02, atol=0.02)


def test_a_checkpoint_of_pykan(tmp_path, x):
    pytest.importorskip("kan", reason="pykan is not installed")
    from interop import pykan_models

    theirs = pykan_models.make([3, [2, 1], 1], torch.float32)
    theirs.fix_symbolic(0, 1, 0, "sin", fit_params_bool=False, log_history=False)
    theirs.saveckpt(str(tmp_path / "ck"))
    for number, name in enumerate(("ck", "ck_state", "ck_config.yml")):
        said = run(tmp_path / name, tmp_path / f"kan{number}.safetensors")
        assert "pykan checkpoint" in said and "1 sin" in said and "11 of 12" in said
        torch.testing.assert_close(load(tmp_path / f"kan{number}.safetensors")(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_states_of_our_own(tmp_path, x):
    ours = KAN([3, 4, 1], grid_size=6, bias=True)
    ours[0].set_symbolic({(0, 1): ("sin", (1.0, 0.0, 1.0, 0.0))})
    torch.save(ours.state_dict(), tmp_path / "state.pt")
    assert "fastkan state" in run(tmp_path / "state.pt", tmp_path / "kan.safetensors")
    assert torch.equal(load(tmp_path / "kan.safetensors")(x), ours(x))
    torch.save(KAN([3, (1, 1), 1]).state_dict(), tmp_path / "products.pt")
    with pytest.raises(ValueError, match="a state does not say what they are: write the model by fastkan.interop.save"):
        from_file(tmp_path / "products.pt")


def test_what_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="source: expected a file, or the prefix of a pykan checkpoint, received"):
        from_file(tmp_path / "nothing")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match="expected a state of efficient-kan, FastKAN or fastkan in .*, received weight, bias"):
        from_file(tmp_path / "linear.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="source: expected a state dict in .*, received list without tensors"):
        from_file(tmp_path / "list.pt")
    torch.save({"act_fun.0.coef": torch.zeros(1)}, tmp_path / "lone.pt")
    with pytest.raises(ValueError, match="beside the config of a pykan checkpoint"):
        from_file(tmp_path / "lone.pt")
    save(KAN([2, 1]), tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    for target in ("a.safetensors", "b.pt"):
        with pytest.raises(ValueError, match="target: expected a new file that ends in .safetensors, received"):
            run(tmp_path / "a.safetensors", tmp_path / target)
    assert (tmp_path / "a.safetensors").read_bytes() == before


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_code_in_a_file_does_not_run(tmp_path):
    for name, content in (("state.pt", {"base_weight": Bomb(tmp_path / "gone off")}), ("raw.pth", None)):
        if content is None:
            (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "gone off"), protocol=2))
        else:
            torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match="source: expected a file of tensors, received .*, which is refused"):
            run(tmp_path / name, tmp_path / "out.safetensors")
    assert not (tmp_path / "gone off").exists() and not (tmp_path / "out.safetensors").exists()


def test_command_line(tmp_path):
    save(KAN([2, 3, 1]), tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "fastkan", "convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    result = subprocess.run([*command, "--to", "efficient-kan"], capture_output=True, text=True, check=True)
    assert "fastkan model" in result.stdout and "2 -> 3" in result.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and again.stderr.startswith("convert: target: expected a new file")
