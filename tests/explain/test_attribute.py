"""Scores against pykan's own and against direct sums, interaction against closed forms, coverage, and wrong arguments."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fastkan import KAN, KANLinear
from fastkan.explain import attribute, interaction
from fastkan.nn import Columns, Products, edges

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "attribution.json").read_text())
MASK = torch.tensor([[True, False, True, True], [True, True, False, True], [False, True, True, True]])


def tensors(name):
    return [torch.tensor(values, dtype=torch.float64) for values in GOLDEN[name]]


def samples(rows=100, inputs=3):
    return torch.rand(rows, inputs, dtype=torch.float64) * 2 - 1


def made(widths=(3, (2, 1), 2), **settings):
    """Edges that matter: splines of unit coefficients."""
    net = KAN(list(widths), dtype=torch.float64, seed=0, **settings)
    generator = torch.Generator().manual_seed(1)
    for layer in net.layers:
        nn.init.normal_(layer.weight, generator=generator)
    return net


def of_pykan():
    net = KAN([3, (1, 2), 2], grid_size=3, dtype=torch.float64)
    with torch.no_grad():
        for layer, golden in zip(net.layers, GOLDEN["layers"], strict=True):
            knots, splines, base = (torch.tensor(golden[name], dtype=torch.float64) for name in ("knots", "splines", "base"))
            layer.knots.copy_(knots)
            layer.weight.copy_(torch.cat((splines, base[:, None]), dim=1))
            if layer.bias is not None:
                layer.bias.zero_()
    return net, torch.tensor(GOLDEN["x"], dtype=torch.float64)


def test_backward_scores_are_those_of_pykan():
    """Its 1e-4 beside a sum's deviation makes its scores smaller, by at most that share in every layer that they come through."""
    net, x = of_pykan()
    torch.testing.assert_close(net(x), torch.tensor(GOLDEN["y"], dtype=torch.float64), rtol=1e-9, atol=1e-9)
    scores = attribute(net, x)
    share = sum(1e-4 / float(deviation.min()) for deviation in tensors("subnode_deviations"))
    assert share < 2e-2
    for ours, pykan in zip([*scores.nodes, *scores.edges], tensors("nodes") + tensors("edges"), strict=True):
        assert (ours * (1 + 1e-9) >= pykan).all()
        torch.testing.assert_close(ours, pykan, rtol=share, atol=0)
    assert torch.equal(scores.inputs, scores.nodes[0])


