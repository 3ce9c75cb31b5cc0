"""States of FastKAN as splines: everywhere within the errors that are stated."""

import pytest
import torch
from interop.formulas import RadialLayer, Stack

from fastkan import KANLinear
from fastkan.interop import from_fast_kan


def model(dtype=torch.float64, **settings):
    torch.manual_seed(0)
    return Stack(RadialLayer(4, 5, **settings), RadialLayer(5, 2, **settings)).to(dtype)


def samples(dtype=torch.float64):
    return 3 * torch.randn(400, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
@pytest.mark.parametrize("settings", [{}, {"norm": False}, {"base": False}, {"norm": False, "base": False}])
def test_each_layer_is_within_the_sum_of_its_edges_errors(settings, tolerance):
    theirs = model(**settings)
    ours, errors = from_fast_kan(theirs.state_dict(), tolerance)
    assert [error.shape for error in errors] == [(4, 5), (5, 2)]
    for mine, layer, error, x in zip(ours, theirs.layers, errors, (samples(), samples()[:, [0, 1, 2, 3, 0]]), strict=True):
        # past the range each basis is below the tolerance, and the splines fade
        past = tolerance * layer.spline_linear.weight.abs().sum(1).max().item()
        deviation = (mine(x) - layer(x)).abs().max().item()
        assert deviation <= error.sum(0).max().item() + past
        weights = layer.spline_linear.weight.unflatten(1, (len(error), -1))
        assert (error <= tolerance * weights.abs().sum(2).T * 1.001).all()
    y = theirs(samples())
    assert (ours(samples()) - y).abs().max() <= 30 * tolerance * y.abs().max()


def test_without_a_normalisation_a_layer_is_one_kan_linear():
    ours, _ = from_fast_kan(model(norm=False))
    assert all(isinstance(layer, KANLinear) for layer in ours)
    assert torch.equal(ours[0].bias, model(norm=False).layers[0].base_linear.bias)


def test_the_model_trains_in_float32():
    theirs = model(torch.float32)
    ours, _ = from_fast_kan(theirs)
    x = samples(torch.float32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-3)
    ours(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


def test_what_the_state_does_not_say():
    theirs = model(base=False)
    for layer in theirs.layers:
        layer.rbf.width = 1.5
    wide, _ = from_fast_kan(theirs, 1e-5, denominator=1.5)
    torch.testing.assert_close(wide(samples()), theirs(samples()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "change, settings, message",
    [
        (lambda s: s.pop("layers.0.rbf.grid"), {}, "source: expected layers.0.rbf.grid in the state, received none"),
        (lambda s: s.update({"layers.0.rbf.grid": torch.zeros(7)}), {}, r"layer 0: expected rbf.grid .* received \(7,\) and"),
        (lambda s: s.update({"layers.1.base_linear.bias": torch.zeros(3)}), {}, r"layer 1, base_linear.bias: expected .* \(2,\)"),
        (lambda s: s.update({"x": torch.zeros(3)}), {}, "expected a state of FastKAN layers .* alone, received x"),
        (lambda s: None, {"activation": "sine"}, "activation: expected one of silu, gelu, tanh, relu, identity, received 'sine'"),
        (lambda s: None, {"denominator": -1}, "denominator: expected None or a number above 0, received -1"),
        (lambda s: None, {"tolerance": 2}, "tolerance: expected a number between 0 and 1, received 2"),
        (lambda s: None, {"largest": 4}, "tolerance: expected edges within 0.0001 .* at most 4 cells"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, settings, message):
    state = model().state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        from_fast_kan(state, **settings)
