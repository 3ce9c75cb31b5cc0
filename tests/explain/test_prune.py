"""Pruned models: as small as asked for, the same function to the reported error, alive in every way; and wrong arguments."""

import copy
import pickle

import pytest
import torch
from explain.models import made, samples
from torch import distributed, nn

import fastkan
from fastkan import KAN, KANLinear, prune
from fastkan.explain import prune_edges, prune_inputs, prune_nodes
from fastkan.nn import edges
from fastkan.nn.stack import stages

CALLS = [prune_edges, prune_nodes, prune_inputs, prune]


def relative_change(net, smaller, x):
    with torch.no_grad():
        y, z = net(x), smaller(x)
    return float((z - y).square().mean().sqrt() / (y - y.mean(0)).square().mean().sqrt())


# ---- criteria


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("widths", [(3, 4, 2), (3, (2, 2), 2), (3, (2, 2), (1, 1))], ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_the_report_is_what_happened(call, widths, dtype, tolerance):
    net, x = made(widths, dtype=dtype), samples(dtype=dtype)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    smaller, report = call(net, x, threshold=0.08)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert report.change == pytest.approx(relative_change(net, smaller, x), rel=1e-3, abs=tolerance)
    assert report.change < 0.5
    assert report.edges == tuple(sum(int(edges.alive(layer).sum()) for layer in m.layers) for m in (net, smaller))
    assert report.edges[1] < report.edges[0] or call in (prune_nodes, prune_inputs)
    assert smaller.widths[0] == 3 - len(report.inputs)
    assert sum(stage.nodes.out_features for stage in stages(smaller)[:-1]) == 4 - len(report.nodes[0])
    assert all(layer.weight.shape[::2] == edges.alive(layer).shape for layer in smaller.layers)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("allowed", [0.0, 0.01, 0.1, 0.9])
def test_the_change_stays_within_what_is_allowed(call, allowed):
    net, x = made((3, (3, 2), 2)), samples()
    smaller, report = call(net, x, allowed=allowed)
    assert relative_change(net, smaller, x) <= allowed + 1e-12
    assert allowed < 0.1 or call is prune_inputs or report.edges[1] < report.edges[0]


def test_more_allowed_leaves_less():
    net, x = made((3, 8, 2)), samples()
    left = [prune_edges(net, x, allowed=allowed)[1].edges[1] for allowed in (0.001, 0.03, 0.3)]
    assert left == sorted(left, reverse=True) and left[0] > left[-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_edge_more_is_allowed(seed):
    """Also by the scores that what is left has: the first ones leave more of seed 2."""
    net, x = made((3, 5, 3, 2), seed), samples()
    smaller, report = prune_edges(net, x, allowed=0.5)
    again, _ = prune_edges(smaller, x, keep=report.edges[1] - 1)
    assert relative_change(net, again, x) > 0.5


def test_so_many_are_kept():
    net, x = made((3, (3, 2), 2)), samples()
    assert prune_edges(net, x, keep=10)[1].edges[1] <= 10
    smaller, report = prune_nodes(net, x, keep=3)
    assert len(report.nodes[0]) == 2 and smaller.layers[1].in_features == 3
    smaller, report = prune_inputs(net, x, keep=2)
    assert len(report.inputs) == 1 and smaller.layers[0].in_features == 2
    score = fastkan.explain.attribute(net, x).inputs
    assert report.inputs == [int(score.argmin())]


def test_the_default_thresholds_are_those_of_pykan():
    """Shares 0.976, 0.0195 and 0.0049 of the answer, which come through one node each."""
    net, x = KAN([1, 3, 1], dtype=torch.float64), samples(inputs=1)
    net[0].set_symbolic({(0, o): ("x", (1.0, 0, 1, 0)) for o in range(3)})
    net[1].set_symbolic({(i, 0): ("x", (1.0, 0, c, 0)) for i, c in enumerate((1, 0.02, 0.005))})
    assert prune_nodes(net, x)[1].nodes == [[2]]
    assert prune_edges(net, x)[1].nodes == prune(net, x)[1].nodes == [[1, 2]]
    assert prune(net, x, threshold=0.01)[1].edges == (6, 4)


def test_the_places_of_nodes_are_those_of_the_model_before():
    net, x = made((3, 5, 1)), samples()
    with torch.no_grad():
        net[1].weight[[1, 3]] *= 1e-7
    smaller, report = prune(net, x, threshold=1e-5)
    assert report.nodes == [[1, 3]]
    torch.testing.assert_close(smaller[0].knots, net[0].knots)
    torch.testing.assert_close(smaller[0].weight, net[0].weight[:, :, [0, 2, 4]])


# ---- a model like any other


def pruned(dtype=torch.float64, **arguments):
    net = made((4, (2, 2), 2), dtype=dtype, **arguments)
    net[0].set_symbolic({(0, 1): ("sin", (3.0, 0, 1, 0))})
    with torch.no_grad():
        net[0].weight[1] *= 1e-6
    smaller, report = prune(net, samples(inputs=4, dtype=dtype), threshold=0.02)
    assert report.inputs == [1] and report.edges[1] < report.edges[0]
    return smaller


def test_settings_stay():
    net, x = made((3, 4, 2), backend="reference", activation="gelu", degree=2), samples()
    net.eval()
    net[0].weight.requires_grad_(False)
    smaller, _ = prune_inputs(net, x, keep=2)
    assert type(smaller) is KAN and not any(module.training for module in smaller.modules())
    first, second = smaller.layers
    assert (first.backend, first.activation, first.degree) == ("reference", "gelu", 2)
    assert not first.weight.requires_grad and second.weight.requires_grad
    assert first.bias is not None and not first.bias.requires_grad


def test_half_precision():
    net, x = made((3, 4, 2), dtype=torch.bfloat16), samples()
    smaller, report = prune_edges(net, x, allowed=0.05)
    assert {p.dtype for p in smaller.parameters()} == {torch.bfloat16} and smaller.layers[0].knots.dtype == torch.float32
    assert report.change <= 0.05
    kept = smaller.layers[-1].weight
    assert torch.isin(kept, torch.cat((net[1].weight.flatten(), kept.new_zeros(1)))).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_states_and_shapes(copied):
    smaller, x = pruned(), samples(inputs=4)
    other = copied(smaller)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(smaller.state_dict())
    assert torch.equal(other(x), smaller(x))
    assert smaller(x.reshape(5, 20, 4)).shape == (5, 20, 2) and smaller(x[0]).shape == (2,)
    compiled = torch.compile(smaller, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), smaller(x))
    assert torch.autograd.gradgradcheck(smaller, x[:3].clone().requires_grad_())


def test_it_trains_on():
    net, x = made((2, 8, 1), dtype=torch.float32), samples(400, 2, torch.float32)
    y = torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2

    def train(model, steps):
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    train(net, 60)
    smaller, report = prune(net, x, allowed=0.3)
    assert report.edges[1] < report.edges[0]
    before = (smaller(x) - y).square().mean().item()
    gone = [None if layer.mask is None else ~layer.mask for layer in smaller.layers]
    smaller.update_grid(x)
    assert train(smaller, 60) < before / 2
    kept = smaller(x)
    smaller.refine(10)
    torch.testing.assert_close(smaller(x), kept, rtol=1e-4, atol=1e-4)
    assert train(smaller, 20) < before / 2
    for layer, none in zip(smaller.layers, gone, strict=True):
        assert none is None or (layer.weight.transpose(1, 2)[none] == 0).all()
    assert prune(smaller, x, allowed=0.5)[1].change <= 0.5


def test_in_inference_mode():
    net, x = made(), samples()
    with torch.inference_mode():
        smaller, _ = prune(net, x)
    smaller(x).sum().backward()
    assert smaller.layers[0].weight.grad is not None


# ---- wrong arguments


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "x, error, match",
    [
        (torch.zeros(0, 3), ValueError, "at least one row"),
        (torch.full((2, 3), torch.nan), ValueError, "2 of 2 rows"),
        (samples(5, 2), ValueError, "last dimension 3"),
        (None, TypeError, "a torch.Tensor"),
        (samples(1), ValueError, "outputs differ"),
    ],
)
def test_wrong_samples(call, x, error, match):
    with pytest.raises(error, match=rf"^x: expected.*{match}"):
        call(made(), x)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["threshold", "allowed"])
