"""Layers with a spline_scale through changes of the grid, states and copies."""

import copy
import io
import pickle

import pytest
import torch
from scaled_layers import RANGES, by_definition, inputs, made
from torch import nn

import fastkan
from fastkan import KANLinear

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
