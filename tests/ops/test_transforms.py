"""torch.func over the operations: gradients through and inside of vmap, every order of transforms, models as users call them."""

import pytest
import torch
from batches import assert_close, batch, choices, inputs_of, operation, settings_of
from contract.cases import Case, make_inputs
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap
from torch.utils.flop_counter import FlopCounterMode

import fastkan
from fastkan import backends, ops
from fastkan.backends import registry
from fastkan.ops import OPERATIONS

SMALL = Case(1, 2, 1, grid_size=1, degree=3, knots="spread", row_weight=True)


def extremes(tensors):
    """One tensor alone, and all of them."""
    return [chosen for chosen in choices(tensors) if len(chosen) in (1, len(tensors))]


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradcheck_through_vmap(name, backend):
    """Reverse and forward mode, with the graph outside of the vmap."""
    settings, tensors = settings_of(SMALL, name, backend), inputs_of(name, SMALL, 2)
    for chosen in extremes(tensors):
        arguments, dims, _ = batch(tensors, chosen)
        *free, knots = arguments
        free = [t.clone().requires_grad_() for t in free]

        def run(*free, dims=dims, knots=knots):
            return vmap(lambda *all: getattr(ops, name)(*all, *settings), dims)(*free, knots)

        assert torch.autograd.gradcheck(run, free, check_forward_ad=True, check_batched_grad=False, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradgradcheck_through_vmap(name, backend):
    settings, tensors = settings_of(SMALL, name, backend), inputs_of(name, SMALL, 2)
    *free, knots = tensors
    free = [t.clone().requires_grad_() for t in free]
    assert torch.autograd.gradgradcheck(lambda *free: vmap(lambda *all: getattr(ops, name)(*all, *settings))(*free, knots), free)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_every_call(name, backend):
    """grad inside of the vmap, and jvp, and a gradient of a gradient: as call by call."""
    case = Case(2, 2, 2, grid_size=3, degree=4, knots="spread", row_weight=True)
    run, tensors = operation(name, case, backend), inputs_of(name, case, 2)
    places = tuple(range(len(tensors) - 1))

    def value(*tensors):
        return run(*tensors).sin().sum()

    def slopes(*tensors):
        return sum(g.square().sum() for g in grad(value, places)(*tensors))

    def along(*tensors):
        *free, knots = tensors
        return jvp(lambda *free: slopes(*free, knots), tuple(free), tuple(t.cos() for t in free))[1]

    for chosen in choices(tensors):
        arguments, dims, calls = batch(tensors, chosen)
        for transformed in (grad(value, places), grad(slopes, places), along):
            made = vmap(transformed, dims)(*arguments)
            expected = [transformed(*call) for call in calls]
            if isinstance(made, torch.Tensor):
                assert_close(made, torch.stack(expected), 1e-10)
                continue
            for ours, each in zip(made, zip(*expected, strict=True), strict=True):
                assert_close(ours, torch.stack(each), 1e-10)


def plain(x, weight, knots):
    return fastkan.reference.forward(x, weight, None, knots, 3, "silu", 0)


@pytest.mark.parametrize("transform", ["hessian", "jacrev jacrev", "jacrev jacfwd", "jacfwd jacrev", "jacrev jacrev jacrev"])
def test_every_order_of_transforms_is_plain_autograd(transform, backend):
    """Against plain PyTorch through the reference: a wrong order of levels would lose a term in silence."""
    tensors = make_inputs(Case(2, 2, 2, knots="spread"))
    x, weight, knots = tensors["x"] + 0.0123, tensors["weight"], tensors["knots"]
    functions = (
        lambda *a: ops.forward(a[0], a[1], None, knots, 3, "silu", backend, 0).sin().sum(),
        lambda *a: plain(*a, knots).sin().sum(),
    )
    for argnums in (0, 1):
        answers = []
        for f in functions:
            for word in reversed(transform.split()):
                f = {"hessian": hessian, "jacrev": jacrev, "jacfwd": jacfwd}[word](f, argnums)
            answers.append(f(x, weight))
        assert_close(*answers, 1e-9)


def test_no_grad_means_what_it_means_for_any_operator(backend):
    """As for the reference, which is PyTorch's operators: inside of a function, around a transform, at two levels."""
    layer = fastkan.KANLinear(2, 2, backend=backend).double().requires_grad_(False)
    weight, x = layer.weight.detach(), torch.rand(3, 2, dtype=torch.float64)

    def answers(layer):
        def stopped(x):
            with torch.no_grad():
                y = layer(x)
            return (y * x).sum()

        def half(x):
            return (layer(x) * grad(stopped)(x)).sum()

        with torch.no_grad():
            outside = grad(lambda x: layer(x).square().sum())(x)
        twice = [grad(lambda x, f=f: grad(f)(x).sum())(x) for f in (stopped, half)]
        return (
            outside,
            grad(stopped)(x),
            grad(half)(x),
            *twice,
            jvp(half, (x,), (x,))[1],
            grad(lambda x: jvp(stopped, (x,), (x,))[1])(x),
        )

    ours = answers(lambda x: layer(x) - layer.bias)
    for made, expected in zip(ours, answers(lambda x: plain(x, weight, layer.knots)), strict=True):
        assert made.requires_grad == expected.requires_grad
        assert_close(made, expected)


def test_graphs_inside_and_outside(backend):
    """A layer's parameters, which require grad, under vmap(grad) by x: the loss trains them."""
    net = fastkan.KAN([2, 3, 1], bias=True, backend=backend).double()
    x = torch.rand(5, 2, dtype=torch.float64)
    slopes = vmap(grad(lambda row: net(row)[0]))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)
    assert_close(slopes(x), expected)
    parameters = list(net.parameters())
    for ours, wanted in zip(
        torch.autograd.grad(slopes(x).square().sum(), parameters, allow_unused=True),
        torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True),
        strict=True,
    ):
        assert (ours is None) == (wanted is None)
        assert ours is None or torch.allclose(ours, wanted)


