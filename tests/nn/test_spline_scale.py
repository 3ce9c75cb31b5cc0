"""Layers whose splines are held at 0 where x is 0 and scaled to their cells: what they compute, and what stands on them."""

import copy

import pytest
import torch
from scaled_layers import RANGES, by_definition, inputs, made
from torch import nn

import fastkan
from fastkan import KANLinear
from fastkan.explain import sketch
from fastkan.nn import scaled
from fastkan.ops import knots_over

# ---- the function


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["identity", "relu", "zero", "silu", "gelu", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_answer_is_that_of_the_definition(activation, dtype, bias, backend):
    layer = made(activation, bias, dtype=dtype, backend=backend)
    x = inputs(layer)
    expected = by_definition(layer, x)
    error = (layer(x).double() - expected).abs().max() / expected.abs().max()
    assert error < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("activation", scaled.HOMOGENEOUS)
def test_both_ways_through_a_layer_agree(activation, monkeypatch):
    layer = made(activation)
    x = inputs(layer).requires_grad_()
    one = torch.autograd.grad((layer(x) * torch.arange(4.0)).sin().sum(), [x, layer.weight, layer.bias])
    y = layer(x)
    monkeypatch.setattr(scaled, "HOMOGENEOUS", ())
    other = torch.autograd.grad((layer(x) * torch.arange(4.0)).sin().sum(), [x, layer.weight, layer.bias])
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-14)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_swapped_layer_is_the_plain_one_bit_for_bit(dtype):
    layer, plain = made(dtype=dtype, trained=False), made(dtype=dtype, trained=False, spline_scale=None)
    x = inputs(layer)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("grid_range", RANGES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["identity", "relu", "silu"])
def test_from_linear_is_the_linear_wherever_the_grid_lies(activation, bias, grid_range):
    torch.manual_seed(0)
    linear = nn.Linear(5, 4, bias, dtype=torch.float64)
    layer = KANLinear.from_linear(linear, activation=activation, grid_range=grid_range)
    x = inputs(layer)
    torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("activation", ["identity", "silu"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_both_orders(activation, bias):
    layer = made(activation, bias)
    x = inputs(layer, 6).requires_grad_()

    def call(x, *parameters):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))
    assert torch.autograd.gradgradcheck(call, (x, *layer.parameters()))


def test_cotangents_may_be_strided_or_expanded():
    layer = made()
    x = inputs(layer).requires_grad_()
    for cotangent in (torch.randn(4, 200, dtype=x.dtype).T, torch.randn(1, dtype=x.dtype).expand(200, 4)):
        one = torch.autograd.grad(layer(x), (x, layer.weight), cotangent)
        other = torch.autograd.grad(layer(x), (x, layer.weight), cotangent.contiguous())
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["identity", "silu"])
def test_other_shapes_and_tracers(activation):
    layer = made(activation)
    x = inputs(layer, 12)
    y = layer(x)
    assert torch.equal(layer(x.reshape(3, 4, 5)), y.reshape(3, 4, 4)) and torch.equal(layer(x[:0]), y[:0])
    for other in (
        layer(x[0]),
        torch.vmap(layer)(x)[0],
        torch.jit.trace(layer, x[:3])(x)[0],
        torch.fx.symbolic_trace(nn.Sequential(layer))(x)[0],
    ):
        torch.testing.assert_close(other, y[0], rtol=0, atol=1e-14)
    rows = torch.nested.nested_tensor([x[:3], x[3:]], layout=torch.jagged)
    torch.testing.assert_close(layer(rows).values(), y, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match=r"x: expected last dimension 5 \(weight's first\), received shape \(2, 3\)"):
        layer(torch.zeros(2, 3, dtype=x.dtype))
    with pytest.raises(TypeError, match=r"x: expected a real floating dtype, received torch.int64"):
        layer(torch.zeros(2, 5, dtype=torch.long))


