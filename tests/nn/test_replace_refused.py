"""replace_linear refuses, with the reason, the blocks whose exchange would break the model or lose something of theirs."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from fastkan import KANLinear, replace_linear


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 4)})
        self.free = nn.Linear(4, 4)

    def forward(self, x):
        x = nn.functional.linear(x, self.fc.weight, self.fc.bias)
        return self.free(self.initial_steps(x))

    def initial_steps(self, x):  # no initialiser, for all its name
        for i in range(1):
            x = nn.functional.linear(x, self.net[i].weight)
        return nn.functional.linear(x, self.heads["a"].weight)


class Looking(nn.Module):
    """Looks at weights without computing with them, as T5's feed-forward block does."""

    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if isinstance(self.out.weight, torch.Tensor) and x.dtype != self.out.weight.dtype:
            x = x.to(self.out.weight.dtype)
        assert self.fc.weight is not None and self.fc.weight.device.type == x.device.type
        return self.out(self.fc(x))


class Inheriting(Reader):
    """Reads the weights in its parent's code."""


class MyLinear(nn.Linear):
    pass


def linear_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def kan_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, KANLinear)]


def tied():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7))
    model[2].weight = model[0].weight
    return model


def tied_bias():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].bias = model[0].bias
    return model


def tied_memory():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(7, 4), nn.Linear(7, 4, device="meta"))
    model[2].weight = nn.Parameter(model[0].weight.data.T)  # another object on the same memory
    return model


SUBCLASS = "{} is a subclass of nn.Linear with behaviour of its own"
REFUSED = {
    "subclass": (lambda: nn.Sequential(MyLinear(4, 4), nn.Linear(4, 4)), {"0": SUBCLASS.format("MyLinear")}),
    "weight tied": (tied, {"2": "its weight is tied to another module's"}),
    "memory tied": (
        tied_memory,
        {
            "2": "its weight is tied to another module's",
            "3": "its weight is on the meta device, so there is no function to keep; load the model first",
        },
    ),
    "bias tied": (tied_bias, dict.fromkeys(["0", "2"], "its bias is tied to another module's")),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))),
        {"0": "its parameters are parametrized (torch.nn.utils.parametrize)"},
    ),
    "complex": (lambda: nn.Sequential(nn.Linear(4, 4, dtype=torch.cfloat)), {"0": "its dtype is torch.complex64"}),
    "reader": (Reader, dict.fromkeys(["fc", "net.0", "heads.a"], "Reader reads its .weight directly")),
    "nested reader": (
        lambda: nn.Sequential(nn.ModuleList([Inheriting()])),
        dict.fromkeys(["0.0.fc", "0.0.net.0", "0.0.heads.a"], "Inheriting reads its .weight directly"),
    ),
}


@pytest.mark.parametrize("build, refused", REFUSED.values(), ids=list(REFUSED))
def test_a_block_that_would_break_is_refused_with_its_reason(build, refused):
    model = build()
    others = [name for name in linear_names(model) if name not in refused]
    kept = {name: model.get_submodule(name) for name in refused}
    report = replace_linear(model)
    assert report.refused == refused and not [name for name in report.left if name.startswith(tuple(refused))]
    assert report.replaced == kan_names(model) == others
    assert all(model.get_submodule(name) is linear for name, linear in kept.items())


def test_looking_at_a_weight_is_no_reading():
    model = nn.Sequential(Looking())
    assert replace_linear(model).replaced == ["0.fc", "0.out"]
    assert model(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float32


def test_a_shared_module_is_refused_everywhere_if_refused_or_filtered_out_somewhere():
    model = nn.ModuleDict({"reader": Reader(), "alias": nn.Sequential(nn.Linear(4, 4))})
    model["alias"][0] = model["reader"].fc
    report = replace_linear(model, lambda name, linear: name in ("alias.0", "reader.fc"))
    assert not report.replaced
    assert report.refused == dict.fromkeys(["reader.fc", "alias.0"], "Reader reads its .weight directly")
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, shared)
    assert replace_linear(model, lambda name, linear: name == "1").refused == {"1": "the filter leaves it out at 0"}
    assert model[0] is model[1] is shared


