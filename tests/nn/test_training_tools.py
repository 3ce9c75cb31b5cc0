"""PyTorch's tools for training around a KAN: checkpoints of activations, averaged weights, scaled gradients."""

import copy

import pytest
import torch
from torch.optim import swa_utils
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import fastkan
from fastkan import KAN


def make_net(**settings):
    return KAN([3, 4, 4, 2], bias=True, seed=0, **settings)


def gradients(run, net, x, order=1):
    """Of x and of the parameters; of order 2 those of a loss of x's gradient."""
    value = run(x).square().sum()
    if order == 2:
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        value = slope.square().sum()
    return torch.autograd.grad(value, (x, *net.parameters()), allow_unused=True)


def backward(run, net, x):
    """The same by backward(), which is all that reentrant checkpoints know."""
    x = x.detach().requires_grad_()
    net.zero_grad()
    run(x).square().sum().backward()
    return [x.grad, *(p.grad.clone() for p in net.parameters())]


CHECKPOINTS = {
    "the whole": lambda net, reentrant: lambda x: checkpoint(net, x, use_reentrant=reentrant),
    "segments": lambda net, reentrant: lambda x: checkpoint_sequential(net, 2, x, use_reentrant=reentrant),
    "a layer": lambda net, reentrant: lambda x: net[2](checkpoint(net[1], net[0](x), use_reentrant=reentrant)),
}


@pytest.mark.parametrize("way", CHECKPOINTS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_of_activations(way, reentrant, backend):
    net = make_net(backend=backend).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    run = CHECKPOINTS[way](net, reentrant)
    assert torch.equal(run(x), net(x))
    for ours, expected in zip(backward(run, net, x), backward(net, net, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", CHECKPOINTS)
@pytest.mark.parametrize("order", [1, 2])
def test_checkpoints_that_are_not_reentrant_know_every_gradient(way, order, backend):
    net = make_net(backend=backend).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    run = CHECKPOINTS[way](net, False)
    for ours, expected in zip(gradients(run, net, x, order), gradients(net, net, x, order), strict=True):
        assert (ours is None) == (expected is None)
        assert ours is None or torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_checkpoint_runs_the_layers_again(backend):
    net = make_net(backend=backend)
    x = torch.randn(5, 3, requires_grad=True)
    count = []
    handle = net.register_forward_pre_hook(lambda *_: count.append(1))  # again, up to the last tensor that is saved
    y = checkpoint(net, x, use_reentrant=False).sum()
    y.backward()
    handle.remove()
    assert len(count) == 2


def test_a_compiled_checkpoint():
    net = make_net().double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    run = torch.compile(lambda x: checkpoint(net, x, use_reentrant=False), fullgraph=True, backend="aot_eager")
    for ours, expected in zip(gradients(run, net, x), gradients(net, net, x), strict=True):
        torch.testing.assert_close(ours, expected)


# ---- averaged weights


def train(net, steps, after):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for k in range(steps):
        optimizer.zero_grad()
        net(torch.linspace(-1, 1, 24).reshape(8, 3) * (k + 1) / steps).square().sum().backward()
        optimizer.step()
        after()


def test_stochastic_weight_averaging():
    """SWA is the mean of the weights after each step; the grid, a buffer, is the model's."""
    net, states = make_net(), []
    averaged = swa_utils.AveragedModel(net)

    def after():
        averaged.update_parameters(net)
        states.append([p.detach().clone() for p in net.parameters()])

    train(net, 4, after)
    for made, *each in zip(averaged.module.parameters(), *states, strict=True):
        torch.testing.assert_close(made, torch.stack(each).mean(0))
    assert torch.equal(averaged.module[0].knots, net[0].knots)
    x = torch.rand(20, 3)
    before = [t.clone() for t in averaged.module.state_dict().values()]
    swa_utils.update_bn([x], averaged)  # there are no batch statistics: nothing to update
    assert all(torch.equal(a, b) for a, b in zip(before, averaged.module.state_dict().values(), strict=True))
    assert averaged(x).shape == (20, 2)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_exponential_averages(use_buffers):
    net = make_net()
    start = copy.deepcopy(net)
    averaged = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    states = []

    def after():
        averaged.update_parameters(net)
        states.append([p.detach().clone() for p in net.parameters()])

    train(net, 3, after)
    for made, first, *each in zip(averaged.module.parameters(), *states, strict=True):
        expected = first  # of the first update
        for p in each:
            expected = 0.9 * expected + 0.1 * p
        torch.testing.assert_close(made, expected)
    assert not torch.equal(start[0].weight, net[0].weight)
    torch.testing.assert_close(averaged.module[0].knots, net[0].knots)


def test_an_average_follows_the_grid():
    """match_grids brings the average to a refined grid; after that it goes on averaging."""
    net = make_net()
    averaged = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    train(net, 2, lambda: averaged.update_parameters(net))
    net.refine(10)
    x = torch.rand(9, 3)
    before = averaged(x).detach()
    fastkan.match_grids(averaged.module, net)
    torch.testing.assert_close(averaged(x), before, rtol=1e-4, atol=1e-5)
    train(net, 1, lambda: averaged.update_parameters(net))
    assert averaged.module[0].grid_size == 10


def test_the_swa_schedule_and_the_state_of_an_average():
    net = make_net()
    averaged = swa_utils.AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=1)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    averaged.update_parameters(net)
    again = swa_utils.AveragedModel(make_net())
    again.load_state_dict(averaged.state_dict())
    x = torch.rand(4, 3)
    assert torch.equal(again(x), averaged(x))


# ---- scaled gradients


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_scaler_scales_gradients_and_takes_it_back(dtype):
    """Under autocast: the gradients before unscale_ are 2^10 those after, which are those of a loss without a scaler."""
    net, plain = make_net(), make_net()
    x = torch.rand(16, 3)

    def loss(net):
        with torch.autocast("cpu", dtype):
            y = net(x)
        assert y.dtype == dtype
        return y.float().square().mean()

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler.scale(loss(net)).backward()
    scaled = [p.grad.clone() for p in net.parameters()]
    scaler.unscale_(optimizer)
    loss(plain).backward()
    for p, q, s in zip(net.parameters(), plain.parameters(), scaled, strict=True):
        assert p.grad.dtype == torch.float32
        torch.testing.assert_close(p.grad, s / 2**10)
        torch.testing.assert_close(p.grad, q.grad, rtol=2e-2, atol=1e-3)
    before = net[0].weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(net[0].weight, before - 0.1 * net[0].weight.grad)


def test_a_scaler_skips_a_step_that_overflowed():
    """float16 ends at 65,504: the weights stay, and the scale is halved."""
    net, x = make_net(), torch.rand(16, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    before = [p.detach().clone() for p in net.parameters()]
    with torch.autocast("cpu", torch.float16):
        y = net(x)
    scaler.scale(y.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**29
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
