"""Product nodes, chosen columns, and seeds of a KAN."""

import copy
import pickle

import pytest
import torch

from fastkan import KAN
from fastkan.nn import Columns, Products

torch.manual_seed(0)
X = torch.rand(50, 3, dtype=torch.float64) * 2 - 1


def made(**settings):
    return KAN([3, (2, 2), 1], dtype=torch.float64, seed=3, **settings)


@pytest.mark.parametrize("arity", [2, 3])
def test_product_nodes(arity):
    net = made(arity=arity)
    assert net.widths == [3, (2, 2), 1]
    assert net.layers[0].out_features == 2 + 2 * arity
    inner = net.layers[0](X)
    factors = inner[:, 2:].reshape(-1, 2, arity)
    expected = net.layers[1](torch.cat((inner[:, :2], factors.prod(-1)), 1))
    torch.testing.assert_close(net(X), expected, rtol=1e-14, atol=1e-14)


def test_a_factor_without_edges_drops_out():
    net = made()
    with torch.no_grad():
        net.layers[0].weight[:, :, 2] = 0
    inner, nodes = net.layers[0](X), net[:2](X)
    assert (nodes[:, 2] == inner[:, 3]).all()


def test_products_of_different_arity():
    nodes = Products(1, (2, 3))
    x = torch.tensor([[7.0, 2, 3, 4, 5, 6]])
    assert nodes(x).tolist() == [[7, 6, 120]]
    assert (nodes.in_features, nodes.out_features) == (6, 3)
    assert Products(2, ())(x[:, :2]).tolist() == [[7, 2]]


def test_derivatives_through_products():
    x = X[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(made(), x)
    assert torch.autograd.gradgradcheck(made(), x)
    zeros = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(Products(1, (2,)), zeros)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies(copied):
    net = made()
    assert torch.equal(copied(net)(X), net(X))


def test_compiled_and_of_any_shape():
    net = made()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), net(X))
    assert net(X.reshape(5, 10, 3)).shape == (5, 10, 1)
    assert net.float()(X.float()).dtype == torch.float32


def test_grids_of_a_net_with_products_change():
    net = made()
    before = net(X)
    net.update_grid(X)
    net.refine(10)
    torch.testing.assert_close(net(X), before, rtol=0.05, atol=0.05)
    assert {layer.grid_size for layer in net.layers} == {10}


def test_seeds():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = KAN([2, 3, 1], seed=5), KAN([2, 3, 1], seed=5), KAN([2, 3, 1], seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_columns():
    pick = Columns([2, 0], 3)
    assert pick(torch.tensor([[1.0, 2, 3]])).tolist() == [[3, 1]]
    assert list(pick.state_dict()) == ["index"]
    assert (pick.in_features, pick.out_features) == (3, 2)


@pytest.mark.parametrize("widths", [[(2, 1), 3], [2, (3,)], [2, (1, -1), 1], [2, 2.5, 1], [2, "5", 1], [2, True, 1]])
def test_wrong_widths(widths):
    with pytest.raises(ValueError, match=r"^widths: expected"):
        KAN(widths)


@pytest.mark.parametrize("arity", [1, 2.0, True])
def test_wrong_arity(arity):
    with pytest.raises(ValueError, match=r"^arity: expected"):
        KAN([2, (1, 1), 1], arity=arity)
