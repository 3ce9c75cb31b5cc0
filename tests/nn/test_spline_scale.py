"""Layers whose splines are held at 0 where x is 0 and scaled to their cells, as swapped layers are."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KANLinear
from fastkan.explain import sketch
from fastkan.functional import kan_linear
from fastkan.nn import scaled
from fastkan.ops import knots_over

RANGES = [(-1, 1), (-3, 3), (0.3, 2), (-1, 0), (0, 1), (5, 6)]  # with 0 inside, just outside, at an end, far away


def made(activation="identity", bias=True, grid_range=(-3.0, 3.0), trained=True, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    layer = KANLinear.from_linear(nn.Linear(5, 4, bias, dtype=dtype), activation=activation, grid_range=grid_range, **settings)
    if trained:
        with torch.no_grad():
            layer.weight += 0.3 * torch.randn_like(layer.weight)
    return layer


def inputs(layer, rows=200):
    low, high = layer.grid_range
    torch.manual_seed(1)
    return (low + (high - low) * torch.rand(rows, 5, dtype=torch.float64)).to(layer.weight.dtype)


def by_definition(layer, x):
    """w b(x) + s sum_k theta_k (B_k(x) - B_k(0)), summed over the inputs, by the reference in float64."""
    weight = layer.weight.double().clone()
    weight[:, :-1] *= layer.scale.double()
    settings = {"degree": layer.degree, "activation": layer.activation, "backend": "reference"}
    y, zero = (kan_linear(t.double(), weight, layer.knots.double(), **settings) for t in (x, torch.zeros_like(x[:1])))
    return y - zero if layer.bias is None else y - zero + layer.bias.double()


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


# ---- grids


@pytest.mark.parametrize("grid_range", RANGES)
@pytest.mark.parametrize("bias", [True, False])
def test_changes_of_grid_keep_the_function(bias, grid_range):
    layer = made(bias=bias, grid_range=grid_range)
    x = inputs(layer)
    y = layer(x)
    assert layer.refine(10).anywhere < 1e-13  # knots are added: no fit
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-13)
    for changed in (layer.refine(40, x), layer.update_grid(x), layer.refine(100, x)):
        assert changed.largest < 2e-4
    torch.testing.assert_close(layer(x), y, rtol=0, atol=4e-4)
    torch.testing.assert_close(by_definition(layer, x), layer(x), rtol=0, atol=1e-12)
    width = (layer.knots[:, -4] - layer.knots[:, 3]).median().item() / 100
    assert 0.7 < layer.scale.item() / (width / 4) < 1.5


@pytest.mark.parametrize("bias", [True, False])
def test_a_grid_that_leaves_0_keeps_the_function(bias):
    """Splines that were held at 0 are not held any more: what they are there moves into the bias, or into them."""
    layer = made(bias=bias, grid_range=(-1, 1))
    x = 0.4 + 0.5 * torch.rand(300, 5, dtype=torch.float64)
    y = layer(x)
    layer.refine(80)
    assert layer.update_grid(x).largest < 1e-4
    torch.testing.assert_close(layer(x), y, rtol=0, atol=2e-4)


def test_optimizers_moments_follow_the_scale():
    layer, plain = made(), made(spline_scale=None)
    moments = torch.rand_like(layer.weight)
    carried, old = [], None
    for one in (layer, plain):
        optimizer = torch.optim.Adam(one.parameters())
        one(inputs(one)).sum().backward()
        optimizer.step()
        optimizer.state[one.weight]["exp_avg"].copy_(moments)
        optimizer.state[one.weight]["exp_avg_sq"].copy_(moments)
        old = one.scale.clone() if one is layer else old
        fastkan.refine(nn.Sequential(one), 20, optimizer)
        state = optimizer.state[one.weight]
        carried.append([state["exp_avg"], state["exp_avg_sq"]])
    ratio = (layer.scale / old).item()
    for power in (1, 2):
        expected = carried[1][power - 1].clone()
        expected[:, :-1] *= ratio**power
        torch.testing.assert_close(carried[0][power - 1], expected)


def test_averages_match_grids_and_scales():
    net = nn.Sequential(made())
    averaged = torch.optim.swa_utils.AveragedModel(net)
    x = inputs(net[0])
    y = averaged(x)
    net[0].update_grid(0.1 * x)
    fastkan.match_grids(averaged.module, net)
    assert torch.equal(averaged.module[0].scale, net[0].scale)
    near = 0.1 * x
    torch.testing.assert_close(averaged(near), made()(near), rtol=0, atol=1e-3)
    assert y.shape == averaged(x).shape
    with pytest.raises(ValueError, match="^like: expected features, degree, activation and spline_scale"):
        fastkan.match_grids(averaged.module, nn.Sequential(made(spline_scale=None)))


def test_another_scale_keeps_the_function():
    layer = made(grid_range=(-1, 1))
    x, y = inputs(layer), layer(inputs(layer))
    for spline_scale in (None, 0.5, 8, None):
        layer.set_spline_scale(spline_scale)
        assert layer.spline_scale == spline_scale and (layer.scale is None) is (spline_scale is None)
        torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-14)
    alone = made(bias=False, grid_range=(-1, 1))
    y = alone(x)
    alone.set_spline_scale(None)
    torch.testing.assert_close(alone(x), y, rtol=0, atol=1e-14)
    before = alone.weight.clone()
    with pytest.raises(ValueError, match="^spline_scale: expected None for a layer without bias whose splines are not 0 at 0"):
        alone.set_spline_scale(1)
    assert torch.equal(alone.weight, before) and alone.scale is None


# ---- states and copies


def test_states_carry_the_scale():
    layer = made()
    layer.update_grid(0.01 * inputs(layer))
    x, fresh = 0.01 * inputs(layer), made(trained=False)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x)) and fresh.scale != made().scale
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    plain = made(spline_scale=None)
    plain.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(plain(x), layer(x)) and plain.spline_scale == 1
    assert plain.refine(10).anywhere < 1e-12


@pytest.mark.parametrize("described", [True, False])
def test_states_from_before_load_as_they_were(described):
    old = made(spline_scale=None)
    state = {name: tensor for name, tensor in old.state_dict().items() if described or name != "_extra_state"}
    layer = made()
    layer.load_state_dict(state)
    x = inputs(layer)
    assert layer.scale is None and layer.spline_scale is None and torch.equal(layer(x), old(x))
    part = made()
    part.load_state_dict({"bias": old.bias}, strict=False)  # no weight: what it means stays
    assert part.scale is not None


def test_an_older_fastkan_refuses_a_state_with_a_scale():
    described = bytes(made().get_extra_state().tolist()).decode()
    assert '"format": 2' in described and '"format": 1' in bytes(made(spline_scale=None).get_extra_state().tolist()).decode()


def test_casts_leave_the_scale_and_meta_layers_get_it():
    layer = made()
    assert layer.half().scale.dtype == torch.float32 and layer.to(torch.bfloat16).scale.dtype == torch.float32
    with torch.device("meta"):
        empty = KANLinear(5, 4, activation="identity", grid_range=(-3, 3), spline_scale=1.0)
    empty.to_empty(device="cpu")
    assert empty.scale == made().scale
    empty.scale.fill_(0.3)  # as memory that nobody wrote
    empty.unset = True
    with pytest.raises(RuntimeError, match="^knots: expected those of reset_parameters"):
        empty(torch.zeros(1, 5))


def test_restore_and_configs_carry_it():
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 1))

    for spline_scale in (1.0, 0.5, None):
        swapped = build()
        config = fastkan.replace_linear(swapped, spline_scale=spline_scale).config()
        for source in (config, swapped.state_dict(), fastkan.describe(swapped)):
            again = build()
            fastkan.restore(again, source)
            assert again[0].spline_scale == spline_scale
    old = {
        "format": 1,
        "layers": {name: {k: v for k, v in s.items() if k != "spline_scale"} for name, s in config["layers"].items()},
    }
    again = build()
    fastkan.restore(again, old)
    assert again[0].spline_scale is None


def test_calibrate_scales_to_the_grids_that_it_lays():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    x = 0.001 * torch.randn(500, 5)
    fastkan.replace_linear(model, calibrate=[x])
    width = (model[0].knots[:, -4] - model[0].knots[:, 3]).median() / 5
    assert 0.7 < model[0].scale / (width / 4) < 1.5


def test_an_ensemble_may_have_other_scales():
    models = [made(), made()]
    models[1].update_grid(0.01 * inputs(models[1]))
    parameters, buffers = torch.func.stack_module_state(models)
    x = inputs(models[0], 7)
    y = torch.vmap(lambda p, b: torch.func.functional_call(models[0], (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(y, torch.stack([model(x) for model in models]), rtol=0, atol=1e-13)


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
