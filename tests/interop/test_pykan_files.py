"""Checkpoints of pykan are read without code of theirs, and its states with a config."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from interop import pykan_models as pykan

from fastkan.interop import from_pykan

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def described(grid_size=3, degree=3):
    """State and config of a model [2, 1] as pykan writes them."""
    edges, splines = (2, 1), grid_size + degree
    knots = torch.linspace(-2, 2, splines + degree + 1).expand(2, -1)
    state = {
        "act_fun.0.grid": knots, "act_fun.0.coef": torch.randn(*edges, splines), "act_fun.0.mask": torch.ones(edges),
        "act_fun.0.scale_base": torch.randn(edges), "act_fun.0.scale_sp": torch.randn(edges),
        "symbolic_fun.0.mask": torch.zeros(1, 2), "symbolic_fun.0.affine": torch.zeros(1, 2, 4),
    }  # fmt: skip
    state |= {f"{kind}_{what}_0": torch.ones(1) for kind in ("node", "subnode") for what in ("scale", "bias")}
    return state, {"width": [[2, 0], [1, 0]], "grid": grid_size, "k": degree, "mult_arity": 2, "base_fun_name": "silu"}


ZETA = {"symbolic.funs_name.0": [["zeta", "x"]]}


def write(prefix, state, config):
    torch.save(state, f"{prefix}_state")
    Path(f"{prefix}_config.yml").write_text(yaml.dump(config))


def test_a_checkpoint_and_a_state_are_the_live_model(tmp_path):
    pytest.importorskip("kan", reason="pykan is not installed")
    theirs = pykan.make([3, [2, 1], 1], torch.float32)
    theirs.fix_symbolic(0, 0, 1, "x^2", fit_params_bool=False, log_history=False)
    x = pykan.samples(theirs).float()
    theirs(x)
    theirs.saveckpt(str(tmp_path / "ck"))
    expected = from_pykan(theirs)(x)
    assert torch.equal(from_pykan(tmp_path / "ck")(x), expected)
    config = yaml.safe_load((tmp_path / "ck_config.yml").read_text())
    assert torch.equal(from_pykan(theirs.state_dict(), config)(x), expected)
    wider = torch.randn(5, 7)
    chosen = from_pykan(theirs.state_dict(), config | {"input_id": [6, 0, 2]})
    torch.testing.assert_close(chosen(wider), from_pykan(theirs)(wider[:, [6, 0, 2]]))


def test_the_samples_beside_a_checkpoint_are_never_opened(tmp_path):
    write(tmp_path / "ck", *described())
    pickle.dump(Bomb(tmp_path / "gone off"), (tmp_path / "ck_cache_data").open("wb"))
    from_pykan(tmp_path / "ck")
    assert not (tmp_path / "gone off").exists()


def raw(bomb, path):
    path.write_bytes(pickle.dumps(bomb, protocol=2))


@pytest.mark.parametrize("save", [torch.save, raw])
def test_a_state_with_code_is_refused(tmp_path, save):
    state, config = described()
    write(tmp_path / "ck", state, config)
    save(Bomb(tmp_path / "gone off"), tmp_path / "ck_state")
    with pytest.raises(ValueError, match="source: expected a file of tensors, received .*ck_state, which is refused"):
        from_pykan(tmp_path / "ck")
    assert not (tmp_path / "gone off").exists()


def test_a_config_with_code_is_refused(tmp_path):
    state, config = described()
    write(tmp_path / "ck", state, config)
    bomb = f"!!python/object/apply:os.mkdir ['{tmp_path / 'gone off'}']"
    (tmp_path / "ck_config.yml").write_text(f"width: [2, 1]\nbase_fun_name: {bomb}\n")
    with pytest.raises(ValueError, match="source: expected plain YAML in .*ck_config.yml"):
        from_pykan(tmp_path / "ck")
    assert not os.path.exists(tmp_path / "gone off")


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*ck_config.yml and no .*ck_state"):
        from_pykan(tmp_path / "ck")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s, c: c.pop("width"), "config: expected an entry 'width'"),
        (lambda s, c: c.update(width=[2]), r"width, mult_arity: expected pykan's, .*, received \[2\] and 2"),
        (lambda s, c: c.update(width=[2, [1, 1]], mult_arity=[[]]), "width, mult_arity: expected pykan's"),
        (lambda s, c: c.update(base_fun_name="sine"), "base_fun: expected silu, identity, zero .*, received 'sine'"),
        (lambda s, c: s.pop("act_fun.0.scale_sp"), "expected the tensors of pykan 0.2 .*received no act_fun.0.scale_sp"),
        (lambda s, c: c.update(width=[3, 1]), r"layer 0, grid: expected floating numbers of shape \(3, 10\), received \(2, 10\)"),
        (lambda s, c: s.update({"act_fun.0.coef": torch.zeros(2, 1, 9)}), r"expected a grid of G \+ 2k \+ 1 knots"),
        (lambda s, c: s["symbolic_fun.0.mask"].fill_(1), "config: expected an entry 'symbolic.funs_name.0'"),
        (
            lambda s, c: (s["symbolic_fun.0.mask"].fill_(1), s["act_fun.0.mask"].zero_(), c.update(ZETA)),
            r"layer 0: expected formulas .*, received zeta on edge \(0, 0\)",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    state, config = described()
    change(state, config)
    with pytest.raises(ValueError, match=message):
        from_pykan(state, config)


def test_a_state_alone_says_too_little():
    with pytest.raises(ValueError, match="config: expected pykan's for a state dict"):
        from_pykan(described()[0])
