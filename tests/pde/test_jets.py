"""jet and laplacian against nested automatic differentiation."""

import pytest
import torch
from torch import nn

import fastkan
from fastkan.nn import Columns, Products
from fastkan.pde.rules import POINTWISE

D = torch.float64


def kan(widths, degree=3, **settings):
    """A KAN of rough splines, so that no derivative is small."""
    model = fastkan.KAN(widths, degree=degree, dtype=D, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def with_formulas():
    model = kan([2, 3, 2])
    first, last = model.layers
    first.set_mask(torch.tensor([[True, False, True], [True, True, False]]))
    first.set_symbolic({(0, 1): ("sin", (2, 0.3, 0.7, 0.1)), (1, 0): ("exp", (0.5, 0.2, 0.3, 0)), (1, 2): ("0", (1, 0, 1, 1))})
    last.set_symbolic({(0, 0): ("x**3", (0.5, 0.1, 1, 0)), (2, 1): ("abs", (1, 0.1, 1, 0))})
    return model


def mixed():
    edges = fastkan.KANLinear(3, 4, dtype=D, grid_size=3)
    edges.set_mask(torch.rand(3, 4) > 0.3)
    return nn.Sequential(
        Columns([2, 0, 1], 4), edges, nn.SiLU(), nn.Sequential(nn.Linear(4, 3, dtype=D), nn.ReLU(inplace=True)),
        nn.Identity(), kan([3, 2]), nn.Tanh(),
    )  # fmt: skip


MODELS = {
    "one layer": lambda: kan([3, 2])[0],
    "two inputs": lambda: kan([2, 4, 1]),
    "bias": lambda: kan([2, 3, 3, 2], bias=True),
    "one in between": lambda: kan([2, 1, 3, 1]),
    "one input": lambda: kan([1, 3, 1], degree=5),
    "degree 1": lambda: kan([2, 3, 1], degree=1),
    "degree 2": lambda: kan([2, 3, 1], degree=2, activation="relu"),
    "products": lambda: kan([3, (2, 2), (0, 1), 2], arity=3),
    "products first": lambda: nn.Sequential(Products(1, (2, 3)), kan([3, 2])),
    "formulas": with_formulas,
    "mixed": mixed,
    "linear first": lambda: nn.Sequential(nn.Linear(2, 5, dtype=D), nn.Tanh(), nn.Linear(5, 2, dtype=D)),
    "tanh first": lambda: nn.Sequential(nn.Tanh(), kan([2, 3, 1])),
    "linear alone": lambda: nn.Linear(3, 2, dtype=D),
}


def inputs_of(model):
    first = next(m for m in model.modules() if not isinstance(m, nn.Sequential | nn.Tanh))
    return first.in_features


def points(model, *shape):
    """In the grid and beyond it: two thirds of the numbers lie inside."""
    return 1.5 * (2 * torch.rand(*shape, inputs_of(model), dtype=D) - 1)


def nested(model, x, directions=None, coefficients=None):
    """The same three by automatic differentiation, one output after another."""
    if directions is None:
        directions = torch.eye(x.shape[-1], dtype=x.dtype)
    if directions.ndim == 2:
        directions = directions.reshape(-1, *[1] * (x.ndim - 1), x.shape[-1]).expand(-1, *x.shape)
    x = x if x.requires_grad else x.detach().requires_grad_()
    y, firsts, seconds = model(x), [], []
    for o in range(y.shape[-1]):
        (gradient,) = torch.autograd.grad(y[..., o].sum(), x, create_graph=True, materialize_grads=True)
        along = [(gradient * t).sum(-1) for t in directions]
        second = 0
        for k, (slope, t) in enumerate(zip(along, directions, strict=True)):
            if slope.requires_grad:
                (of_slope,) = torch.autograd.grad(slope.sum(), x, create_graph=True, materialize_grads=True)
                second = second + (1 if coefficients is None else coefficients[k]) * (of_slope * t).sum(-1)
        firsts.append(torch.stack(along))
        seconds.append(second if torch.is_tensor(second) else torch.zeros_like(along[0]))
    return y, torch.stack(firsts, -1), torch.stack(seconds, -1)


def assert_close(found, expected, unit=1e-12):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=0, atol=unit * max(1, float(b.detach().abs().max())))


def gradients(loss, model):
    return torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_values_derivatives_and_gradients_are_those_of_nested_differentiation(make):
    model = make()
    x = points(model, 40)
    found, expected = fastkan.jet(model, x), nested(model, x)
    assert_close([found.value], [model(x)])
    assert_close(found, expected)
    losses = [
        value.square().mean() + first.sin().mean() + (second - 1).square().mean() for value, first, second in (found, expected)
    ]
    assert_close(*(gradients(loss, model) for loss in losses))
    assert torch.equal(fastkan.laplacian(model, x), found.second)


@pytest.mark.parametrize("name", ["bias", "products", "formulas", "mixed"])
def test_float32_is_close_to_float64(name):
    model = MODELS[name]()
    x = points(model, 40)
    expected = nested(model, x)
    found = fastkan.jet(model.float(), x.float())
    assert all(t.dtype == torch.float32 for t in found)
    assert_close([t.double() for t in found], expected, unit=1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0, 3)], ids=str)
def test_leading_dimensions_are_rows(shape):
    model = MODELS["products"]()
    x = points(model, *shape)
    rows = x.reshape(-1, 3)
    for directions in (None, torch.randn(2, 3, dtype=D), torch.randn(2, *x.shape, dtype=D)):
        flat = directions if directions is None or directions.shape == (2, 3) else directions.reshape(2, -1, 3)
        found, expected = fastkan.jet(model, x, directions), fastkan.jet(model, rows, flat)
        d = 3 if directions is None else 2
        assert found.value.shape == (*shape, 2) == found.second.shape and found.first.shape == (d, *shape, 2)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.reshape(b.shape), b)


