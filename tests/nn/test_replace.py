"""replace_linear: the same function afterwards, shared blocks shared, settings, modes and training."""

import copy
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from fastkan import KANLinear, replace_linear
from fastkan.nn.replace.attention import REASON

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
    assert report.replaced == NESTED and not report.refused and not report.left
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
    assert report.left == dict.fromkeys(["heads.a", "heads.b"], "the filter leaves it out")


GLOBS = {
    "first": ["first"],
    "list.*": ["list.0", "list.1.inner"],
    "*.[ab]": ["heads.a", "heads.b"],
    ("heads.b", "list.1.*", "*.inner"): ["list.1.inner", "heads.b"],
    (): [],
}


@pytest.mark.parametrize("filter, names", GLOBS.items(), ids=str)
def test_a_filter_of_names_and_globs(filter, names):
    model = Nested()
    assert replace_linear(model, filter if isinstance(filter, str) else list(filter)).replaced == kan_names(model) == names


WRONG = {
    "fist": "fist'; there are first, list.0, list.1.inner, heads.a, heads.b",
    "list": "'list'; 'list' holds blocks; write 'list.*'",
    "list.1.act": "'list.1.act'; 'list.1.act' is a Tanh",
}


@pytest.mark.parametrize("pattern, message", WRONG.items(), ids=list(WRONG))
def test_a_glob_that_fits_nothing_is_an_error_also_among_others(pattern, message):
    model = Nested()
    for filter in (pattern, ["first", pattern]):
        with pytest.raises(ValueError, match="^filter: expected a name or glob that fits a linear block, received .*") as caught:
            replace_linear(model, filter)
        assert str(caught.value).endswith(message)
    assert linear_names(model) == NESTED
    with pytest.raises(TypeError, match="^filter: expected names or globs, a function"):
        replace_linear(model, 3)


def test_a_dry_run_reports_and_changes_nothing():
    model = Nested()
    modules, state = list(model.modules()), {name: value.clone() for name, value in model.state_dict().items()}
    planned = replace_linear(model, "list.*", grid_size=7, dry_run=True)
    assert planned.dry_run and list(model.modules()) == modules
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    done = replace_linear(model, "list.*", grid_size=7)
    assert (planned.replaced, planned.refused, planned.left) == (done.replaced, done.refused, done.left)
    assert planned.parameters == done.parameters and str(planned).startswith("dry run, nothing changed: replaced 2")


def test_the_report_counts_parameters():
    model = Nested()
    before = sum(parameter.numel() for parameter in model.parameters())
    report = replace_linear(model, ["first", "list.1.*"], grid_size=4, degree=2)
    assert report.parameters == (before, sum(parameter.numel() for parameter in model.parameters()))


def test_mode_and_gradient_flags_are_kept():
    model = Nested()
    model.heads.eval()
    model.first.requires_grad_(False)
    replace_linear(model)
    assert [model.get_submodule(name).training for name in NESTED] == [True, True, True, False, False]
    assert {parameter.requires_grad for parameter in model.first.parameters()} == {False}
    assert {parameter.requires_grad for parameter in model.list.parameters()} == {True}


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
    with pytest.raises(ValueError, match=r"^model: expected a module that contains linear blocks, .*use KANLinear.from_linear"):
        replace_linear(nn.Linear(3, 4))
    with pytest.raises(TypeError, match=r"^model: expected an nn.Module, received list"):
        replace_linear([nn.Linear(3, 4)])


BARE = "a bare parameter {}, which {} computes with itself"


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up = nn.Parameter(torch.zeros(3, 4, 2))


def test_the_report_is_one_table_in_which_equal_lines_are_merged():
    layers = [nn.ModuleDict({"up": nn.Linear(4, 8), "down": nn.Linear(8, 4)}) for _ in range(12)]
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(7, 4),
            "layers": nn.ModuleList(layers),
            "conv": nn.Conv2d(3, 3, 3),
            "attention": nn.MultiheadAttention(4, 2),
            "experts": Experts(),
            "lazy": nn.LazyLinear(4),
            "head": nn.Linear(4, 7),
            "kan": KANLinear(2, 2),
        }
    )
    report = replace_linear(model, lambda name, block: name != "head")
    before, after = report.parameters
    head, *lines = str(report).split("\n")
    assert head == f"replaced 25, refused 1, left alone 6; parameters: {before:,} before, {after:,} after"
    assert len({line.index(word) for line, word in zip(lines, ("name", "layers.*.up", "layers.*.down"), strict=False)}) == 1
    assert [re.split("  +", line) for line in lines] == [
        ["", "name", "count", "class", "reason"],
        ["replaced", "layers.*.up", "12", "Linear"],
        ["replaced", "layers.*.down", "12", "Linear"],
        ["replaced", "attention.out_proj", "1", "NonDynamicallyQuantizableLinear"],
        ["refused", "lazy", "1", "LazyLinear", "LazyLinear is a subclass of nn.Linear with behaviour of its own"],
        ["left alone", "head", "1", "Linear", "the filter leaves it out"],
        ["left alone", "embed", "1", "Embedding", "it looks rows up"],
        ["left alone", "conv", "1", "Conv2d", "kernel 3x3: only plain 1x1 convolutions are linear"],
        ["left alone", "attention.in_proj_weight", "1", "MultiheadAttention", BARE.format("12x4", "MultiheadAttention")],
        ["left alone", "experts.gate_up", "1", "Experts", BARE.format("3x4x2", "Experts")],
        ["left alone", "kan", "1", "KANLinear", "it is a KAN layer already"],
        ["changed", "attention", "1", "MultiheadAttention", REASON],
    ]
    assert str(replace_linear(nn.Sequential(nn.ReLU()))) == "replaced 0; parameters: 0 before, 0 after"
