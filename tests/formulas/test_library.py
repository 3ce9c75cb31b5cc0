"""Functions of a user's own in the library."""

import pytest
import torch

import fastkan
from fastkan.formulas import add_function, suggest_symbolic, symbolic_formula
from fastkan.nn import FUNCTIONS


@pytest.fixture(autouse=True)
def as_before():
    kept = dict(FUNCTIONS)
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(kept)


X = torch.linspace(-0.9, 0.9, 200, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("function", ["x*exp(-x**2)", lambda x: x * torch.exp(-(x**2))], ids=["expression", "callable"])
def test_it_is_suggested_derived_and_saved(function):
    made = add_function("wave", function, complexity=2)
    slope = torch.exp(-(X**2)) * (1 - 2 * X**2)
    torch.testing.assert_close(made.slope(X), slope)
    net = fastkan.KAN([1, 1], dtype=torch.float64, seed=0)
    net[0].set_symbolic({(0, 0): ("wave", (2.0, 0.3, 1.5, 0.1))})
    assert torch.autograd.gradgradcheck(net, X[:5].clone().requires_grad_())
    assert suggest_symbolic(net, 0, 0, 0, X)[0].name == "wave"
    fresh = fastkan.KAN([1, 1], dtype=torch.float64)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(X), net(X))
    formula = symbolic_formula(net, ["t"])
    torch.testing.assert_close(formula(X), net(X))
    assert ("wave" in str(formula)) == callable(function)


def test_a_state_with_it_names_it_where_it_is_missing():
    add_function("wave", "x*exp(-x**2)")
    net = fastkan.KAN([1, 1], seed=0)
    net[0].set_symbolic({(0, 0): ("wave", (2.0, 0.3, 1.5, 0.1))})
    state = net.state_dict()
    del FUNCTIONS["wave"]
    with pytest.raises(ValueError, match="received 'wave'; fastkan.formulas.add_function adds others"):
        fastkan.KAN([1, 1]).load_state_dict(state)


def test_code_of_a_function_that_sympy_does_not_know_is_refused():
    add_function("soft", torch.nn.functional.softplus)
    net = fastkan.KAN([1, 1], seed=0)
    net[0].set_symbolic({(0, 0): ("soft", (1.0, 0, 1, 0))})
    with pytest.raises(ValueError, match="received soft"):
        symbolic_formula(net).c()


def test_its_domain_counts():
    add_function("root", "sqrt(1 - x**2)", low=-1, high=1)
    net = fastkan.KAN([1, 1], seed=0)
    with pytest.raises(ValueError, match="root to be real"):
        fastkan.formulas.fix_symbolic(net, 0, 0, 0, "root", (1.5, 0, 1, 0))
    add_function("root", "sqrt(4 - x**2)", low=-2, high=2)
    assert fastkan.formulas.fix_symbolic(net, 0, 0, 0, "root", (1.5, 0, 1, 0)).name == "root"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("sin", torch.sin), "one that fastkan does not have"),
        (("", torch.sin), "name"),
        (("no name", torch.sin), "identifier"),
        (("f", "x + y"), "in one symbol"),
        (("f", "3"), "in one symbol"),
        (("f", "x +"), "expression of sympy"),
        (("f", lambda x: x.sum()), "elementwise"),
        (("f", lambda x: torch.full_like(x, torch.nan)), "autograd|finite"),
        (("f", lambda x: x.numpy()), "autograd"),
    ],
)
def test_bad_input(arguments, message):
    before = dict(FUNCTIONS)
    with pytest.raises(ValueError, match=message):
        add_function(*arguments)
    assert before == FUNCTIONS
    with pytest.raises(ValueError, match="low < high"):
        add_function("f", torch.sin, low=1, high=0)
