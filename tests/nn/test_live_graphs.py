"""What update_grid and refine do to graphs, losses, gradients and optimizers that exist already."""

import copy

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KAN, KANLinear

SAMPLES = torch.linspace(-0.7, 0.9, 60)[:, None].expand(-1, 2)


def make(kind):
    net = KAN([2, 3, 1]) if kind == "stack" else KANLinear(2, 3)
    return net.requires_grad_(kind != "frozen")


ROUTES = {
    "eager": lambda net: net,
    "compiled": lambda net: torch.compile(net, backend="aot_eager"),
}

WRITES = {
    "update_grid": lambda net: net.update_grid(SAMPLES),
    "weight": lambda net: first(net).weight.mul_(1.5),
    "knots": lambda net: first(net).knots.mul_(1.5),
    "load_state_dict": lambda net: net.load_state_dict(make("stack" if isinstance(net, KAN) else "layer").state_dict()),
}


def first(net):
    return net[0] if isinstance(net, KAN) else net


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", ["layer", "frozen", "stack"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_write_between_forward_and_backward_is_refused(route, kind, write, create_graph):
    if route == "compiled" and create_graph:
        pytest.skip("a compiled backward pass has no second derivatives")
    net = make(kind)
    x = torch.randn(5, 2, requires_grad=True)
    y = ROUTES[route](net)(x)
    with torch.no_grad():
        WRITES[write](net)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y.square().sum(), x, create_graph=create_graph)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_inside_a_transform_is_refused(write):
    net = make("layer")
    x = torch.randn(5, 2)
    y, pull_back = torch.func.vjp(net, x)
    with torch.no_grad():
        WRITES[write](net)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pull_back(torch.ones_like(y))


@pytest.mark.parametrize("kind", ["layer", "frozen", "stack"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_graph_from_before_refine_keeps_its_gradients(route, kind):
    net = make(kind)
    x = torch.randn(5, 2, requires_grad=True)
    (expected,) = torch.autograd.grad(net(x).square().sum(), x)
    y = ROUTES[route](net)(x).square().sum()
    net.refine(10)
    assert torch.equal(torch.autograd.grad(y, x)[0], expected)


@pytest.mark.parametrize("kind", ["layer", "stack"])
@pytest.mark.parametrize("route", ROUTES)
def test_refine_in_a_loop_with_losses_that_live_on(route, kind):
    net = make(kind)
    call = ROUTES[route](net)
    x = torch.randn(40, 2)
    kept = []
    for grid_size in (5, 10, 20):
        net.refine(grid_size)
        weights = list(net.parameters())
        optimizer = torch.optim.Adam(weights)
        for _ in range(2):
            loss = call(x).square().sum()
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in weights)
            optimizer.step()
            kept.append(loss)
        assert first(net).weight.shape[1] == grid_size + 4
    assert all(loss.isfinite() for loss in kept)


def test_lbfgs_goes_on_after_refine_with_its_returned_loss():
    net, x = make("stack"), torch.rand(40, 2)
    for grid_size in (5, 10):
        net.refine(grid_size)
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=5)

        def closure():
            optimizer.zero_grad()  # noqa: B023
            loss = (net(x) - x.prod(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        before = optimizer.step(closure)
        assert closure() < before


def test_a_weight_with_hooks_is_not_refined():
    layer = KANLinear(2, 3)
    handle = layer.weight.register_hook(lambda gradient: gradient)
    with pytest.raises(RuntimeError, match="^weight: expected a parameter without hooks"):
        layer.refine(10)
    assert layer.grid_size == 5
    handle.remove()
    layer.refine(10)


# ---- optimizers


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "AdamW, amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "SGD without momentum": lambda p: torch.optim.SGD(p, lr=1e-2),
}


def train(net, optimizer, x, steps):
    losses = []
    for _ in range(steps):
        loss = (net(x) - (torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("grid_size", [10, 7])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_over_a_refinement(name, grid_size):
    net, x = KAN([2, 3, 1]).double(), 2 * torch.rand(500, 2, dtype=torch.float64) - 1
    optimizer = OPTIMIZERS[name](net.parameters())
    before = train(net, optimizer, x, 60)
    plain = copy.deepcopy((net, optimizer))
    fastkan.refine(net, grid_size, optimizer)
    assert {p.shape[1] for p in net.parameters()} == {grid_size + 4}
    after, without = train(net, optimizer, x, 40), train(*plain, x, 40)
    assert after[0] <= 1.05 * without[0]
    assert max(after) <= 1.1 * before[-1]
    assert after[-1] <= 1.5 * without[-1]


def test_moments_are_carried_as_functions_of_x():
    """The step of Adam, m / sqrt(v), as a function of x is the same after a nested refinement of smooth moments."""
    net = KANLinear(1, 1, bias=False, activation="zero", dtype=torch.float64)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]).sum().backward()
    optimizer.step()
    state = optimizer.state[net.weight]
    at = torch.linspace(0, 1, 9, dtype=torch.float64)[None, :, None]
    state["exp_avg"].copy_(0.2 + 0.1 * at)
    state["exp_avg_sq"].fill_(0.25)
    fastkan.refine(net, 10, optimizer)
    state = optimizer.state[net.weight]
    inner = slice(3, 10)  # splines whose cells have all been halved
    assert torch.allclose(state["exp_avg_sq"][:, inner], torch.tensor(0.25 / 4, dtype=torch.float64))
    steps = (state["exp_avg"] / state["exp_avg_sq"].sqrt())[0, inner, 0]
    assert torch.allclose(steps.diff(), steps.diff().mean().expand(6)) and 0.4 < steps[0] < steps[-1] < 0.6
    assert state["step"] == 1


def test_an_optimizer_that_mixes_parameters_is_refused_before_anything_changes():
    net, x = KAN([2, 3, 1]), torch.rand(20, 2)
    optimizer = torch.optim.LBFGS(net.parameters())

    def closure():
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(ValueError, match="^optimizer: expected moments of every parameter, as Adam's, received .* of LBFGS"):
        fastkan.refine(net, 10, optimizer)
    assert net[0].grid_size == net[1].grid_size == 5


def test_refine_reaches_every_layer_of_any_model():
    model = nn.ModuleDict({"a": nn.Sequential(KANLinear(2, 3), nn.LayerNorm(3)), "b": KAN([3, 1])})
    changes = fastkan.refine(model, 10)
    assert list(changes) == ["a.0", "b.0"]
    assert all(changed.largest < 1e-5 and changed.outside is None for changed in changes.values())
    with pytest.raises(TypeError, match="^model: expected an nn.Module, received list"):
        fastkan.refine([model], 10)