def test_forward_scores_are_those_of_pykan():
    net, x = of_pykan()
    for ours, pykan, deviation in zip(
        attribute(net, x, "forward").edges, tensors("forward"), tensors("input_deviations"), strict=True
    ):
        torch.testing.assert_close(ours, pykan * ((deviation + 0.1) / deviation)[:, None], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("arity", [2, 3])
def test_backward_scores_by_hand(arity):
    net, x = made(arity=arity), samples()
    net[0].set_mask(torch.cat((MASK, MASK[:, :1].expand(-1, arity - 2)), dim=1))
    net[0].set_symbolic({(0, 1): ("sin", (3.0, 0.5, 2.0, -1.0))})
    with torch.no_grad():
        first, second = edges.edge_values(net[0], x), edges.edge_values(net[2], net[:2](x))
        into = second.std(0, correction=0) / net(x).std(0, correction=0) / 2
        node = into.sum(1)
        factors = torch.cat((node[:2], node[2:].expand(arity)))
        expected = first.std(0, correction=0) * factors / first.sum(1).std(0, correction=0)
    scores = attribute(net, x.reshape(10, 10, 3))
    torch.testing.assert_close(scores.edges, [expected, into])
    torch.testing.assert_close(scores.nodes, [expected.sum(1), node, torch.full((2,), 0.5, dtype=torch.float64)])


def test_forward_scores_of_nodes():
    net, x = made(), samples()
    scores = attribute(net, x, "forward")
    first, second = scores.edges
    into = torch.stack((first[:, 0].max(), first[:, 1].max(), first[:, 2:].max()))
    torch.testing.assert_close(scores.nodes, [first.amax(1), torch.minimum(into, second.amax(1)), second.amax(0)])


def test_columns_that_are_not_read_score_nothing():
    inner = made()
    net = made()
    net._modules.clear()
    for k, module in enumerate((Columns([3, 0, 1], 5), *inner)):
        net.add_module(str(k), module)
    x = samples(inputs=5)
    for kind in ("backward", "forward"):
        scores = attribute(net, x, kind)
        torch.testing.assert_close(scores.inputs[[3, 0, 1]], scores.nodes[0])
        assert scores.inputs[[2, 4]].tolist() == [0, 0]
        torch.testing.assert_close(scores, attribute(inner, x[:, [3, 0, 1]], kind)._replace(inputs=scores.inputs))


def test_edges_that_cancel_score_nothing():
    """Their sum moves by its rounding alone, which must not be magnified."""
    net, x = made((3, 4, 1)), samples()[:, :1].expand(-1, 3)
    with torch.no_grad():
        net[0].weight[2, :, :2] = -net[0].weight[:2, :, :2].sum(0)
    scores = attribute(net, x)
    assert scores.edges[0][:, :2].max() < 1e-6 < scores.edges[0][:, 2:].min()
    assert scores.nodes[1][:2].max() < 1e-6 < scores.nodes[1][2:].min()


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_scores_are_computed_in_float64(dtype, rtol):
    net = made().to(dtype)
    x = samples().to(dtype)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        scores = attribute(net, x)
    torch.testing.assert_close(scores, attribute(net.double(), x.double()), rtol=rtol, atol=0)
    for name, value in net.to(dtype).state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(layer.weight.dtype == dtype for layer in net.layers)


def test_interaction_is_the_scaled_mean_of_second_derivatives():
    net, x = made(), samples(20)
    y = net(x)
    hessians = torch.stack([torch.autograd.functional.hessian(lambda row, o=o: net(row)[o], row) for o in range(2) for row in x])
    mean = (hessians.reshape(2, 20, 3, 3).abs().mean(1) / y.detach().std(0, correction=0)[:, None, None]).mean(0)
    spread = x.std(0, correction=0)
    found = interaction(net, x)
    torch.testing.assert_close(found, mean * spread * spread[:, None])
    assert not found.requires_grad and not any(parameter.grad is not None for parameter in net.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(interaction(net, x), found)


def test_interaction_of_a_sum_of_functions():
    """And of outputs that are constant, linear, or a product of the first two inputs."""
    x = samples()
    assert interaction(made((3, 2)), x)[~torch.eye(3, dtype=torch.bool)].max() == 0
    net = KAN([3, (2, 1)], dtype=torch.float64)
    line = ("x", (1.0, 0, 1, -1))
    net[0].set_symbolic({(0, 0): line, (0, 2): line, (1, 3): line})
    net[0].set_mask(torch.zeros(3, 4, dtype=torch.bool))
    with torch.no_grad():
        net[0].bias[1] = 1e6
    found = interaction(net, x)
    spread = x.std(0, correction=0)
    expected = spread[0] * spread[1] / (x[:, 0] * x[:, 1]).std(correction=0) / 2  # the mean with the linear output's 0
    torch.testing.assert_close(found[0, 1], expected)
    torch.testing.assert_close(found, found.T)
    assert found.count_nonzero() == 2


def test_coverage():
    net = made((2, (1, 1), 1))
    x = torch.tensor([[0.0, 2.0], [0.5, -1.0], [-3.0, 1.0], [4.0, 0.0]])
    hidden = net[:2](x.double())
    shares = net.coverage(x.reshape(2, 2, 2))
    assert shares == [5 / 8, float(((hidden >= -1) & (hidden <= 1)).double().mean())]
    net.update_grid(samples(500, 2))
    assert net.coverage(samples(500, 2))[1] > 0.95


BAD = [
    ("x", torch.zeros(0, 3), ValueError, "at least one row"),
    ("x", torch.tensor([[0.0, torch.nan, 1], [0, 0, 0]]), ValueError, "received 1 of 2 rows"),
    ("x", torch.zeros(5, 2), ValueError, "last dimension 3"),
    ("x", [[0.0, 0, 0]], TypeError, "a torch.Tensor"),
    ("x", torch.zeros(5, 3, dtype=torch.long), TypeError, "real floating"),
]


@pytest.mark.parametrize(
    "call", [attribute, interaction, lambda net, x: net.coverage(x)], ids=["attribute", "interaction", "coverage"]
)
@pytest.mark.parametrize("name, x, error, match", BAD)
def test_wrong_samples(call, name, x, error, match):
    with pytest.raises(error, match=rf"^{name}: expected.*{match}"):
        call(made(), x)


@pytest.mark.parametrize("call", [attribute, interaction])
@pytest.mark.parametrize(
    "model", [KANLinear(3, 2), nn.Sequential(KANLinear(3, 2)), made().append(nn.ReLU()), made().insert(0, Products(1, (2,)))]
)
def test_models_that_are_no_kan(call, model):
    with pytest.raises(TypeError, match=r"^model: expected"):
        call(model, samples())


def test_a_wrong_kind():
    with pytest.raises(ValueError, match=r"^kind: expected one of backward, forward, received 'sideways'"):
        attribute(made(), samples(), "sideways")
