"""The expression of a model, and its code, against the model."""

import ctypes
import math
import shutil
import subprocess

import pytest
import torch

import fastkan
from fastkan.formulas import symbolic_formula
from fastkan.formulas.algebra import exact
from fastkan.formulas.polish import SIMPLE
from fastkan.nn import FUNCTIONS

X = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5 + 0.3


def formulas(names, layer, seed):
    g = torch.Generator().manual_seed(seed)
    numbers = torch.rand(layer.in_features * layer.out_features, 4, generator=g, dtype=torch.float64) * 0.4 + 0.2
    places = [(i, o) for i in range(layer.in_features) for o in range(layer.out_features)]
    layer.set_symbolic(
        {place: (names[k % len(names)], row) for k, (place, row) in enumerate(zip(places, numbers.tolist(), strict=True))}
    )


def model(outputs=1):
    net = fastkan.KAN([3, (1, 1), outputs], bias=True, dtype=torch.float64, seed=0)
    with torch.no_grad():
        for layer in net.layers:
            layer.bias.uniform_(0.1, 0.3)
    formulas(["sin", "x", "exp", "x**2", "1/x"], net.layers[0], 1)
    formulas(["x", "tanh", "log"], net.layers[1], 2)
    return net


def test_its_values_are_the_models():
    net = model(2)
    formula = symbolic_formula(net, ["a", "b", "c"])
    torch.testing.assert_close(formula(X), net(X))
    assert formula(X.float()).dtype == torch.float32
    assert formula(X[0]).shape == (2,) and len(formula.expressions) == 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name):
    net = fastkan.KAN([1, 1], dtype=torch.float64, seed=0)
    net[0].set_symbolic({(0, 0): (name, (0.5, 0.2, 1.5, 0.3))})
    torch.testing.assert_close(symbolic_formula(net)(X[:, :1]), net(X[:, :1]))


def python(formula):
    space = {}
    exec(formula.python("g"), space)
    return lambda row: space["g"](*row)


def c(formula, folder):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    (folder / "g.c").write_text(formula.c("g"))
    command = [compiler, "-std=c99", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "g.c", "-o", "g.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    outputs = len(formula.expressions)

    def call(row):
        given, made = (ctypes.c_double * len(row))(*row), (ctypes.c_double * outputs)()
        ctypes.CDLL(str(folder / "g.so")).g(given, made)
        return tuple(made)

    return call


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("language", ["python", "c", "numpy"])
def test_code_gives_the_models_values(outputs, language, tmp_path):
    net = model(outputs)
    formula = symbolic_formula(net)
    if language == "numpy":
        made = formula.lambdify()(*X.numpy().T)
        rows = torch.stack([torch.as_tensor(part) for part in ([made] if outputs == 1 else made)], dim=1)
    else:
        call = python(formula) if language == "python" else c(formula, tmp_path)
        rows = torch.tensor([call(row) for row in X.tolist()], dtype=torch.float64).reshape(len(X), outputs)
    torch.testing.assert_close(rows, net(X))


def test_an_input_that_is_not_read_gives_no_warning_in_c(tmp_path):
    net = fastkan.KAN([2, 1], dtype=torch.float64, seed=0)
    net[0].set_symbolic({(0, 0): ("x", (1, 0, 1, 0)), (1, 0): ("0", (1, 0, 1, 0))})
    assert c(symbolic_formula(net), tmp_path)([2.0, 3.0]) == (2.0,)


def test_latex():
    net = fastkan.KAN([1, 1], dtype=torch.float64, seed=0)
    net[0].set_symbolic({(0, 0): ("sin", (math.pi, 0, 0.5, 0))})
    formula = symbolic_formula(net, ["t"])
    assert formula.latex() == [r"\frac{\sin{\left(\pi t \right)}}{2}"] and r"\frac" in formula._repr_latex_()


def test_scalers_are_undone():
    from types import SimpleNamespace

    net = model()
    mean, deviation = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 4.0])
    raw = X * deviation + mean
    scaler = SimpleNamespace(transform=lambda x: (torch.as_tensor(x) - mean) / deviation)
    for inputs in (scaler, (mean, deviation)):
        formula = symbolic_formula(net, inputs=inputs, outputs=(10.0, 3.0))
        torch.testing.assert_close(formula(raw), net(X) * 3 + 10)
    with pytest.raises(ValueError, match="a straight line in each of 3 columns"):
        symbolic_formula(net, inputs=SimpleNamespace(transform=lambda x: torch.as_tensor(x) ** 2))
    with pytest.raises(TypeError, match="an object with transform"):
        symbolic_formula(net, inputs=3)


def test_splines_and_names_are_checked():
    net = model()
    with pytest.raises(ValueError, match="variables: expected 3, one an input, received 2"):
        symbolic_formula(net, ["a", "b"])
    with pytest.raises(ValueError, match="each once"):
        symbolic_formula(net, ["a", "b", "a"])
    with pytest.raises(ValueError, match=r"splines on \(layer, input, output\) \(0, 0, 0\), .*see auto_symbolic"):
        symbolic_formula(fastkan.KAN([2, 1]))
    with pytest.raises(TypeError, match="expected a fastkan.KAN"):
        symbolic_formula(torch.nn.Linear(2, 1))


@pytest.mark.parametrize("value", [v for _, v in SIMPLE] + [-0.5, -math.pi / 4, 1e5])
def test_simple_numbers_are_exact(value):
    found = exact(value)
    assert not found.is_Float and float(found) == value


def test_other_numbers_keep_all_their_digits():
    for value in (0.1234567890123456, -1e-17, math.pi * (1 + 2e-16), 7e22 + 1e7):
        assert float(exact(value)) == value


def test_a_shorter_expression_has_the_same_values():
    import sympy

    from fastkan.formulas import Expressions

    x, y = sympy.symbols("x y", real=True)
    long = Expressions([(x + y) ** 2 - x**2 - 2 * x * y - y**2 + sympy.sin(x) ** 2 + sympy.cos(x) ** 2 + y], [x, y])
    short = long.simplified(X[:, :2])
    assert str(short) == "y + 1"
    torch.testing.assert_close(short(X[:, :2]), long(X[:, :2]))
