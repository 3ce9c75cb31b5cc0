"""Layers in one call: bit for bit those of one by one, and derivatives of any order."""

import pytest
import torch
from stacks import CORE, counted, layer_by_layer, make_net, replaced, rows

pytestmark = CORE

NETS = {
    "small": ([2, 5, 1], {}),
    "bias": ([2, 5, 1], {"bias": True}),
    "one layer": ([3, 2], {"bias": True}),
    "deep": ([3, 4, 1, 6, 2], {"bias": True, "degree": 2, "grid_size": 7, "activation": "gelu"}),
    "wide": ([70, 110, 65], {}),
}


@pytest.fixture
def calls():
    with counted() as count:
        yield count


# ---- the same bits


@pytest.mark.parametrize("shape", [(1,), (1000,), (), (3, 4), (9000,)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_answers_and_gradients_are_those_of_single_layers_bit_for_bit(name, dtype, shape, calls):
    widths, settings = NETS[name]
    net = make_net(widths, dtype, **settings)
    x = rows(*shape, widths[0], dtype=dtype, grad=True)
    g = torch.randn(*shape, widths[-1], dtype=dtype)
    with torch.no_grad():
        assert torch.equal(net(x), layer_by_layer(net, x))
    y, expected = net(x), layer_by_layer(net, x)
    assert torch.equal(y, expected) and y.shape == expected.shape
    inputs = [x, *net.parameters()]
    for ours, theirs in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True):
        assert torch.equal(ours, theirs) and ours.shape == theirs.shape
    assert calls == [2, 1]


@pytest.mark.parametrize("kind", ["transposed", "sliced", "expanded", "negative"])
def test_any_strides(kind, calls):
    net = make_net(bias=True)
    x = {
        "transposed": rows(2, 7).T,
        "sliced": rows(7, 4)[:, ::2],
        "expanded": rows(1, 2).expand(7, 2),
        "negative": torch.complex(rows(7, 2), rows(7, 2)).conj().imag,
    }[kind]
    assert torch.equal(net(x), layer_by_layer(net, x))
    cotangent = {
        "transposed": rows(1, 7).T,
        "sliced": rows(7, 4)[:, ::4],
        "expanded": rows(1, 1).expand(7, 1),
        "negative": torch.complex(rows(7, 1), rows(7, 1)).conj().imag,
    }[kind]
    parameters = list(net.parameters())
    pairs = [torch.autograd.grad(run(x), parameters, cotangent) for run in (net, lambda x: layer_by_layer(net, x))]
    assert all(map(torch.equal, *pairs))
    assert calls == ([0, 0] if kind == "negative" else [2, 1])


def test_nan_and_infinity():
    net = make_net()
    x = torch.tensor([[torch.nan, 0.1], [torch.inf, -torch.inf], [0.2, 0.3]], dtype=torch.float64)
    assert torch.equal(net(x).isnan(), layer_by_layer(net, x).isnan())
    torch.testing.assert_close(net(x), layer_by_layer(net, x), rtol=0, atol=0, equal_nan=True)


# ---- derivatives


@pytest.mark.parametrize("name", ["small", "bias", "deep"])
def test_gradcheck_of_first_and_second_order(name):
    widths, settings = NETS[name]
    net = make_net(widths, **settings)
    names = list(dict(net.named_parameters()))

    def function(x, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))

    operands = (0.9 * rows(3, widths[0]), *(p.detach().clone() for p in net.parameters()))
    operands = [t.detach().requires_grad_() for t in operands]
    assert torch.autograd.gradcheck(function, operands, check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, operands, gen_non_contig_grad_outputs=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("order", [2, 3])
def test_chained_gradients_are_those_of_the_reference(order, calls):
    net = make_net([2, 4, 3, 1], bias=True, degree=4)
    x = rows(6, 2, grad=True)
    gradients = []
    for backend in (None, "reference"):
        for layer in net:
            layer.backend = backend
        value = net(x).sin().sum()
        for k in range(order - 1):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            value = (slope * torch.cos(x.detach() + k)).sum()
        gradients.append(torch.autograd.grad(value, [x, *net.parameters()], allow_unused=True, materialize_grads=True))
    assert calls == [1, 1]  # the last pass is a plain one, with cotangents of the hidden activations
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_a_backward_pass_twice_over_the_same_graph():
    net, x = make_net(), rows(5, 2, grad=True)
    y = net(x).sum()
    first = torch.autograd.grad(y, x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(y, x)[0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x)


def test_a_weight_changed_between_forward_and_backward_is_found():
    net, x = make_net(), rows(5, 2, grad=True)
    y = net(x).sum()
    with torch.no_grad():
        net[1].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


CHANGES_OF_DATA = {
    "weight": lambda net, x: setattr(net[1].weight, "data", torch.randn(1, 1, 1)),
    "dtype": lambda net, x: net.float(),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("change", CHANGES_OF_DATA)
def test_data_of_another_shape_or_dtype_between_forward_and_backward_is_refused(change, create_graph):
    net, x = make_net(), rows(5, 2, grad=True)
    y = net(x).sum()
    CHANGES_OF_DATA[change](net, x)
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        y.backward(create_graph=create_graph)


@pytest.mark.parametrize("wanted", ["x", "first", "last", "bias", "all"])
def test_only_gradients_that_the_pass_uses_are_made(wanted):
    net, x = make_net(bias=True), rows(5, 2, grad=True)
    made = []

    def gradients(*arguments):
        results = served.gradients(*arguments)
        made.append([[t is not None for t in part] for part in results])
        return results

    inputs = {"x": [x], "first": [net[0].weight], "last": [net[1].weight], "bias": [net[0].bias], "all": [x, *net.parameters()]}
    with replaced(gradients=gradients) as served:
        torch.autograd.grad(net(x).sum(), inputs[wanted])
    assert made == [
        {
            "x": [[True, True], [False, False]],
            "first": [[False, True], [True, False]],
            "last": [[False, False], [False, True]],
            "bias": [[False, True], [False, False]],
            "all": [[True, True], [True, True]],
        }[wanted]
    ]


def test_frozen_layers_cost_nothing():
    net, x = make_net(bias=True), rows(5, 2)
    net[0].requires_grad_(False)
    net(x).sum().backward()
    assert net[0].weight.grad is None and net[0].bias.grad is None and net[1].weight.grad is not None
    net.requires_grad_(False)
    assert not net(x).requires_grad


def test_batched_gradients(calls):
    net, x = make_net(bias=True), rows(5, 2, grad=True)
    g = torch.randn(3, 5, 1, dtype=torch.float64)
    batched = torch.autograd.grad(net(x), x, g, is_grads_batched=True)[0]
    torch.testing.assert_close(batched, torch.stack([torch.autograd.grad(net(x), x, q)[0] for q in g]))
    assert calls == [4, 3]
