"""Whole models in torch.compile: transforms of torch.func and residuals in one graph, and how often it compiles again."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import AotEagerAndRecordGraphs, CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

import fastkan
from fastkan import KAN, KANLinear


def make_net(widths=(2, 3, 1), **settings):
    return KAN(widths, **settings).double().requires_grad_(False)


def rows(count=5, inputs=2):
    return torch.rand(count, inputs, dtype=torch.float64)


# ---- torch.func inside


def of_row(net):
    return lambda row: net(row)[0]


def per_sample(net):
    parameters = dict(net.named_parameters())
    by_rows = vmap(grad(lambda p, row: functional_call(net, p, (row,)).square().sum()), (None, 0))
    return lambda x: tuple(by_rows(parameters, x).values())


def ensemble(net):
    states = stack_module_state([net, make_net()])
    return lambda x: vmap(lambda p, b: functional_call(net, (p, b), (x,)))(*states)


TRANSFORMS = {
    "vmap": vmap,
    "vmap of grad": lambda net: vmap(grad(of_row(net))),
    "vmap of hessian": lambda net: vmap(hessian(of_row(net))),
    "vmap of jacrev of jacrev": lambda net: vmap(jacrev(jacrev(of_row(net)))),
    "vmap of jacrev of jacfwd": lambda net: vmap(jacrev(jacfwd(of_row(net)))),
    "jvp": lambda net: lambda x: jvp(net, (x,), (x,)),
    "jvp of grad": lambda net: lambda x: jvp(grad(lambda x: net(x).sum()), (x,), (x,)),
    "vjp": lambda net: lambda x: vjp(net, x)[1](x[:, :1])[0],
    "per-sample": per_sample,
    "ensemble": ensemble,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_in_one_graph_of_operations(name):
    """With the kernels of the eager run, not with the reference's operators."""
    function, x = TRANSFORMS[name](make_net()), rows()
    recorded = AotEagerAndRecordGraphs()
    made = torch.compile(function, fullgraph=True, backend=recorded)(x)
    torch.testing.assert_close(made, function(x))
    assert len(recorded.graphs) == 1
    (graph,) = recorded.fw_graphs
    assert any("fastkan" in str(node.target) for node in graph.graph.nodes)
    assert not any("sigmoid" in str(node.target) for node in graph.graph.nodes)


def test_vmap_of_hessian_by_inductor():
    """Its code takes the strides that a fake said for what they are."""
    net = make_net()
    for name in ("vmap of hessian", "per-sample"):
        function, x = TRANSFORMS[name](net), rows()
        torch.testing.assert_close(torch.compile(function, fullgraph=True)(x), function(x))


def test_forward_mode_over_forward_mode_is_refused():
    net = make_net()

    def twice(x):
        return jvp(lambda x: jvp(net, (x,), (x,))[1], (x,), (x,))[1]

    with pytest.raises(Exception, match="forward mode over forward mode gives zeros"):
        torch.compile(twice, fullgraph=True, backend="aot_eager")(rows())


def test_dual_tensors_keep_their_tangents():
    net, x = make_net(), rows()

    def tangent(x):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(net(forward_ad.make_dual(x, x))).tangent

    made = torch.compile(tangent, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(made, jvp(net, (x,), (x,))[1])


# ---- residuals


def by_torch_func(net, x):
    """u, its gradient, its second derivative by the first input."""
    u = of_row(net)
    return net(x)[:, 0], vmap(grad(u))(x), vmap(hessian(u))(x)[:, 0, 0]


def by_jet(net, x):
    u, first, second = fastkan.jet(net, x, coefficients=[1.0, 0.0])
    return u[:, 0], first[..., 0].T, second[:, 0]


def by_autograd(net, x):
    u = net(x)[:, 0]
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)
    return u, first, second[:, 0]


@pytest.mark.parametrize("way", [by_torch_func, by_jet, by_autograd])
def test_training_on_a_residual_is_one_graph(way):
    """u_xx + u_y = u: the losses of five steps are those of eager mode, and one graph is compiled for all of them."""

    def losses(compiler):
        net = KAN([2, 4, 1], seed=0).double()

        def residual(x):
            u, first, second = way(net, x)
            return (second + first[:, 1] - u - 1).square().mean()

        run, x = (
            compiler(residual),
            torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2).requires_grad_(way is by_autograd),
        )
        optimizer, found = torch.optim.SGD(net.parameters(), lr=0.01), []
        for _ in range(5):
            optimizer.zero_grad()
            loss = run(x)
            loss.backward(inputs=list(net.parameters()))
            optimizer.step()
            found.append(loss.detach())
        return torch.stack(found)

    counter = CompileCounterWithBackend("aot_eager")
    with torch._dynamo.config.patch(trace_autograd_ops=way is by_autograd):
        made = losses(lambda f: torch.compile(f, fullgraph=True, backend=counter))
    assert counter.frame_count == 1
    expected = losses(lambda f: f)
    torch.testing.assert_close(made, expected)
    assert expected[-1] < expected[0]


