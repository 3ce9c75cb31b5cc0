"""Every kind of shrink: the function stays, and what has no effect is cut out."""

import pytest
import torch
from explain.models import cut, made, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastkan.explain import prune_edges, prune_inputs
from fastkan.nn import Columns, Products, edges
from fastkan.nn.shrink import shrunk


def fixed(net, x):
    """The smaller model without any edge less: what has no effect is gone, and the function is the same."""
    smaller, hidden = shrunk(
        net, x, [torch.zeros(layer.in_features, layer.out_features, dtype=torch.bool) for layer in net.layers]
    )
    torch.testing.assert_close(smaller(x), net(x), rtol=1e-12, atol=1e-12)
    return smaller, hidden


def test_nothing_to_shrink():
    net, x = made((3, 4, 2)), samples()
    smaller, hidden = fixed(net, x)
    assert smaller.widths == [3, 4, 2] and hidden == [[0, 1, 2, 3]]
    assert list(smaller.state_dict()) == list(net.state_dict())


def test_the_mean_of_an_edge_goes_into_the_bias():
    net, x = made((3, 2)), samples()
    gone = torch.zeros(3, 2, dtype=torch.bool)
    gone[1, 0] = True
    smaller, _ = shrunk(net, x, [gone])
    values = edges.edge_values(net[0], x)
    torch.testing.assert_close(smaller(x) - net(x), -torch.stack((values[:, 1, 0] - values[:, 1, 0].mean(), 0 * x[:, 0]), 1))
    assert smaller[0].bias.tolist()[1] == 0 and smaller[0].mask.tolist() == (~gone).tolist()


def test_a_constant_edge_goes_without_a_trace():
    net, x = made((3, 4, 2)), samples()
    with torch.no_grad():
        net[0].weight[0, :-1, 1], net[0].weight[0, -1, 1] = 0.7, 0
    smaller, report = prune_edges(net, x, threshold=1e-6)
    assert report.edges == (20, 19) and report.change < 1e-12
    assert not smaller[0].mask[0, 1] and smaller[0].mask.sum() == 11


def test_a_node_that_nobody_reads():
    net, x = made((3, 4, 4, 2)), samples()
    cut(net, 2, [(1, 0), (1, 1)])
    cut(net, 1, [(0, 0), (0, 2), (0, 3)])  # node 0 is read by node 1 of the next layer alone
    smaller, hidden = fixed(net, x)
    assert smaller.widths == [3, 3, 3, 2] and hidden == [[1, 2, 3], [0, 2, 3]]
    assert all(layer.mask is None for layer in smaller)


@pytest.mark.parametrize("bias", [False, True])
def test_a_node_without_edges_is_a_constant(bias):
    net, x = made((3, 4, 4, 2), bias=bias), samples()
    if bias:
        nn.init.normal_(net[0].bias)
    cut(net, 0, [(0, 2), (1, 2), (2, 2)])
    smaller, hidden = fixed(net, x)
    assert hidden == [[0, 1, 3], [0, 1, 2, 3]]
    assert [layer.bias is None for layer in smaller] == ([False] * 3 if bias else [True, False, True])


def test_constants_go_through_layers():
    net, x = made((3, 2, 2, 2), bias=True), samples()
    cut(net, 0, [(0, 0), (1, 0), (2, 0)])
    cut(net, 1, [(1, 1)])
    assert fixed(net, x)[1] == [[1], [0]]


def test_an_input_without_edges():
    net, x = made((3, 4, 2)), samples()
    cut(net, 0, [(1, o) for o in range(4)])
    smaller, _ = fixed(net, x)
    assert isinstance(smaller[0], Columns) and smaller[0].index.tolist() == [0, 2] and smaller[0].in_features == 3
    again, report = prune_inputs(smaller, x, keep=1)
    assert len([module for module in again if isinstance(module, Columns)]) == 1
    assert again[0].in_features == 3 and set(report.inputs) | set(again[0].index.tolist()) == {0, 2}
    assert again(x).shape == (100, 2)


@pytest.mark.parametrize("constant", [1.0, -2.5, 0.0])
@pytest.mark.parametrize("arity", [2, 3])
def test_a_factor_without_edges(arity, constant):
    net, x = made((3, (1, 2), 2), arity=arity), samples()
    o = 1 + arity  # the first factor of the second product
    net[0].set_symbolic({(1, o + 1): ("sin", (2.0, 0, 1, 0.5))})
    cut(net, 0, [(i, o) for i in range(3)])
    with torch.no_grad():
        net[0].bias[o] = constant
    smaller, hidden = fixed(net, x)
    if not constant:
        assert smaller.widths == [3, (1, 1), 2] and hidden == [[0, 1]]
    elif arity == 2:
        assert smaller.widths == [3, (2, 1), 2] and hidden == [[0, 2, 1]]
    else:
        assert smaller[1].arities == (3, 2) and hidden == [[0, 1, 2]]


