"""KANLinear in nn.Linear's place: construction, dtypes, devices, saving and training."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from fastkan import KANLinear
from fastkan.splines import knots as grids

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def fp32_or_more(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def assert_same_state(a, b):
    for (name, one), (other_name, other) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert name == other_name
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


# ---- construction


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("in_features, out_features", [(3, 4), (1, 1), (0, 4), (3, 0), (np.int64(3), np.int64(4))])
def test_parameters_have_the_documented_shapes(in_features, out_features, bias):
    layer = KANLinear(in_features, out_features, bias=bias, grid_size=6, degree=2)
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert layer.state_dict().keys() == shapes.keys() | {"_extra_state"}
    want = {"weight": (in_features, 9, out_features), "bias": (out_features,), "knots": (in_features, 11)}
    assert shapes == {name: shape for name, shape in want.items() if bias or name != "bias"}
    assert {name for name, _ in layer.named_parameters()} == shapes.keys() - {"knots"}
    assert (type(layer.in_features), type(layer.out_features), layer.grid_size) == (int, int, 6)
    assert (layer.bias is None) is not bias


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_and_device_arguments(dtype):
    layer = KANLinear(3, 4, dtype=dtype, device="cpu")
    assert layer.weight.dtype == layer.bias.dtype == dtype
    assert layer.knots.dtype == fp32_or_more(dtype)
    x = torch.randn(5, 3, dtype=dtype)
    assert layer(x).dtype == dtype


def test_the_default_dtype_is_followed_as_nn_linear_does():
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = KANLinear(3, 4)
        assert layer.weight.dtype == nn.Linear(3, 4).weight.dtype == torch.bfloat16
        assert layer.knots.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


REFUSED = {
    "in_features: expected a whole number of at least 0, received -1": {"in_features": -1},
    "in_features: expected a whole number of at least 0, received 2.5": {"in_features": 2.5},
    "out_features: expected a whole number of at least 0, received True": {"out_features": True},
    "out_features: expected a whole number of at least 0, received '4'": {"out_features": "4"},
    "grid_size: expected at least 1, received 0": {"grid_size": 0},
    "grid_size: expected an int, received float": {"grid_size": 5.0},
    "degree: expected at least 1, received 0": {"degree": 0},
    "degree: expected an int, received str": {"degree": "cubic"},
    r"grid_range: expected finite \(low, high\) with low < high, received \(1, -1\)": {"grid_range": (1, -1)},
    r"grid_range: expected finite .* received \(0, 0\)": {"grid_range": (0, 0)},
    r"grid_range: expected finite .* received \(0, inf\)": {"grid_range": (0, float("inf"))},
    r"grid_range: expected finite .* received \(nan, 1\)": {"grid_range": (float("nan"), 1)},
    r"grid_range: expected finite .* received 2": {"grid_range": 2},
    r"grid_range: expected finite .* received \(1, 2, 3\)": {"grid_range": (1, 2, 3)},
    r"grid_range: expected finite .* received 'ab'": {"grid_range": "ab"},
    r"grid_range: expected grid cells that torch.float32 can tell apart": {"grid_range": (1e6, 1e6 + 0.01)},
    "activation: expected one of silu, .*, received 'sin'": {"activation": "sin"},
    "backend: expected one of .*, received 'fast'": {"backend": "fast"},
    "dtype: expected a real floating dtype, received torch.int32": {"dtype": torch.int32},
    "dtype: expected a real floating dtype, received torch.complex64": {"dtype": torch.complex64},
}


@pytest.mark.parametrize("message, changes", REFUSED.items(), ids=str)
def test_a_wrong_argument_is_named(message, changes):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        KANLinear(**{"in_features": 3, "out_features": 4} | changes)


def test_repr_names_what_matters():
    want = "KANLinear(in_features=3, out_features=4, bias=False, grid_size=7, degree=2, activation='gelu'"
    assert repr(KANLinear(3, 4, False, 7, 2, activation="gelu")) == f"{want})"
    assert repr(KANLinear(3, 4, False, 7, 2, activation="gelu", backend="reference")) == f"{want}, backend='reference')"


# ---- the call


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 1, 5, 3), (0, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_leading_dimensions_and_gradients_are_as_nn_linears(shape, bias, backend):
    layer, linear = KANLinear(3, 4, bias=bias, backend=backend), nn.Linear(3, 4, bias=bias)
    for module in (layer, linear):
        x = torch.randn(shape, requires_grad=True)
        y = module(x)
        assert y.shape == (*shape[:-1], 4)
        y.sum().backward()
        assert x.grad.shape == x.shape
        for parameter in module.parameters():
            assert parameter.grad.shape == parameter.shape
            assert parameter.grad.any() == bool(x.numel())


@pytest.mark.parametrize("in_features, out_features", [(1, 1), (0, 4), (3, 0), (0, 0)])
def test_one_or_no_feature(in_features, out_features, backend):
    layer = KANLinear(in_features, out_features, backend=backend)
    nn.init.normal_(layer.bias)
    x = torch.randn(5, in_features, requires_grad=True)
    y = layer(x)
    assert y.shape == (5, out_features)
    if not in_features:
        assert torch.equal(y, layer.bias.expand(5, -1))
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert layer.weight.grad.shape == layer.weight.shape


def test_a_non_contiguous_input_gives_the_same_answer(backend):
    layer = KANLinear(3, 4, backend=backend)
    x = torch.randn(3, 8, 2).permute(2, 1, 0)
    assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_training_step_lowers_the_loss(dtype, backend):
    layer = KANLinear(2, 1, dtype=dtype, backend=backend)
    x = (2 * torch.rand(64, 2) - 1).to(dtype)
    target = (x[:, :1] * 3).sin()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = (layer(x).float() - target.float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def test_autocast_trains_float32_parameters(backend):
    layer = KANLinear(3, 4, backend=backend)
    x = torch.randn(6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert y.dtype == nn.Linear(3, 4)(x).dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}


# ---- moving, casting, saving


CASTS = {
    "to": lambda m: m.to("cpu", torch.float16),
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "double": lambda m: m.double(),
    "float": lambda m: m.float(),
    "bfloat16 double": lambda m: m.bfloat16().double(),
    "half float": lambda m: m.half().float(),
    "double half": lambda m: m.double().half(),
    "type": lambda m: m.type(torch.bfloat16),
    "parent": lambda m: nn.Sequential(m).bfloat16()[0],
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_casts_never_round_the_knots_below_float32(cast, backend):
    layer = KANLinear(3, 4, grid_range=(-0.3, 0.7), backend=backend)  # ends that no half precision holds
    knots = layer.knots.double()
    cast(layer)
    assert layer.knots.dtype == fp32_or_more(layer.weight.dtype)
    assert torch.equal(layer.knots.double(), knots)
    assert "knots" in dict(layer.named_buffers())
    x = torch.rand(5, 3, dtype=layer.weight.dtype, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad.dtype == x.grad.dtype == layer.weight.dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_meta_to_empty_and_reset_give_a_fresh_layer(dtype):
    with torch.device("meta"):
        layer = KANLinear(3, 4, grid_range=(-2.0, 1.0))
    assert {tensor.device.type for tensor in (*layer.parameters(), *layer.buffers())} == {"meta"}
    assert layer(torch.empty(5, 3, device="meta")).shape == (5, 4)
    layer.to(dtype).to_empty(device="cpu")
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    assert_same_state(layer, KANLinear(3, 4, grid_range=(-2.0, 1.0), dtype=dtype))


def test_a_cpu_layer_can_be_made_where_the_default_device_is_another():
    with torch.device("meta"):
        layer = KANLinear(3, 4, device="cpu")
    assert layer(torch.zeros(2, 3)).isfinite().all()


def test_reset_after_refine_keeps_the_grid_size_and_restores_range():
    layer = KANLinear(3, 4, grid_size=4)
    layer.update_grid(10 * torch.randn(50, 3))
    layer.refine(8)
    layer.reset_parameters()
    assert torch.equal(layer.knots, grids.uniform(3, 8, 3, (-1.0, 1.0)).float())


def saved_and_loaded(layer):
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = KANLinear(3, 4, dtype=layer.weight.dtype)
    assert str(fresh.load_state_dict(torch.load(buffer, weights_only=True), strict=True)) == "<All keys matched successfully>"
    return fresh


def assigned(layer):
    fresh = KANLinear(3, 4, device="meta")
    fresh.load_state_dict(layer.state_dict(), assign=True)
    return fresh


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "state_dict": saved_and_loaded,
    "assign": assigned,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_is_the_same_layer_and_independent(make, dtype):
    layer = KANLinear(3, 4, dtype=dtype)
    layer.update_grid(3 * torch.randn(100, 3))
    made = make(layer)
    x = torch.randn(6, 3, dtype=dtype)
    assert_same_state(layer, made)
    assert torch.equal(layer(x), made(x))
    made(x).sum().backward()
    assert layer.weight.grad is None
    assert made.weight.requires_grad


def test_a_checkpoint_of_another_grid_size_is_refused_by_shape():
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        KANLinear(3, 4, grid_size=6).load_state_dict(KANLinear(3, 4).state_dict())


def test_parameters_to_vector_round_trip():
    layer, other = KANLinear(3, 4), KANLinear(3, 4)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.numel() == 3 * 9 * 4 + 4
    nn.utils.vector_to_parameters(vector, other.parameters())
    assert_same_state(layer, other)


def test_an_initialiser_of_torch_fills_the_base_weights_with_the_right_fans():
    layer = KANLinear(400, 100)
    layer.reset_parameters(nn.init.xavier_normal_)
    assert float(layer.weight[:, -1].detach().std()) == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert layer.weight[:, :-1].detach().abs().max() < 0.01
    layer.reset_parameters(lambda weight: nn.init.kaiming_uniform_(weight, a=5**0.5))
    assert float(layer.weight[:, -1].detach().abs().max()) == pytest.approx(1 / 20, rel=0.01)