@pytest.mark.parametrize("name", ["bias", "products", "formulas", "mixed", "tanh first"])
def test_directions_and_coefficients(name):
    model = MODELS[name]()
    x = points(model, 20)
    for directions in (torch.randn(4, x.shape[1], dtype=D), torch.randn(4, *x.shape, dtype=D)):
        coefficients = torch.randn(4, dtype=D)
        expected = nested(model, x, directions, coefficients)
        assert_close(fastkan.jet(model, x, directions, coefficients=coefficients), expected)
        assert_close(fastkan.jet(model, x, directions, coefficients=coefficients.tolist()), expected)
    unit = torch.randn(x.shape[1], dtype=D)
    assert_close(fastkan.jet(model, x, coefficients=unit), nested(model, x, coefficients=unit))


@pytest.mark.parametrize("name", ["one layer", "one in between", "products", "formulas", "tanh first"])
def test_second_gradients_towards_everything(name):
    model = MODELS[name]()
    x = 0.7 * points(model, 2)
    tensors = [x, torch.randn(2, x.shape[1], dtype=D), torch.randn(2, dtype=D), *(p.detach() for p in model.parameters())]
    names = [key for key, _ in model.named_parameters()]

    def call(x, directions, coefficients, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            _Jet(model), {f"model.{key}": value for key, value in state.items()}, (x, directions, coefficients)
        )

    leaves = [t.clone().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True, atol=1e-4)


class _Jet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, directions, coefficients):
        return tuple(fastkan.jet(self.model, x, directions, coefficients=coefficients))


def test_gradients_towards_x_and_further_derivatives():
    """u_xxx by one more differentiation."""
    model = MODELS["products"]()
    x = points(model, 10).requires_grad_()
    found, expected = (torch.autograd.grad(second.sum(), x)[0] for second in (fastkan.laplacian(model, x), nested(model, x)[2]))
    assert_close([found], [expected])


@pytest.mark.parametrize("kind", POINTWISE, ids=lambda kind: kind.__name__)
def test_activations_with_their_derivatives(kind):
    activation = kind(0.1, 20) if kind is nn.Threshold else kind()
    model = nn.Sequential(kan([2, 3]), activation.eval(), kan([3, 1]))
    x = points(model, 30)
    assert_close(fastkan.jet(model, x), nested(model, x))


def test_activations_with_other_settings():
    for activation in (nn.GELU("tanh"), nn.Softplus(beta=3), nn.LeakyReLU(0.3), nn.ELU(0.5, inplace=True)):
        model = nn.Sequential(kan([2, 3]), activation, kan([3, 1]))
        x = points(model, 30)
        assert_close(fastkan.jet(model, x), nested(model, x))


def test_dropout_drops_the_same_in_all_derivatives():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2, bias=False, dtype=D))
    nn.init.eye_(model[1].weight)
    value, first, _ = fastkan.jet(model, torch.ones(50, 2, dtype=D))
    assert 0 < (value == 0).sum() < value.numel()
    assert torch.equal(first, torch.stack([value * torch.tensor(unit) for unit in ((1.0, 0), (0, 1.0))]))


def test_far_beyond_the_grid_and_at_its_knots():
    model = kan([2, 3, 1])
    x = torch.tensor([[5.0, -7.0], [100.0, 0.0], [-1.0, 1.0], [0.2, -0.6]], dtype=D)
    assert_close(fastkan.jet(model, x), nested(model, x))


def test_degree_1_has_no_second_derivative_but_the_activations():
    layer = kan([2, 2], degree=1, activation="identity")[0]
    value, first, second = fastkan.jet(layer, points(layer, 20))
    assert not second.any() and first.any() and value.any()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=lambda context: context.__name__)
@pytest.mark.parametrize("name", ["formulas", "mixed"])
def test_without_a_graph_the_numbers_are_the_same(name, context):
    model = MODELS[name]()
    x = points(model, 10)
    expected = fastkan.jet(model, x)
    with context():
        found = fastkan.jet(model, x)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b) and not a.requires_grad


def test_torch_func_and_compile():
    model = MODELS["tanh first"]()
    x = points(model, 5)
    expected = fastkan.jet(model, x)
    assert_close([torch.func.vmap(lambda row: fastkan.laplacian(model, row))(x)], [expected.second])
    assert_close(torch.compile(lambda x: fastkan.jet(model, x), fullgraph=True, backend="aot_eager")(x), expected)


def test_autocast_is_off_meanwhile():
    model, x = fastkan.KAN([2, 1, 3, 1]), torch.rand(5, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = fastkan.jet(model, x)
        assert model(x).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(found, fastkan.jet(model, x), strict=True))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Named(fastkan.KANLinear):
    """A subclass that computes the same."""


def test_a_pointwise_module_of_ones_own():
    model = nn.Sequential(Named(2, 3, dtype=D), Sine(), nn.Linear(3, 1, dtype=D))
    x = points(model, 10)
    assert_close(fastkan.jet(model, x, pointwise=(Sine,)), nested(model, x))
    assert_close([fastkan.laplacian(model, x, pointwise=(Sine,))], [nested(model, x)[2]])
    with pytest.raises(TypeError, match=r"^model: .*received Sine at '1'; .*pass pointwise=\(Sine,\)"):
        fastkan.jet(model, x)
