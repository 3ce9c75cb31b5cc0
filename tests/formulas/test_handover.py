"""What goes to PySR; PySR itself, which brings Julia, is played."""

import sys
from types import SimpleNamespace

import pytest
import torch

import fastkan
from fastkan.formulas import to_pysr


@pytest.fixture
def net():
    made = fastkan.KAN([2, 1, 1], dtype=torch.float64, seed=0)
    made[0].set_symbolic({(0, 0): ("sin", (2.0, 0, 1, 0)), (1, 0): ("gaussian", (1.0, 0, 1, 0))})
    made[1].set_symbolic({(0, 0): ("x**2", (1.0, 0, 3, 0))})
    return made


def test_operators_and_guess(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysr", SimpleNamespace(PySRRegressor=lambda **settings: settings))
    made = to_pysr(net, ["t", "v"], niterations=7)
    assert made["unary_operators"] == ["gauss(x) = exp(-x^2)", "sin", "square"] and made["niterations"] == 7
    assert "^2" in made["guesses"][0] and "sin" in made["guesses"][0] and "t" in made["guesses"][0]
    assert list(made["extra_sympy_mappings"]) == ["gauss"]
    assert to_pysr(net, unary_operators=["exp"])["unary_operators"] == ["exp"]


def test_it_explains_itself_where_pysr_is_missing(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysr", None)
    with pytest.raises(ImportError, match="pip install pysr"):
        to_pysr(net)