def test_a_tensor_written_in_place_since_is_refused(backend):
    layer = fastkan.KANLinear(2, 2, backend=backend).double()
    x = torch.rand(3, 2, dtype=torch.float64)
    weight = layer.weight.detach().clone()
    _, pull = vjp(lambda x: functional_call(layer, {"weight": weight}, (x,)), x)
    weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pull(torch.ones(3, 2, dtype=torch.float64))


# ---- as users call it


def test_ensemble(backend):
    """stack_module_state with grids that differ: values and gradients of a loop, for shared rows and for own ones."""
    nets = [fastkan.KAN([2, 4, 1], bias=True, backend=backend).double() for _ in range(3)]
    rows = torch.rand(3, 6, 2, dtype=torch.float64)
    for net, scale in zip(nets, (1.0, 2.0, 0.5), strict=True):
        net.update_grid(scale * torch.rand(200, 2, dtype=torch.float64))
    parameters, buffers = stack_module_state(nets)
    for own in (False, True):
        run = vmap(lambda p, b, x: functional_call(nets[0], (p, b), (x,)), (0, 0, 0 if own else None))
        x = rows if own else rows[0]
        made = run(parameters, buffers, x)
        expected = [net(x[k] if own else x) for k, net in enumerate(nets)]
        assert_close(made, torch.stack(expected))
        ours = torch.autograd.grad(made.square().sum(), list(parameters.values()))
        for k, (net, y) in enumerate(zip(nets, expected, strict=True)):
            for g, wanted in zip(ours, torch.autograd.grad(y.square().sum(), list(net.parameters())), strict=True):
                assert_close(g[k], wanted)


@pytest.fixture
def calls():
    """Names of the operations that backend cpu runs."""
    served, made = backends.table()[0], []

    def counting(name, run):
        return lambda *a: made.append(name) or run(*a)

    operations = type(served.operations)(**{name: counting(name, getattr(served.operations, name)) for name in OPERATIONS})
    if served.name not in backends.available("cpu"):
        pytest.skip("the native module is not built")
    fused = counting("fused", served.fused_gradients)
    with fastkan.use_backend("cpu"), registry.replaced("cpu", operations=operations, fused_gradients=fused):
        yield made


def test_what_folds_is_one_call(calls):
    """Rows, outputs, cotangents and per-sample gradients; the members of an ensemble run one by one, their gradients fused."""
    net = fastkan.KAN([3, 4, 2])
    parameters, x = {k: p.detach() for k, p in net.named_parameters()}, torch.rand(7, 3)

    def loss(p, row):
        return functional_call(net, p, (row,)).square().sum()

    vmap(net)(x)
    assert calls == ["forward"] * 2
    calls.clear()
    vmap(grad(loss), (None, 0))(parameters, x)
    assert sorted(calls) == ["forward"] * 2 + ["grad_input"] * 3  # grad_weight is products of slots
    calls.clear()
    jacrev(lambda p: functional_call(net, p, (x,)))(parameters)
    assert sorted(calls) == ["forward"] * 2 + ["grad_input"] + ["grad_weight"] * 2
    calls.clear()
    vmap(hessian(lambda row: net(row).sum()))(x)
    assert sorted(calls) == ["forward"] * 4 + ["grad_input"] * 5
    calls.clear()
    weights = torch.stack([net[0].weight.detach()] * 5)
    vmap(lambda w: functional_call(net[0], {"weight": w}, (x,)))(weights)
    assert calls == ["forward"]
    calls.clear()
    states = stack_module_state([net] * 5)
    vmap(lambda p, b: functional_call(net, (p, b), (x,)))(*states).sum().backward()
    assert calls == ["forward"] * 10 + ["fused"] * 5 + ["grad_weight"] * 5


def test_flops_are_those_of_the_calls(backend):
    nets = [fastkan.KAN([3, 4, 2], backend=backend) for _ in range(3)]
    x, counts = torch.rand(5, 3), []
    states = stack_module_state(nets)
    by_vmap = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))
    for run in (lambda: sum(net(x).sum() for net in nets), lambda: by_vmap(*states).sum()):
        with FlopCounterMode(display=False) as counter:
            run().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