# ---- how often anything is compiled


@pytest.fixture
def compiled():
    """compiled(function) and .frame_count, how many graphs were compiled so far."""
    counter = CompileCounterWithBackend("aot_eager")

    def compile(function):
        return torch.compile(function, fullgraph=True, backend=counter)

    compile.count = lambda: counter.frame_count
    return compile


def test_batch_sizes(compiled):
    """One graph for the first size, one for all others, and one each for the sizes 1 and 0, as PyTorch treats them."""
    run, counts = compiled(KAN([3, 4, 2])), []
    for size in (5, 7, 9, 33, 2, 64):
        run(torch.rand(size, 3))
        counts.append(compiled.count())
    assert counts == [1, 2, 2, 2, 2, 2]
    for size in (1, 0, 1, 0, 17):
        run(torch.rand(size, 3))
    assert compiled.count() == 4


def test_a_deep_model_of_equal_layers_is_one_graph(compiled):
    net, x = KAN([4] * 9), torch.rand(5, 4)
    torch.testing.assert_close(compiled(net)(x), net(x))
    assert compiled.count() == 1


def test_layers_compiled_by_themselves_share_their_graphs():
    """The input of the first takes no gradient, those of the others do: two graphs."""
    net, x, counter = KAN([4] * 9), torch.rand(5, 4), CompileCounterWithBackend("aot_eager")
    for layer in net:
        layer.compile(fullgraph=True, backend=counter)
    net(x)
    assert counter.frame_count == 2


@pytest.mark.parametrize(
    "make", [lambda: KAN([3, 4, 2]), lambda: KANLinear(3, 2), lambda: nn.Sequential(KANLinear(3, 4), KANLinear(4, 2))]
)
def test_instances_of_one_class(make, compiled):
    for _ in range(12):  # more than PyTorch compiles of one function
        net, x = make(), torch.rand(5, 3)
        torch.testing.assert_close(compiled(net)(x), net(x))
    assert compiled.count() == 1


def test_a_change_of_the_grid(compiled):
    """update_grid costs nothing, a refine one graph: the number of slots is a constant of the program."""
    net, x = KAN([3, 4, 2]), torch.rand(200, 3)
    run = compiled(net)
    for k in range(3):
        torch.testing.assert_close(run(x), net(x))
        run(x).sum().backward()
        net.update_grid(x * (k + 1))
    assert compiled.count() == 1
    for number, grid_size in enumerate((10, 20, 40), 2):
        net.refine(grid_size)
        torch.testing.assert_close(run(x), net(x))
        assert compiled.count() == number


def test_many_refines_with_grids_of_any_size(compiled):
    """The settings that docs/how-to/compile.md names: two graphs for nine grids, where PyTorch's limit is eight of a function."""
    net, x = KAN([3, 4, 2]), torch.rand(50, 3)
    settings = {"force_parameter_static_shapes": False, "force_nn_module_property_static_shapes": False}
    with torch._dynamo.config.patch(settings):
        run = compiled(net)
        for grid_size in (5, 6, 8, 10, 12, 14, 20, 40, 80):
            net.refine(grid_size)
            torch.testing.assert_close(run(x), net(x))
    assert compiled.count() == 2


def test_modes(compiled):
    """train and eval are one graph; no_grad has one of its own, autocast too; a backend is chosen at run time."""
    net, x = KAN([3, 4, 2]), torch.rand(5, 3)
    run = compiled(net)

    def again():
        run(x)
        net.train(not net.training)
        run(x)
        return compiled.count()

    assert again() == 1
    for name in ("reference", *(["cpu"] if "cpu" in fastkan.backends.available("cpu") else [])):
        with fastkan.use_backend(name):
            assert again() == 1
    with torch.no_grad():
        assert again() == 2
    with torch.autocast("cpu", torch.bfloat16):
        assert again() == 3
    with torch.no_grad():
        assert again() == 3
    assert again() == 3