@pytest.mark.parametrize("value", [-0.1, torch.nan, torch.inf, "0.1", True])
def test_wrong_numbers(call, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected a finite number of at least 0, received"):
        call(made(), samples(), **{name: value})


@pytest.mark.parametrize("call", CALLS[:3])
@pytest.mark.parametrize("keep", [0, -1, 2.0, True, 1000])
def test_wrong_counts(call, keep):
    with pytest.raises(ValueError, match=r"^keep: expected"):
        call(made(), samples(), keep=keep)


@pytest.mark.parametrize("call", CALLS)
def test_two_criteria(call):
    with pytest.raises(ValueError, match=r"^threshold, keep, allowed: expected at most one of them, received threshold, allowed"):
        call(made(), samples(), threshold=0.1, allowed=0.1)


@pytest.mark.parametrize("call", CALLS)
def test_a_criterion_that_leaves_nothing(call):
    with pytest.raises(ValueError, match=r"^threshold: expected one that leaves a path from an input to an output, received 100"):
        call(made(), samples(), threshold=100)
    with pytest.raises(ValueError, match=r"^keep: expected one that leaves a path"):
        prune_edges(made(), samples(), keep=1)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", [KANLinear(3, 2), nn.Sequential(KANLinear(3, 2)), made().append(nn.ReLU())])
def test_models_that_are_no_kan(call, model):
    with pytest.raises(TypeError, match=r"^model: expected"):
        call(model, samples())


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match=r"^prune: expected one process, received 2"):
        prune(made(), samples())
