"""Layers that are made without values (device meta, skip_init, FakeTensorMode): knots are never memory that nobody wrote."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import skip_init

import fastkan
from fastkan import KAN, KANLinear

NEVER = "^knots: expected those of reset_parameters.. or of a state, received memory that nobody wrote"
SETTINGS = {"grid_size": 6, "degree": 2, "grid_range": (-2.0, 5.0)}


def garbage(knots):
    return torch.full_like(knots, -3e22, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_knots_are_written_where_a_layer_gets_memory(dtype):
    want = KANLinear(3, 4, dtype=dtype, **SETTINGS).knots
    assert torch.equal(skip_init(KANLinear, 3, 4, dtype=dtype, **SETTINGS).knots, want)
    assert torch.equal(KANLinear(3, 4, device="meta", dtype=dtype, **SETTINGS).to_empty(device="cpu").knots, want)
    with torch.device("meta"):
        model = nn.Sequential(KAN([3, 4, 2], dtype=dtype, **SETTINGS))
    model.to_empty(device="cpu")
    assert torch.equal(model[0][0].knots, want)
    model[0].reset_parameters()
    assert model(torch.randn(5, 3, dtype=dtype)).isfinite().all()


def test_a_range_that_the_dtype_cannot_hold_is_refused_on_every_device():
    for device in ("meta", "cpu"):
        with pytest.raises(ValueError, match="^grid_range: expected grid cells that torch.float32 can tell apart"):
            KANLinear(2, 2, grid_range=(1e6, 1e6 + 0.01), device=device)


def test_knots_that_have_memory_are_written_where_weights_have_none(monkeypatch):
    """accelerate.init_empty_weights moves every parameter to meta when it is registered, and no buffer."""
    register = nn.Module.register_parameter

    def on_meta(self, name, parameter):
        register(self, name, None if parameter is None else nn.Parameter(parameter.to("meta")))

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "register_parameter", on_meta)
        layer = KANLinear(3, 4, **SETTINGS)
    assert layer.weight.is_meta and torch.equal(layer.knots, KANLinear(3, 4, **SETTINGS).knots)


@pytest.mark.parametrize("bad", [garbage, lambda knots: torch.zeros(knots.shape), lambda knots: garbage(knots) * torch.nan])
def test_a_loader_that_leaves_knots_unwritten_is_told_at_the_first_call(bad):
    for model in (KANLinear(3, 4, device="meta"), KAN([3, 4], device="meta")):
        layer = model if isinstance(model, KANLinear) else model[0]
        full = KANLinear(3, 4)
        layer.weight, layer.bias, layer.knots = full.weight, None, bad(layer.knots)
        with pytest.raises(RuntimeError, match=NEVER):
            model(torch.randn(5, 3))
        with pytest.raises(RuntimeError, match=NEVER):
            layer.update_grid(torch.randn(50, 3))
        layer.reset_parameters()
        assert model(torch.randn(5, 3)).isfinite().all()


def test_a_loader_that_assigns_knots_is_believed():
    full = KANLinear(3, 4)
    full.update_grid(torch.randn(100, 3))
    x = torch.randn(5, 3)
    by_hand, assigned = (KANLinear(3, 4, device="meta") for _ in range(2))
    for name, tensor in (*full.named_parameters(), *full.named_buffers()):
        setattr(by_hand, name, tensor)
    assigned.load_state_dict(full.state_dict(), assign=True)
    for layer in (by_hand, assigned):
        assert layer.unset
        assert torch.equal(layer(x), full(x))
        assert not layer.unset
    assert torch.equal(copy.deepcopy(by_hand)(x), full(x))


def test_a_state_without_knots_writes_them():
    layer = KANLinear(3, 4, device="meta")
    state = {name: tensor for name, tensor in KANLinear(3, 4).state_dict().items() if name != "knots"}
    layer.load_state_dict(state, strict=False, assign=True)
    assert torch.equal(layer.knots, KANLinear(3, 4).knots) and layer(torch.randn(5, 3)).isfinite().all()


def test_meta_and_fake_tensors_give_shapes():
    assert KANLinear(3, 4, device="meta")(torch.empty(5, 3, device="meta")).shape == (5, 4)
    with FakeTensorMode():
        for layer in (KANLinear(3, 4), KANLinear.from_linear(nn.Linear(3, 4)), KAN([3, 5, 4])):
            assert layer(torch.empty(5, 3)).shape == (5, 4)


def test_values_as_arguments_of_torch_func_are_not_asked_for():
    layers = [KANLinear(3, 4) for _ in range(2)]
    parameters, buffers = torch.func.stack_module_state(layers)
    base = KANLinear(3, 4, device="meta")
    x = torch.randn(5, 3)
    run = torch.func.vmap(lambda p, b: torch.func.functional_call(base, (p, b), (x,)))
    torch.testing.assert_close(run(parameters, buffers)[1], layers[1](x))


def test_a_compiled_layer_is_checked_too():
    layer = KANLinear(3, 4, device="meta")
    full = KANLinear(3, 4)
    layer.weight, layer.bias, layer.knots = full.weight, full.bias, garbage(layer.knots)
    compiled = torch.compile(layer, backend="eager")
    with pytest.raises(RuntimeError, match=NEVER):
        compiled(torch.randn(5, 3))


def test_a_swap_takes_no_random_numbers():
    model = nn.Sequential(nn.Linear(3, 4))
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    fastkan.replace_linear(model)
    assert torch.equal(torch.rand(3), want)
