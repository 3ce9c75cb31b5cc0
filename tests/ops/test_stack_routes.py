"""The calls that a stack of layers serves, and every one that goes to the layers one by one."""

import sys

import pytest
import torch
from stacks import CORE, counted, layer_by_layer, make_net, rows
from torch import nn
from torch.nn.utils import parametrize, prune

import fastkan
from fastkan import KAN, KANLinear, backends

pytestmark = CORE


@pytest.fixture
def calls():
    with counted() as count:
        yield count


@pytest.fixture
def declined(calls):
    """check(net, x): the answer is that of the layers, and the stack did not run."""

    def check(net, x, run=None):
        y = (run or net)(x)
        assert torch.equal(y, layer_by_layer(net, x))
        assert calls == [0, 0]

    return check


class Watched(torch.Tensor):
    pass


def hooked(attach):
    return lambda net: attach(net[1])


CHANGES = {
    "forward hook": hooked(lambda layer: layer.register_forward_hook(lambda *_: None)),
    "forward pre-hook": hooked(lambda layer: layer.register_forward_pre_hook(lambda *_: None)),
    "backward hook": hooked(lambda layer: layer.register_full_backward_hook(lambda *_: None)),
    "backward pre-hook": hooked(lambda layer: layer.register_full_backward_pre_hook(lambda *_: None)),
    "parametrized": hooked(lambda layer: parametrize.register_parametrization(layer, "weight", nn.Tanh())),
    "pruned": hooked(lambda layer: prune.l1_unstructured(layer, "weight", amount=3)),
    "own forward": hooked(lambda layer: setattr(layer, "forward", lambda x: KANLinear.forward(layer, x) + 1)),
    "another module": lambda net: net.append(nn.Tanh()),
    "no layers": lambda net: (net.pop(1), net.pop(0)),
    "another degree": lambda net: net.__setitem__(1, KANLinear(5, 1, degree=2, dtype=torch.float64)),
    "another activation": lambda net: net.__setitem__(1, KANLinear(5, 1, activation="tanh", dtype=torch.float64)),
    "another backend": lambda net: setattr(net[1], "backend", "reference"),
    "backend reference": lambda net: [setattr(layer, "backend", "reference") for layer in net],
    "a weight that is a subclass": hooked(lambda l: l._parameters.update(weight=l.weight.detach().as_subclass(Watched))),
    "a strided weight": hooked(lambda l: setattr(l.weight, "data", l.weight.data.transpose(0, 2).contiguous().transpose(0, 2))),
    "half": lambda net: net.to(torch.bfloat16),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_net_may_have_instead_of_bare_layers(change, declined):
    net = make_net()
    CHANGES[change](net)
    x = rows(5, 2)
    declined(net, x.to(torch.bfloat16) if change == "half" else x)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0, 2)], ids=str)
def test_empty_batches(shape, declined):
    declined(make_net(bias=True), rows(*shape))


def test_empty_layers(declined):
    declined(KAN([2, 0, 3], bias=True, dtype=torch.float64), rows(4, 2))


def test_large_batches(declined, monkeypatch):
    monkeypatch.setattr(sys.modules["fastkan.ops.stack"], "LARGEST", 24)
    declined(make_net(), rows(5, 2))


def test_subclasses_modes_and_other_routes(declined):
    net, x = make_net(), rows(5, 2)
    declined(net, x.as_subclass(Watched))
    with fastkan.use_backend("reference"):
        declined(net, x)
    with torch.device("cpu"):  # a function mode
        declined(net, x)
    with Passing():
        declined(net, x)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    declined(net, x)
    handle.remove()
    declined(net, x, torch.func.vmap(lambda x: net(x)))
    declined(net, x, torch.jit.trace(net, x, check_trace=False))
    declined(net, x, torch.compile(net, backend="eager", fullgraph=True))
    with torch.autograd.forward_ad.dual_level():
        declined(net, x)


class Passing(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return function(*arguments, **(keywords or {}))


def test_autocast(declined):
    net, x = make_net(dtype=torch.float32), rows(5, 2, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        declined(net, x)


def test_wrong_arguments_are_named_by_the_layers(declined):
    net = make_net()
    with pytest.raises(ValueError, match="^x: expected last dimension 2"):
        net(rows(5, 3))
    with pytest.raises(TypeError, match="^weight: expected x's dtype"):
        net(rows(5, 2, dtype=torch.float32))
    with pytest.raises(TypeError, match=r"^x: expected a torch.Tensor"):
        net(None)
    net[1].knots.requires_grad_()
    with pytest.raises(ValueError, match="^knots: expected a tensor that takes no gradient"):
        net(rows(5, 2))


def test_hooks_fire():
    net, x, seen = make_net(), rows(5, 2), []
    net.register_forward_hook(lambda *_: seen.append("net"))
    net(x)
    net[0].register_forward_hook(lambda *_: seen.append("layer"))
    net(x)
    assert seen == ["net", "layer", "net"]


def test_a_backward_pass_under_another_backend_takes_the_layers(calls):
    net, x = make_net(), rows(5, 2, grad=True)
    y = net(x).sum()
    with fastkan.use_backend("reference"):
        (slope,) = torch.autograd.grad(y, x)
    assert calls == [1, 0]
    torch.testing.assert_close(slope, torch.autograd.grad(net(x).sum(), x)[0])


def test_inference_mode_and_input_by_name(calls):
    net, x = make_net(), rows(5, 2)
    with torch.inference_mode():
        assert torch.equal(net(input=x), layer_by_layer(net, x))
    assert calls == [1, 0]


def test_addresses_are_checked():
    with pytest.raises(ValueError, match="batch must be at least 1"):
        backends.native.module.cpu_stack_forward(0, [0], [0], [0], [0], 0, [2, 1], [12], 3, "silu", "float64", 1)
    with pytest.raises(ValueError, match="length of weights must be 1"):
        backends.native.module.cpu_stack_forward(0, [0, 0], [0], [0], [0], 1, [2, 1], [12], 3, "silu", "float64", 1)
    with pytest.raises(ValueError, match="x must be the address of 16 bytes"):
        backends.native.module.cpu_stack_forward(0, [8], [8], [8], [8], 1, [2, 1], [12], 3, "silu", "float64", 1)
    with pytest.raises(ValueError, match="dtype must be float32 or float64"):
        backends.native.module.cpu_stack_forward(8, [8], [8], [8], [8], 1, [2, 1], [12], 3, "silu", "bfloat16", 1)
