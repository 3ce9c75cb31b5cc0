"""How a KANLinear starts: pykan's initialisation, or the function of a given nn.Linear."""

import pytest
import torch
from scipy import stats
from torch import nn

from fastkan import KAN, KANLinear, reference
from fastkan.splines import knots as grids
from fastkan.splines.activations import ACTIVATIONS

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


# ---- initialisation


def test_bias_starts_at_zero_and_base_weights_are_uniform():
    layer = KANLinear(64, 64)
    assert not layer.bias.any()
    base = layer.weight[:, -1].detach() * 8  # sqrt(I) = 8
    assert base.abs().max() <= 1
    assert stats.kstest(base.flatten().numpy(), "uniform", (-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize("grid_size, degree", [(5, 3), (3, 1), (8, 2), (20, 5)])
def test_splines_start_as_uniform_noise_at_the_grid_points(grid_size, degree):
    layer = KANLinear(64, 64, grid_size=grid_size, degree=degree, dtype=torch.float64)
    points = grids.grid_points(layer.knots, degree)
    values = torch.einsum("bis,iso->bio", reference.splines(points.T, layer.knots, degree), layer.weight[:, :-1]).detach()
    unit = 0.3 / grid_size / 8  # pykan's noise_scale / G, scale_sp = 1 / sqrt(I)
    assert values.abs().max() <= 0.5 * unit * (1 + 1e-9)
    assert stats.kstest(values.flatten().numpy() / unit, "uniform", (-0.5, 1)).pvalue > 1e-3


def test_initialisation_is_distributed_as_pykans():
    kan_layer = pytest.importorskip("kan.KANLayer", reason="pykan is not installed")
    theirs = kan_layer.KANLayer(64, 64, num=5, k=3, noise_scale=0.3, scale_base_mu=0.0, scale_base_sigma=1.0)
    ours = KANLinear(64, 64).weight.detach()
    want = torch.cat((theirs.coef * theirs.scale_sp[..., None], theirs.scale_base[..., None]), dim=-1).detach()  # [I, O, M]
    for slot in range(9):
        assert stats.ks_2samp(ours[:, slot].flatten().numpy(), want[..., slot].flatten().numpy()).pvalue > 1e-3
    # The standard deviation of n samples is off by 1 / sqrt(2 n) of itself, n = 4096: five of them.
    torch.testing.assert_close(ours.std((0, 2)), want.std((0, 1)), rtol=5 * 2**0.5 / (2 * 4096) ** 0.5, atol=0)


def test_the_function_is_pykans_for_the_same_coefficients(backend):
    kan_layer = pytest.importorskip("kan.KANLayer", reason="pykan is not installed")
    theirs = kan_layer.KANLayer(4, 3, num=5, k=3, noise_scale=5.0)
    ours = KANLinear(4, 3, bias=False, backend=backend)
    with torch.no_grad():
        ours.weight[:, :-1] = (theirs.coef * theirs.scale_sp[..., None]).permute(0, 2, 1)
        ours.weight[:, -1] = theirs.scale_base
        x = 3 * torch.randn(200, 4)  # far outside the grid too
        want = theirs(x)[0]
        scale = float((x.abs() @ theirs.scale_base.abs() + ours.weight.abs().sum((0, 1))).max())
    assert (ours(x) - want).abs().max() <= 8 * 4 * torch.finfo(torch.float32).eps * scale


# ---- from_linear


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_from_linear_is_the_same_function(activation, degree, dtype, backend):
    linear = nn.Linear(6, 5, dtype=dtype)
    layer = KANLinear.from_linear(linear, degree=degree, activation=activation, backend=backend)
    assert layer.weight.dtype == dtype
    reach = 1000 if activation == "identity" else 1  # elsewhere the splines end with the grid
    x = (reach * (2 * torch.rand(50, 6) - 1)).to(dtype)
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    exact = nn.functional.linear(x.double(), weight, bias)
    scale = float((x.double().abs() @ weight.abs().T + bias.abs()).max())
    abscissae = 1 if activation == "identity" else float(layer.knots.abs().max())
    # Roundings of the answer and of bias, the coefficients' own, and p + 1 terms an input in the compute dtype.
    units = 3 * torch.finfo(dtype).eps + 8 * (degree + 1) * torch.finfo(layer.knots.dtype).eps
    assert (layer(x).double() - exact).abs().max() <= units * abscissae * scale


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_keeps_mode_gradients_and_bias(trained, bias):
    linear = nn.Linear(3, 4, bias=bias).train(trained).requires_grad_(trained)
    layer = KANLinear.from_linear(linear, grid_size=7, degree=2, grid_range=(-3, 3), activation="silu", backend="reference")
    assert layer.training is trained
    assert {parameter.requires_grad for parameter in layer.parameters()} == {trained}
    assert (layer.bias is not None) is bias
    assert (layer.grid_size, layer.degree, layer.grid_range, layer.activation, layer.backend) == (
        7,
        2,
        (-3, 3),
        "silu",
        "reference",
    )
    if bias:
        assert layer.bias.data_ptr() != linear.bias.data_ptr()


def test_from_linear_of_a_meta_or_empty_linear():
    assert KANLinear.from_linear(nn.Linear(3, 4, device="meta"), activation="silu").weight.is_meta
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(3, 0)
    assert KANLinear.from_linear(empty, activation="silu").weight.shape == (3, 9, 0)


@pytest.mark.parametrize("received", [nn.Conv1d(3, 4, 1), None, KAN])
def test_from_linear_takes_only_a_linear(received):
    with pytest.raises(TypeError, match=f"^linear: expected an nn.Linear, received {type(received).__name__}"):
        KANLinear.from_linear(received)