@pytest.mark.parametrize("spline_scale", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_a_scale_that_is_none_is_refused(spline_scale):
    for call in (lambda: KANLinear(2, 2, spline_scale=spline_scale), lambda: made().set_spline_scale(spline_scale)):
        with pytest.raises(ValueError, match="^spline_scale: expected None or a number above 0, received"):
            call()


def test_knots_over_the_scale_are_kept_until_one_is_written_to():
    knots, scale = torch.linspace(-1, 1, 9).expand(3, 9).clone(), torch.tensor(0.25)
    kept = knots_over(knots, scale)
    assert knots_over(knots, scale) is kept and torch.equal(kept, knots / scale)
    scale.mul_(2)
    assert torch.equal(knots_over(knots, scale), knots / scale)
    knots.mul_(2)
    assert torch.equal(knots_over(knots, scale), knots / scale)
    assert torch.equal(knots_over(knots, torch.tensor(0.125)), knots * 8)


# ---- what it is for


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0])
def test_a_step_of_adam_moves_splines_no_further_than_the_base(size):
    """A plain layer's go 10 to 300 times as far where x is 0.01 of the grid (the second half of the test)."""
    moves = {}
    for spline_scale in (1.0, None):
        torch.manual_seed(0)
        layer = KANLinear.from_linear(nn.Linear(64, 16), grid_range=(-3, 3), spline_scale=spline_scale)
        before, x = copy.deepcopy(layer), size * torch.randn(512, 64)
        optimizer = torch.optim.AdamW(layer.parameters(), 1e-3, weight_decay=0)
        (layer(x) - torch.randn(512, 16)).square().mean().backward()
        optimizer.step()
        splines, base = copy.deepcopy(before), copy.deepcopy(before)
        with torch.no_grad():
            splines.weight[:, :-1], base.weight[:, -1] = layer.weight[:, :-1], layer.weight[:, -1]
            moves[spline_scale] = [(other(x) - before(x)).square().mean().sqrt().item() for other in (splines, base)]
    assert moves[1.0][0] <= moves[1.0][1]
    if size < 0.1:
        assert moves[None][0] > 10 * moves[None][1]


# ---- what stands on layers


def test_masks_and_formulas():
    layer, x = made(), inputs(made())
    mask = torch.rand(5, 4) < 0.5
    layer.set_mask(mask)
    torch.testing.assert_close(layer(x), by_definition(layer, x), rtol=0, atol=1e-14)
    layer.set_mask(None)
    layer.set_symbolic({(0, 0): ("sin", (1.0, 0, 1, 0))})
    y = by_definition(layer, x)
    y[:, 0] += x[:, 0].sin()
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-14)


def test_derivatives_in_one_pass():
    model = nn.Sequential(made(), nn.Tanh(), KANLinear.from_linear(nn.Linear(4, 1, dtype=torch.float64)))
    x = inputs(made(), 9).requires_grad_()
    value, first, second = fastkan.jet(model, x)
    y = model(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    curvature = sum(torch.autograd.grad(slope[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(5))
    torch.testing.assert_close(value, y, rtol=0, atol=1e-14)
    torch.testing.assert_close(first[..., 0].T, slope, rtol=0, atol=1e-12)
    torch.testing.assert_close(second[:, 0], curvature, rtol=0, atol=1e-11)


def test_fit_takes_another_way_than_lm():
    model = nn.Sequential(made(trained=False), made(trained=False).__class__.from_linear(nn.Linear(4, 1, dtype=torch.float64)))
    x = inputs(made(), 120)
    y = x[:, :1].sin()
    first = (model(x) - y).square().mean()
    fastkan.fit(model, x, y, steps=3, progress=False)
    assert (model(x) - y).square().mean() < first
    with pytest.raises(ValueError, match=r"received a layer with spline_scale; use set_spline_scale\(None\)"):
        fastkan.fit(model, x, y, optimizer="lm", progress=False)


@pytest.mark.parametrize("call", ["prune", "sparsify"])
def test_what_reads_weights_as_plain_splines_says_so(call):
    net = fastkan.KAN([5, 4, 1])
    net[0] = made(dtype=torch.float32)
    x = inputs(net[0])
    arguments = (x, x[:, :1]) if call == "sparsify" else (x,)
    with pytest.raises(TypeError, match="^model: expected plain splines, received a layer with spline_scale"):
        getattr(fastkan, call)(net, *arguments)


def test_what_draws_shows_the_same_function():
    net = fastkan.KAN([5, 4, 1], dtype=torch.float64)
    net[0] = made()
    x = inputs(net[0])
    (stage, *_) = sketch.net(net).stages
    torch.testing.assert_close(stage.layer(x), net[0](x), rtol=0, atol=1e-14)


def test_a_kan_with_such_a_layer_runs_layer_by_layer():
    net = fastkan.KAN([5, 4, 1], dtype=torch.float64)
    net[0] = made()
    x = inputs(net[0])
    assert torch.equal(net(x), net[1](net[0](x)))
    assert net.update_grid(x)[0].largest < 0.1
