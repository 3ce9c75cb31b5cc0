"""The numbers of a formula: their Jacobian, and what stays when they are moved into simple ones."""

import itertools

import pytest
import torch
from torch.func import jacrev

from fastkan import KAN
from fastkan.formulas.candidates import RECIPES
from fastkan.formulas.expression import symbolic_formula
from fastkan.formulas.named import Named
from fastkan.nn import Columns, Products

X = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2


def cut(model, layer, *gone):
    mask = torch.ones(model.layers[layer].in_features, model.layers[layer].out_features, dtype=torch.bool)
    for i, o in gone:
        mask[i, o] = False
    model.layers[layer].set_mask(mask)
    return model


def plain():
    return KAN([3, 2, 1], dtype=torch.float64, seed=0)


def with_products():
    return KAN([3, (1, 1), 1], dtype=torch.float64, seed=0, arity=3)


def shared():
    """A hidden node that two others read."""
    return KAN([3, 1, 2, 1], dtype=torch.float64, seed=0)


def picked():
    model = KAN([2, 1, 1], dtype=torch.float64, seed=0)
    columns = Columns([2, 0], 3)
    layers = list(model)
    model._modules.clear()
    for k, module in enumerate([columns, *layers]):
        model.add_module(str(k), module)
    return model


def rigid():
    return RECIPES["products"](3, 0)


def products_under_a_function():
    made = cut(KAN([3, (0, 1), 1], dtype=torch.float64, seed=0), 0, (0, 1), (1, 1), (2, 0))
    assert isinstance(made[1], Products)
    return made


MODELS = [plain, with_products, shared, picked, rigid, products_under_a_function]
NAMES = ["sin", "x**2", "exp", "x", "tanh", "log", "1/x", "gaussian", "sqrt"]


def named(make, shift):
    model = make()
    probe = Named(model, ["x"] * 99)
    names = list(itertools.islice(itertools.cycle(NAMES[shift:] + NAMES[:shift]), len(probe.where)))
    if probe.rigid:
        names[-len(probe.of_layer[-1]) :] = ["x"] * len(probe.of_layer[-1])
    made = Named(model, names)
    g = torch.Generator().manual_seed(shift)
    p = torch.rand(made.size, generator=g, dtype=torch.float64) + 0.3
    if made.rigid:
        for e in made.of_layer[-1]:
            p[3 * e : 3 * e + 3] = torch.tensor([1.0, 0.0, 1.0])
    return made, p


CASES = [pytest.param(make, shift, id=f"{make.__name__}-{shift}") for make in MODELS for shift in range(0, 9, 2)]


@pytest.mark.parametrize("make, shift", CASES)
def test_jacobian(make, shift):
    made, p = named(make, shift)
    y, jacobian = made.jacobian(X, p)
    torch.testing.assert_close(y, made(X, p))
    torch.testing.assert_close(jacobian, jacrev(lambda p: made(X, p))(p))


@pytest.mark.parametrize("make, shift", CASES)
def test_fixed_numbers_are_of_the_same_function(make, shift):
    made, p = named(make, shift)
    fixed = made.fixed(p)
    torch.testing.assert_close(made(X, fixed), made(X, p), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(made.fixed(fixed), fixed)
    held = ~made.free()[: made.at[0]].view(-1, 3)
    numbers = fixed[: made.at[0]].view(-1, 3)
    assert (numbers[held].abs().sub(1).abs().lt(1e-15) | numbers[held].eq(0)).all()


@pytest.mark.parametrize("make, shift", CASES)
def test_a_model_is_built(make, shift):
    made, p = named(make, shift)
    model = made.built(p)
    torch.testing.assert_close(model(X)[:, 0], made(X, p))
    torch.testing.assert_close(symbolic_formula(model)(X)[:, 0], made(X, p), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make, shift", CASES)
def test_units(make, shift):
    made, p = named(make, shift)
    center, half = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 3.0, 1.0]).double()
    moved = made.in_units(p, center, half, 4.0, 2.5)
    torch.testing.assert_close(made(X * half + center, moved), made(X, p) * 2.5 + 4, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [rigid, products_under_a_function, picked])
def test_no_two_free_numbers_say_the_same(make):
    """With functions that are no powers of others the Jacobian of what is free has full rank."""
    model = make()
    probe = Named(model, ["x"] * 99)
    names = ["sin", "tanh", "exp", "atan", "gaussian"] * 9
    names = names[: len(probe.where)]
    if probe.rigid:
        names[-len(probe.of_layer[-1]) :] = ["x"] * len(probe.of_layer[-1])
    made = Named(model, names)
    p = torch.rand(made.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.4
    if made.rigid:
        for e in made.of_layer[-1]:
            p[3 * e : 3 * e + 3] = torch.tensor([1.0, 0.0, 1.0])
    x = torch.rand(400, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    jacobian = made.jacobian(x, made.fixed(p))[1][:, made.free()]
    jacobian = jacobian / jacobian.norm(dim=0)
    assert torch.linalg.matrix_rank(jacobian, rtol=1e-9) == jacobian.shape[1]