def old_weight_norm(linear):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(linear)


def patched(linear):
    linear.forward = lambda x: x
    return linear


def dispatched(linear):  # what accelerate's add_hook_to_module leaves
    linear._hf_hook, linear._old_forward = object(), linear.forward
    return patched(linear)


def weight_hooked(linear):
    linear.weight.register_hook(lambda gradient: 2 * gradient)
    return linear


class MyParameter(nn.Parameter):
    pass


def own_parameter(linear):
    linear.weight = MyParameter(linear.weight.detach())
    return linear


LOST = "it has hooks, which a new layer would lose"
ATTACHED = {
    "forward": (lambda linear: linear.register_forward_hook(print) and linear, LOST),
    "forward pre": (lambda linear: linear.register_forward_pre_hook(print) and linear, LOST),
    "backward": (lambda linear: linear.register_full_backward_hook(print) and linear, LOST),
    "state_dict": (lambda linear: linear.register_state_dict_post_hook(lambda *_: None) and linear, LOST),
    "load": (lambda linear: linear.register_load_state_dict_post_hook(print) and linear, LOST),
    "pruned": (lambda linear: prune.l1_unstructured(linear, "weight", 0.5), LOST),
    "old weight_norm": (old_weight_norm, "torch.nn.utils.weight_norm computes its weight; remove_weight_norm first"),
    "old spectral_norm": (spectral_norm, "torch.nn.utils.spectral_norm computes its weight; remove_spectral_norm first"),
    "patched": (patched, "its forward is patched or compiled in place, which a new layer would lose"),
    "compiled": (
        lambda linear: linear.compile() or linear,
        "its forward is patched or compiled in place, which a new layer would lose",
    ),
    "accelerate": (
        dispatched,
        "accelerate's hook moves its weights (device_map, cpu_offload); replace first, then dispatch",
    ),
    "meta": (
        lambda linear: linear.to("meta"),
        "its weight is on the meta device, so there is no function to keep; load the model first",
    ),
    "hook of the weight": (weight_hooked, "its weight has hooks, which a new parameter would lose"),
    "own parameter": (own_parameter, "its weight is a MyParameter"),
}


@pytest.mark.parametrize("attach, reason", ATTACHED.values(), ids=list(ATTACHED))
def test_a_block_with_something_attached_is_refused_by_itself(attach, reason):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(attach(nn.Linear(4, 4))))
    block = model[1][0]
    report = replace_linear(model)
    assert report.refused == {"1.0": reason}
    assert report.replaced == kan_names(model) == ["0"]
    assert model[1][0] is block


class Holder(nn.Module):
    """Calls a block under a name that is no child."""

    def __init__(self, hold):
        super().__init__()
        self.fc, self.free = nn.Linear(4, 4), nn.Linear(4, 4)
        self.held = hold(self.fc)

    def forward(self, x):
        return self.free(x)


HELD = {"list": lambda block: [block], "dict": lambda block: {"a": block}, "method": lambda block: block.forward}


@pytest.mark.parametrize("hold", HELD.values(), ids=list(HELD))
def test_a_block_that_is_held_outside_of_the_modules_is_refused(hold):
    model = nn.Sequential(Holder(hold))
    report = replace_linear(model)
    assert report.refused == {"0.fc": "0.held holds it too, outside of the modules, and would go on with it"}
    assert report.replaced == ["0.free"]


class Stubborn(nn.Module):
    """Takes no module of another class in the place of its second block."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def __setattr__(self, name, value):
        if name == "second" and not isinstance(value, nn.Linear):
            raise TypeError("second: a linear layer, please")
        super().__setattr__(name, value)


def test_a_failed_exchange_leaves_no_block_exchanged():
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), Stubborn())
    modules = list(model.modules())
    with pytest.raises(TypeError, match="a linear layer, please"):
        replace_linear(model)
    assert list(model.modules()) == modules and model[0].activation_relu_or_gelu == 1
