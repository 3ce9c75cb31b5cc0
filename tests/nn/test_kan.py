"""KAN: a Sequential of KANLinear, updated and refined layer by layer."""

import copy
import pickle

import pytest
import torch
from layers import UNIT
from torch import nn

import fastkan
from fastkan import KAN, KANLinear
from fastkan.splines import knots as grids


def random_net(widths, **settings):
    """Unit coefficients in float64: every layer's outputs leave the range of the next one's first grid."""
    net = KAN(widths, dtype=torch.float64, **settings)
    for layer in net:
        nn.init.normal_(layer.weight, std=0.7)
    return net


def test_layers_follow_the_widths_and_settings():
    net = KAN([4, 3, 2], 7, 2, (-2.0, 2.0), "gelu", bias=True, backend="reference", dtype=torch.float64)
    assert [(type(layer), layer.in_features, layer.out_features) for layer in net] == [(KANLinear, 4, 3), (KANLinear, 3, 2)]
    for layer in net:
        assert (layer.grid_size, layer.degree, layer.grid_range, layer.activation) == (7, 2, (-2.0, 2.0), "gelu")
        assert (layer.backend, layer.weight.dtype, layer.bias is None) == ("reference", torch.float64, False)
    assert all(layer.bias is None for layer in KAN((2, 1)))
    assert KAN([2, 5, 1], device="meta")[1].weight.is_meta


@pytest.mark.parametrize("widths", [[], [3], ()])
def test_fewer_than_two_widths_are_refused(widths):
    with pytest.raises(ValueError, match=r"^widths: expected at least two layer widths, received"):
        KAN(widths)


def test_a_wrong_width_is_named():
    with pytest.raises(ValueError, match="^widths: expected whole numbers"):
        KAN([2, 2.5, 1])


def test_the_call_is_the_composition_of_its_layers(backend):
    net = random_net([3, 4, 2], backend=backend)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(net(x), net[1](net[0](x)))


@pytest.mark.parametrize("part", [slice(1, None), slice(0, 1), slice(None), slice(None, None, 2)], ids=str)
def test_a_slice_is_a_sequential_of_the_same_layers(part):
    net = KAN([2, 3, 4, 1])
    sliced = net[part]
    assert type(sliced) is nn.Sequential
    assert list(sliced) == list(net)[part]
    assert list(sliced.state_dict()) == [name for name in net.state_dict() if name.split(".")[0] in dict(sliced.named_children())]
    assert net[-1] is list(net)[-1]


@pytest.mark.parametrize("make", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"])
def test_a_copy_is_the_same_net(make):
    net = KAN([3, 4, 2])
    x = torch.randn(5, 3)
    made = make(net)
    assert type(made) is KAN
    assert torch.equal(made(x), net(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_update_grid_lays_every_grid_over_its_own_inputs(dtype):
    net = random_net([3, 4, 2]).to(dtype)
    x = 5 * torch.randn(200, 3, dtype=torch.float64)
    net.update_grid(x)
    hidden = x.to(dtype)
    for layer in net:
        points = grids.grid_points(layer.knots, 3)
        low, high = hidden.detach().amin(0), hidden.detach().amax(0)
        margin = 0.015 * (high - low)  # 0.01, and 1 / 200 for the rows
        rounding = 8 * torch.finfo(dtype).eps * float(hidden.detach().abs().max())
        torch.testing.assert_close(points[:, 0], low - margin, rtol=0, atol=rounding)
        torch.testing.assert_close(points[:, -1], high + margin, rtol=0, atol=rounding)
        hidden = layer(hidden)
    assert not any(parameter.grad is not None for parameter in net.parameters())


def test_nested_refinement_keeps_the_function_of_an_updated_net():
    """Each layer is exact on its grid to the refit's rounding (tests/nn/test_refine.py), magnified by the next one's slope."""
    net = random_net([3, 4, 2])
    x = torch.randn(300, 3, dtype=torch.float64)
    net.update_grid(x)
    with torch.no_grad():
        before = net(x)
        net.refine(10)
        after = net(x)
    assert [layer.grid_size for layer in net] == [10, 10]
    slope = max(float(layer.weight.detach().abs().max() / layer.knots.diff().min()) for layer in net)
    assert (after - before).abs().max() <= 64 * UNIT * 6**3 * slope * before.abs().max()


def test_training_with_updates_and_refinement_learns_a_function():
    """exp(sin(pi x) + y^2), the paper's toy example (Liu et al., section 3.1), to a tenth of its deviation and on with G."""
    net = KAN([2, 5, 1])
    x = 2 * torch.rand(512, 2) - 1
    target = (torch.sin(torch.pi * x[:, :1]) + x[:, 1:].square()).exp()

    def train(steps):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(steps):
            loss = (net(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    train(100)
    net.update_grid(x)
    coarse = train(150)
    assert coarse < 0.01 * float(target.var())
    net.refine(10)
    assert train(150) < coarse


def test_methods_are_the_functions_of_the_same_names():
    x = torch.rand(60, 2, dtype=torch.float64) * 2 - 1
    y = x[:, :1] + x[:, 1:].square()
    net = KAN([2, 2, 1], dtype=torch.float64, seed=0)
    twin = copy.deepcopy(net)
    assert net.fit(x, y, steps=3, starts=1).train == fastkan.fit(twin, x, y, steps=3, starts=1).train
    assert torch.equal(net(x), twin(x))
    assert net.prune(x, allowed=0.2)[1].change <= 0.2
    assert net.sparsify(x, y, starts=1)[0](x).shape == (60, 1)
    with pytest.raises(ValueError, match="^in_names:"):
        net.plot(x, in_names=["only one"])
