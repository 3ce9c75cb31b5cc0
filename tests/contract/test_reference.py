"""The reference against scipy's B-splines, values computed by pykan itself, and the identities of B-splines."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contract.cases import CASES, Case, make_inputs, make_knots
from contract.exact_activations import HIGHEST, SMOOTH, exact_activation, exact_points
from scipy.interpolate import BSpline

import fastkan
from fastkan import reference
from fastkan.splines.activations import ACTIVATIONS, activation_derivative, check_activation

GOLDEN = Path(__file__).parents[1] / "data" / "golden.npz"  # see data/README.md
EPS = torch.finfo(torch.float64).eps


def golden_layers():
    with np.load(GOLDEN) as file:
        arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    names = sorted({key.split("/")[0] for key in arrays})
    return {n: {key.split("/")[1]: value for key, value in arrays.items() if key.startswith(f"{n}/")} for n in names}


LAYERS = golden_layers()


def assert_close(answer, expected, condition=1.0):
    """Two float64 computations of sums of a few hundred terms at most: 64 units of the largest entry by a condition number."""
    scale = float(expected.abs().max()) * condition
    assert float((answer - expected).detach().abs().max()) <= 64 * EPS * scale


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_golden(layer, backend):
    """Basis, forward, gradient and Hessian-vector products that pykan 0.2.8 gives in float64."""
    degree, x, weight = (
        int(layer["degree"]),
        layer["x"].clone().requires_grad_(),
        layer["weight"].clone().requires_grad_(),
    )
    scale_sp, mask = layer["scale_sp"][:, None], layer["mask"]
    assert_close(reference.splines(layer["x"], layer["knots"], degree), layer["basis"])
    y = fastkan.functional.kan_linear(x, weight, layer["knots"], degree=degree, backend=backend)
    assert_close(y, layer["y"])
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), layer["g"], create_graph=True)
    # Derivatives divide by knot spacings; narrow cells of the adaptive grids amplify rounding by their ratio to the mean.
    cells = layer["knots"].diff(dim=1)
    condition = float((cells.mean(1) / cells.min(1).values).max()) * degree
    assert_close(grad_x, layer["grad_x"], condition)
    assert_close((grad_weight[:, :-1] * scale_sp).transpose(1, 2), layer["grad_coef_pykan"])
    assert_close(grad_weight[:, -1] * mask, layer["grad_scale_base"])
    hvp_x, hvp_weight = torch.autograd.grad(grad_x, (x, weight), layer["q"])
    assert_close(hvp_x, layer["hvp_x"], condition**2)
    assert_close((hvp_weight[:, :-1] * scale_sp).transpose(1, 2), layer["hvp_coef_pykan"], condition)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scipy(case):
    """Every derivative of every spline on the inner grid, where scipy's extrapolation plays no part."""
    knots = make_knots(case)
    x = make_inputs(case)["x"]
    for nu in range(case.degree + 2):
        values = reference.splines(x, knots, case.degree, nu)
        for i in range(case.I):
            t = knots[i].numpy()
            splines = BSpline(t, np.eye(len(t) - case.degree - 1), case.degree, extrapolate=False)
            inner = (x[:, i] >= t[case.degree]) & (x[:, i] < t[-case.degree - 1])
            if nu > case.degree:
                assert not values[:, i].any()
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                expected = torch.from_numpy(splines(x[inner, i].numpy(), nu=nu))
            if case.knots == "repeated":  # scipy has no 0/0 := 0 for its derivatives
                inner, expected = inner[:0], expected[:0]
            if len(expected):
                assert float((values[inner, i] - expected).abs().max()) <= 64 * EPS * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("degree", range(1, 9))
@pytest.mark.parametrize("kind", ["uniform", "spread"])
def test_partition_of_unity(degree, kind):
    case = Case(1, 3, 1, grid_size=7, degree=degree, knots=kind)
    knots = make_knots(case)
    inner = fastkan.splines.knots.grid_points(knots, degree)
    x = (inner[:, :1] + (inner[:, -1:] - inner[:, :1]) * torch.linspace(0, 1, 201, dtype=torch.float64)).T
    total = reference.splines(x, knots, degree).sum(-1)
    assert float((total - 1).abs().max()) <= 4 * (degree + 1) * EPS
    slope = reference.splines(x[:-1], knots, degree, 1).sum(-1)  # at the end itself degree 1 already has the slope beyond
    assert float(slope.abs().max()) <= 64 * degree * EPS / float(knots.diff(dim=1).min())


@pytest.mark.parametrize("degree", range(1, 9))
def test_derivatives_are_those_of_autograd(degree):
    """Each order is what autograd makes of the order below, wherever that is differentiable."""
    knots = make_knots(Case(1, 2, 1, degree=degree, knots="spread"))
    x = (torch.rand(40, 2, dtype=torch.float64) * 6 - 3).requires_grad_()
    for nu in range(degree):
        value = reference.splines(x, knots, degree, nu)
        direction = torch.randn_like(value)
        (slope,) = torch.autograd.grad(value, x, direction)
        expected = (reference.splines(x, knots, degree, nu + 1) * direction).sum(-1)
        assert float((slope - expected).detach().abs().max()) <= 1e3 * EPS * float(expected.abs().max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_derivatives_are_those_of_autograd(activation):
    x = torch.cat((torch.linspace(-20, 20, 2001, dtype=torch.float64), torch.tensor([-300.0, 300.0]).double())).requires_grad_()
    torch_activation = {
        "silu": torch.nn.functional.silu,
        "gelu": torch.nn.functional.gelu,
        "tanh": torch.tanh,
        "relu": torch.relu,
    }
    value = torch_activation.get(activation, lambda t: t * 1.0 if activation == "identity" else t * 0.0)(x)
    for nu in range((ACTIVATIONS[activation].max_nu or 3) + 1):
        assert float((activation_derivative(x.detach(), activation, nu) - value.detach()).abs().max()) <= 16 * EPS * 2**nu * 20
        value = torch.autograd.grad(value.sum(), x, create_graph=True)[0] if value.requires_grad else torch.zeros_like(x)


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_tables_derivatives_are_those_of_mpmath(activation):
    for nu in range(HIGHEST + 1):
        x, exact, slope = exact_points(activation, nu)
        value = exact_activation(x.astype(np.longdouble), activation, nu)
        assert np.all(np.abs(value - exact) <= EPS * (np.abs(exact) + np.maximum(1, np.abs(x)) * np.abs(slope) + 1e-300))


def test_base_past_its_closed_forms_raises():
    check_activation("silu", 8)
    check_activation("relu", 100)
    with pytest.raises(
        NotImplementedError, match="nu: activation='silu' has closed forms up to derivative order 8, received order 9"
    ):
        check_activation("silu", 9)
    with pytest.raises(ValueError, match="activation: expected one of silu.*received 'swish'"):
        check_activation("swish")


def test_reference_gradients():
    """The reference is differentiable PyTorch itself, whatever ops.py adds."""
    tensors = make_inputs(Case(4, 2, 3, grid_size=3, knots="spread"))
    x = (tensors["x"] + 0.01).requires_grad_()  # off the knots

    def function(x, weight):
        return reference.forward(x, weight, None, tensors["knots"], 3, "silu", 0)

    assert torch.autograd.gradcheck(function, (x, tensors["weight"].requires_grad_()))