@pytest.mark.parametrize("factors", [(2, 3), (2,), (1, 2, 3, 4)])
def test_products_of_the_answer_keep_their_place(factors):
    """Output 1 is the product of 2 and 3, output 2 that of 4 and 5; output 0 a sum with a constant of its own."""
    net, x = made((3, (2, 2))), samples()
    nn.init.normal_(net[0].bias)
    cut(net, 0, [(i, o) for i in range(3) for o in factors])
    smaller, _ = fixed(net, x)
    assert smaller(x).shape == (100, 4)
    assert smaller.layers[0].out_features == {(2, 3): 5, (2,): 5, (1, 2, 3, 4): 4}[factors]


def test_an_answer_that_is_a_product_with_zero():
    net, x = made((3, (1, 1))), samples()
    cut(net, 0, [(i, 1) for i in range(3)])
    with torch.no_grad():
        net[0].bias[1] = 0
    smaller, _ = fixed(net, x)
    assert smaller.widths == [3, 2]


def test_an_answer_that_is_constant_in_one_output():
    net, x = made((3, 4, 2)), samples()
    cut(net, 1, [(i, 0) for i in range(4)])
    smaller, _ = fixed(net, x)
    assert smaller.widths == [3, 4, 2] and smaller(x)[:, 0].std() == 0


def test_formulas_are_kept_moved_and_removed():
    net, x = made((3, 3, 2)), samples()
    net[0].set_symbolic({(0, 1): ("sin", (3.0, 0, 2, 0)), (2, 0): ("x**2", (1.0, 0, 1, 0)), (2, 2): ("exp", (1.0, 0, 1, 0))})
    net[1].set_symbolic({(0, 0): ("log", (1e-3, 2.0, 1e-9, 7.0)), (1, 0): ("1/x", (1.0, 4.0, 1.0, 0.0))})
    net[0].symbolic.requires_grad_(False)
    cut(net, 0, [(0, 0), (1, 0), (1, 1), (1, 2)])
    cut(net, 1, [(0, 1)])
    smaller, report = prune_edges(net, x, threshold=1e-6)  # the logarithm goes, and with it x**2
    assert report.change < 1e-8
    assert smaller[0].index.tolist() == [0, 2] and smaller.widths == [2, 2, 2]
    assert sorted(smaller[1].symbolic.edges) == [(0, 0, "sin"), (1, 1, "exp")]
    assert smaller[2].symbolic.edges == [(0, 0, "1/x")]
    assert smaller[1].symbolic.affine.requires_grad is False and smaller[2].symbolic.affine.requires_grad is True
    assert smaller[2].bias[0].item() == pytest.approx(7, abs=1e-8)


def test_a_layer_whose_formulas_all_go():
    net, x = made((3, 3, 2)), samples()
    net[0].set_symbolic({(0, 1): ("x", (1.0, 0, 0.0, 2.0))})
    smaller, report = prune_edges(net, x, threshold=1e-9)
    assert smaller[0].symbolic is None and "symbolic" not in repr(smaller) and report.change < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(3, 4, 2), (3, (1, 2), 3, 2), (3, (0, 3), (2, 2)), (2, (2, 1), (1, 1), 1)]))
def test_any_model_with_edges_gone_keeps_its_function(seed, widths):
    generator = torch.Generator().manual_seed(seed)
    net, x = made(widths, seed, arity=2 + seed % 2), samples(20, widths[0])
    for layer in net.layers:
        layer.set_mask(torch.rand(layer.in_features, layer.out_features, generator=generator) > 0.5)
        if layer.bias is not None:
            layer.bias.data.copy_(torch.randint(-1, 3, layer.bias.shape, generator=generator))
    made_smaller = shrunk(net, x, [torch.zeros(layer.in_features, layer.out_features, dtype=torch.bool) for layer in net.layers])
    if made_smaller is None:
        assert (net(x).std(0) < 1e-9).all()
        return
    smaller = made_smaller.model
    torch.testing.assert_close(smaller(x), net(x), rtol=1e-9, atol=1e-9)
    for layer in smaller.layers[:-1]:
        assert edges.alive(layer).any(0).all() and edges.alive(layer).any(1).all()
    for module in list(smaller)[:-1]:
        assert not isinstance(module, Products) or min(module.arities) > 1
