"""replace_linear: the same function afterwards, shared blocks shared, settings, modes and training."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from fastkan import KANLinear, ReplaceReport, replace_linear

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Nested(nn.Module):
    """Linears at several depths and in every container."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.list = nn.ModuleList([nn.Linear(5, 5), nn.Sequential(OrderedDict(inner=nn.Linear(5, 5, bias=False), act=nn.Tanh()))])
        self.heads = nn.ModuleDict({"a": nn.Linear(5, 2), "b": nn.Linear(5, 3)})

    def forward(self, x):
        x = self.first(x)
        for block in self.list:
            x = block(x)
        return torch.cat([head(x) for head in self.heads.values()], dim=-1)


NESTED = ["first", "list.0", "list.1.inner", "heads.a", "heads.b"]


class Initialised(nn.Module):
    """Touches its block's weight, but only to initialise it; a comment is no reading: self.fc.weight."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        nn.init.orthogonal_(self.fc.weight)

    def _init_weights(self):
        self.fc.weight.data.normal_()

    def forward(self, x):
        return self.fc(x)  # not self.fc.weight


def linear_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def kan_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, KANLinear)]


@pytest.mark.parametrize("activation", ["identity", "silu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_block_is_replaced_and_the_function_stays(dtype, activation):
    model = Nested().to(dtype)
    exactly = copy.deepcopy(model).double()
    # The splines carry the map only on their grid, so let it hold every activation.
    report = replace_linear(model, activation=activation, grid_range=(-8.0, 8.0))
    assert report == ReplaceReport(NESTED, {})
    assert kan_names(model) == NESTED
    assert not linear_names(model)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    x = torch.randn(20, 6, dtype=dtype)
    with torch.no_grad():
        want = exactly(x.double())
        error = (model(x).double() - want).abs().max()
    # Four layers of gain below 2, each off by a few roundings; splines add those of coefficients up to 8 + the knots past it.
    assert error <= 4 * 16 * torch.finfo(dtype).eps * (16 if activation == "silu" else 1)


def test_settings_reach_every_block():
    model = Nested()
    replace_linear(model, grid_size=7, degree=2, grid_range=(-2.0, 3.0), activation="tanh", backend="reference")
    for layer in (model.get_submodule(name) for name in NESTED):
        assert (layer.grid_size, layer.degree, layer.grid_range, layer.activation) == (7, 2, (-2.0, 3.0), "tanh")
        assert layer.backend == "reference"


def test_the_filter_sees_names_and_modules():
    model = Nested()
    seen = {}
    report = replace_linear(model, lambda name, linear: seen.setdefault(name, linear) is not None and linear.out_features == 5)
    assert list(seen) == NESTED
    assert all(type(linear) is nn.Linear for linear in seen.values())
    assert report.replaced == kan_names(model) == ["first", "list.0", "list.1.inner"]
    assert linear_names(model) == ["heads.a", "heads.b"]
    assert report.refused == {}


def test_mode_gradient_flags_and_device_are_kept():
    model = Nested()
    model.heads["b"] = nn.Linear(5, 3, device="meta")
    model.heads.eval()
    model.first.requires_grad_(False)
    replace_linear(model)
    assert [model.get_submodule(name).training for name in NESTED] == [True, True, True, False, False]
    assert {parameter.requires_grad for parameter in model.first.parameters()} == {False}
    assert {parameter.requires_grad for parameter in model.list.parameters()} == {True}
    assert {tensor.device.type for tensor in model.heads["b"].parameters()} == {"meta"}


def test_a_shared_module_stays_shared():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Sequential(shared))
    x = torch.randn(3, 4)
    want = model(x)
    assert replace_linear(model).replaced == ["0", "2", "3.0"]
    assert model[0] is model[2]
    assert model[0] is model[3][0]
    assert len(list(model.parameters())) == 2
    torch.testing.assert_close(model(x), want, rtol=0, atol=64 * torch.finfo(torch.float32).eps)


def test_a_materialised_lazy_linear_is_replaced():
    model = nn.Sequential(nn.LazyLinear(3))
    assert replace_linear(model).refused == {"0": "LazyLinear is a subclass of nn.Linear with behaviour of its own"}
    model(torch.zeros(2, 4))
    assert replace_linear(model).replaced == ["0"]
    assert model(torch.zeros(2, 4)).shape == (2, 3)


def test_a_weight_touched_only_by_an_initialiser_or_comment_is_replaced():
    assert replace_linear(nn.Sequential(Initialised())).replaced == ["0.fc"]


def test_training_goes_on():
    model = Nested()
    replace_linear(model)
    x, target = torch.randn(64, 6), torch.randn(64, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(10):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(model.get_submodule(name).weight.grad[:, :-1].any() for name in NESTED)  # splines take part


def test_a_replaced_model_compiles_whole():
    model = Nested()
    replace_linear(model)
    x = torch.randn(8, 6)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=64 * torch.finfo(torch.float32).eps)
    compiled(x).sum().backward()
    assert model.first.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "settings", [{"grid_size": 0}, {"degree": 0}, {"activation": "sin"}, {"backend": "x"}, {"grid_range": (1, 0)}]
)
def test_a_wrong_setting_is_named_and_leaves_the_model_untouched(settings):
    model = Nested()
    modules = list(model.modules())
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: expected"):
        replace_linear(model, **settings)
    assert list(model.modules()) == modules


def test_the_model_itself_cannot_be_exchanged():
    with pytest.raises(ValueError, match=r"^model: expected a module that contains nn.Linear, .*use KANLinear.from_linear"):
        replace_linear(nn.Linear(3, 4))
    with pytest.raises(TypeError, match=r"^model: expected an nn.Module, received list"):
        replace_linear([nn.Linear(3, 4)])


def test_the_report_reads_as_text():
    assert str(replace_linear(nn.Sequential(nn.ReLU()))) == "replaced 0: none"
    text = str(replace_linear(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4), nn.Linear(4, 4))))
    assert text == "replaced 2: 0, 2\nrefused 1: LazyLinear is a subclass of nn.Linear with behaviour of its own"
