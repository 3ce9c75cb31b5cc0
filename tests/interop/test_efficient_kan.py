"""States of efficient-kan as KANs and back: the same function to rounding."""

import pytest
import torch
from interop.formulas import EfficientLayer, Stack

from fastkan import KAN, KANLinear
from fastkan.interop import from_efficient_kan, to_efficient_kan


def model(dtype=torch.float64, scaler=True):
    torch.manual_seed(0)
    layers = (EfficientLayer(3, 4, scaler=scaler), EfficientLayer(4, 2, 3, 2, scaler), EfficientLayer(2, 1, 8, 1, scaler))
    return Stack(*layers).to(dtype)


def samples(dtype=torch.float64):
    """In the grids and beside them."""
    return 2 * torch.randn(200, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scaler", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_state_is_the_same_function_here_and_back(dtype, scaler):
    theirs = model(dtype, scaler)
    x = samples(dtype)
    y = theirs(x)
    exact = theirs.double()(x.double())
    theirs.to(dtype)
    own = max((y - exact).abs().max().item(), 4 * torch.finfo(dtype).eps * exact.abs().max().item())
    ours = from_efficient_kan(theirs.state_dict())
    assert ours(x).dtype == dtype and ours.widths == [3, 4, 2, 1]
    assert [(layer.grid_size, layer.degree) for layer in ours] == [(5, 3), (3, 2), (8, 1)]
    assert (ours(x) - exact).abs().max() <= 8 * own
    again = model(dtype)
    again.load_state_dict(to_efficient_kan(ours))
    assert (again(x) - exact).abs().max() <= 8 * own
    assert torch.equal(from_efficient_kan(theirs)(x), ours(x))


def test_a_single_layer_and_layers_past_ten():
    layer = EfficientLayer(3, 2).double()
    torch.testing.assert_close(from_efficient_kan(layer)(samples()), layer(samples()), rtol=1e-12, atol=1e-12)
    many = Stack(*(EfficientLayer(2, 2) for _ in range(12))).double()
    x = samples()[:, :2]
    state = dict(sorted(many.state_dict().items()))  # layers.10 before layers.2
    torch.testing.assert_close(from_efficient_kan(state)(x), many(x), rtol=1e-9, atol=1e-9)


def test_a_layer_of_ours_goes_there():
    layer = KANLinear(3, 2, bias=False, dtype=torch.float64)
    layer.set_mask(torch.tensor([[True, False], [True, True], [False, True]]))
    torch.nn.init.normal_(layer.weight)
    theirs = EfficientLayer(3, 2).double()
    theirs.load_state_dict(to_efficient_kan(layer))
    torch.testing.assert_close(theirs(samples()), layer(samples()), rtol=1e-12, atol=1e-12)


def test_the_state_is_not_the_models_memory():
    ours = KAN([3, 2])
    state = to_efficient_kan(ours)
    assert all(tensor.is_contiguous() for tensor in state.values())  # safetensors writes no others
    before = ours(samples(torch.float32))
    for tensor in state.values():
        tensor.zero_()
    assert torch.equal(ours(samples(torch.float32)), before)


def with_formula():
    ours = KAN([3, 2])
    ours[0].set_symbolic({(0, 0): ("sin", (1, 0, 1, 0))})
    return ours


def with_bias():
    ours = KAN([3, 2], bias=True)
    torch.nn.init.ones_(ours[0].bias)
    return ours


@pytest.mark.parametrize(
    "ours, reason",
    [
        (with_formula, "received layers.0 with formulas"),
        (with_bias, "received layers.0 with a bias"),
        (lambda: KAN([3, (1, 1), 1]), "received layers.1 with a Products"),
        (lambda: KAN([3, 1], activation="tanh"), "received layers.0 with activation='tanh'"),
        (lambda: KANLinear(3, 1, spline_scale=1.0), r"received a layer with a spline_scale; use set_spline_scale\(None\)"),
    ],
)
def test_what_efficient_kan_cannot_hold_is_refused(ours, reason):
    with pytest.raises(ValueError, match=f"model: expected what efficient-kan can hold, {reason}"):
        to_efficient_kan(ours())
    with pytest.raises(TypeError, match="model: expected a KAN or a KANLinear, received Linear"):
        to_efficient_kan(torch.nn.Linear(2, 2))


def test_another_activation_is_asked_for():
    ours = KAN([3, 2], activation="tanh", dtype=torch.float64)
    again = from_efficient_kan(to_efficient_kan(ours, activation="tanh"), activation="tanh")
    torch.testing.assert_close(again(samples()), ours(samples()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layers.1.grid"), "source: expected layers.1.grid in the state, received none"),
        (lambda s: s.update({"head.weight": torch.zeros(2)}), "of efficient-kan layers .* alone, received head.weight"),
        (lambda s: s.update({"layers.0.grid": torch.zeros(2, 12)}), r"layer 0, grid: expected .* \(3, 12\), received \(2, 12\)"),
        (lambda s: s["layers.0.grid"].zero_(), "knots: expected finite ones that rise, received others for input 0"),
        (lambda s: [s.pop(k) for k in list(s) if "layers.1" in k], "in a row, received 4 outputs of layer 0 before 2"),
        (lambda s: s.clear(), "source: expected a state of efficient-kan layers .*received nothing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    state = model().state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        from_efficient_kan(state)
