"""replace_linear(calibrate=batches): grids where the inputs are, and the proof that the model is the same."""

import copy

import pytest
import torch
from torch import nn

from fastkan import KANLinear, replace_linear
from fastkan.nn.replace.calibrate import UNSEEN, Range
from fastkan.splines import knots as grids

TOLERANCE = 64 * torch.finfo(torch.float32).eps
SCALES = torch.tensor([1.0, 5.0, 0.01])
SHIFTS = torch.tensor([0.0, -3.0, 5.0])


def network():
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.GELU(), nn.Linear(5, 2))


def batches(count=4, rows=50):
    return [torch.randn(rows, 3) * SCALES + SHIFTS for _ in range(count)]


def ends(layer):
    points = grids.grid_points(layer.knots, layer.degree)
    return points[:, 0], points[:, -1]


@pytest.mark.parametrize("activation", ["identity", "silu"])
def test_every_grid_lies_where_its_inputs_are_and_the_function_stays(activation):
    model = network()
    model[3].eval()
    before = copy.deepcopy(model)
    data = batches()
    report = replace_linear(model, calibrate=iter(data), activation=activation)
    assert report.replaced == ["0", "3"] and not report.refused
    assert [module.training for module in model] == [module.training for module in before]
    x = torch.cat(data)
    hidden = before.eval()[:3](x)
    for layer, inputs in ((model[0], x), (model[3], hidden)):
        low, high = ends(layer)
        width = inputs.amax(0) - inputs.amin(0)
        assert ((low <= inputs.amin(0)) & (inputs.amax(0) <= high)).all()
        assert (high - low < 1.06 * width).all()
    want = before(x)
    error = (model.eval()(x) - want).abs().max()
    assert error <= TOLERANCE * want.abs().max() * (16 if activation == "silu" else 1)


def test_a_range_is_the_same_in_pieces_and_cut_far_out():
    x = torch.randn(10_000, 2)
    x[7, 1] = 1e4
    whole, pieces = Range(2, x.device), Range(2, x.device)
    whole.add(x)
    for piece in x.split(999):
        pieces.add(piece)
    pieces.add(x[:0])
    low, high = whole.ends(16)
    torch.testing.assert_close(torch.stack(pieces.ends(16)), torch.stack((low, high)))
    assert (low[0], high[0]) == (x[:, 0].min(), x[:, 0].max())
    assert high[1] < 2000  # 100 deviations out


@pytest.mark.parametrize("activation, cut", [("identity", True), ("silu", False)])
def test_a_grid_is_cut_only_where_the_function_stays(activation, cut):
    """With any activation but identity the splines hold the linear map on their grid alone."""
    x = torch.randn(10_000, 3)
    x[7] = 1e4
    model = nn.Sequential(nn.Linear(3, 2))
    want = model(x)
    replace_linear(model, calibrate=[x], activation=activation)
    assert bool((ends(model[0])[1] < 2000).all()) is cut
    torch.testing.assert_close(model(x), want, rtol=0, atol=1e4 * TOLERANCE)


def test_inputs_that_never_differ_keep_their_grid_or_take_it_with_them():
    model = nn.Sequential(nn.Linear(3, 2))
    replace_linear(model, calibrate=[torch.tensor([[0.5, 40.0, 0.0]]).expand(9, 3)])
    low, high = ends(model[0])
    assert (low[0], high[0]) == (-1, 1) and low[1] < 40 < high[1]
    assert model(torch.randn(4, 3)).isfinite().all()


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.conv = nn.Linear(3, 4), nn.Conv1d(4, 2, 1)

    def forward(self, x, scale=1.0):
        return {"y": [self.conv(self.fc(input=x * scale).mT)], "none": None}


KINDS = {"tensor": lambda x: x, "tuple": lambda x: (x, 2.0), "mapping": lambda x: {"x": x, "scale": 2.0}}


@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
def test_a_batch_is_a_tensor_a_tuple_or_a_mapping(make):
    model = Keywords()
    x = torch.randn(4, 50, 3)
    hidden = model.fc(x * (1 if torch.is_tensor(make(x)) else 2))
    assert replace_linear(model, calibrate=[make(x)]).replaced == ["fc", "conv"]
    low, high = ends(model.conv.layer)
    assert ((low <= hidden.amin((0, 1))) & (hidden.amax((0, 1)) <= high) & (high - low < 20)).all()


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), {"x": torch.zeros(2, 3)}, 3])
def test_what_is_no_iterable_of_batches_is_named(wrong):
    with pytest.raises(TypeError, match="^calibrate: expected an iterable of batches, such as .batch., received"):
        replace_linear(network(), calibrate=wrong)


def test_no_batch_and_bad_inputs_leave_the_model_untouched():
    model = network()
    modules = list(model.modules())
    with pytest.raises(ValueError, match="^calibrate: expected at least one batch, received none"):
        replace_linear(model, calibrate=[])
    with pytest.raises(ValueError, match="^calibrate: expected finite inputs of every block, received NaN or infinity at 0, 3"):
        replace_linear(model, calibrate=[torch.full((2, 3), torch.nan)])
    with pytest.raises(ZeroDivisionError):
        replace_linear(model, calibrate=(torch.randn(2, 3) / (1 // (2 - i)) for i in range(3)))
    assert list(model.modules()) == modules and all(module.training for module in modules)
    assert not any(module._forward_pre_hooks for module in modules)


class Noisy(nn.Module):
    """Draws random numbers in eval mode too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x) + torch.randn(2)


def test_a_model_that_draws_random_numbers_is_compared_with_the_same_ones():
    data = [torch.ones(20, 3)]
    assert replace_linear(Noisy(), calibrate=data).replaced == ["fc"]
    model = Noisy()
    state = torch.get_rng_state()
    replace_linear(model, calibrate=data)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_roundings_are_no_difference(dtype, autocast):
    model = nn.Sequential(*[nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(8)]).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        report = replace_linear(model, calibrate=[torch.randn(64, 32, dtype=dtype)], activation="silu")
    assert len(report.replaced) == 8


class Shift(nn.Module):
    def forward(self, x):
        return x.add_(1)


@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
def test_a_model_that_writes_into_its_inputs_is_compared_on_the_same_ones(make):
    model = Keywords()
    model.fc = nn.Sequential(Shift(), nn.Linear(3, 4))
    model.forward = lambda x, scale=1.0: model.conv(model.fc(x).mT)
    assert len(replace_linear(model, calibrate=[make(torch.randn(4, 20, 3))]).replaced) == 2


def test_a_model_that_was_compiled_in_place_is_watched_too():
    model = network()
    model.compile(backend="eager")
    data = batches()
    with torch.no_grad():
        model.eval()(data[0])  # the same graph as calibrate's
    assert replace_linear(model, calibrate=data).replaced == ["0", "3"]
    x = torch.randn(4, 3)
    want = model.eval()(x)
    with torch.no_grad():
        model[0].weight.add_(1)
    assert not torch.equal(model(x), want)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.a(x)


def test_a_dry_run_with_batches_names_what_they_do_not_reach():
    model = Two()
    report = replace_linear(model, calibrate=batches(), dry_run=True)
    assert (report.replaced, report.refused) == (["a"], {"b": UNSEEN})
    assert type(model.a) is nn.Linear
    assert replace_linear(model, calibrate=batches()).refused == {"b": UNSEEN}
    assert type(model.a) is KANLinear and type(model.b) is nn.Linear


class Alias(nn.Module):
    """Takes the weight of a block under another name, which no source shows."""

    def __init__(self, use):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
        self.use = use

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.use(self, self.blocks[2], x)


ALIASES = {
    "raises RuntimeError": lambda model, layer, x: nn.functional.linear(x, layer.weight),
    "gives other outputs, by": lambda model, layer, x: x * layer.weight.mean().exp(),
    "gives outputs of other shapes": lambda model, layer, x: layer.weight,
}


@pytest.mark.parametrize("reason, use", ALIASES.items(), ids=list(ALIASES))
def test_a_weight_read_under_another_name_is_found_and_nothing_is_changed(reason, use):
    model = Alias(use)
    modules = list(model.modules())
    with pytest.raises(RuntimeError, match="^calibrate: expected the same model after the exchange, received one that") as caught:
        replace_linear(model, calibrate=batches())
    assert reason in str(caught.value) and "The cause: blocks.2." in str(caught.value)
    assert list(model.modules()) == modules and not any(module._forward_pre_hooks for module in modules)
    assert len(replace_linear(model, lambda name, block: name != "blocks.2", calibrate=batches()).replaced) == 3


class Detour(Alias):
    def __init__(self):
        super().__init__(None)
        block = self.blocks[1]
        self.other = lambda x: block(x)

    def forward(self, x):
        return self.other(self.blocks[0](x))


def test_a_block_that_is_called_through_something_else_is_found():
    with pytest.raises(RuntimeError, match="one that does not call them; nothing was changed. The cause: blocks.1."):
        replace_linear(Detour(), calibrate=batches())


def test_an_encoder_with_padding_is_calibrated():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    batch = {"src": 10 * torch.randn(2, 5, 8), "src_key_padding_mask": padding}
    report = replace_linear(model, calibrate=[batch])
    assert len(report.replaced) == 6 and model.layers[0].linear1.knots.max() > 1.5
    assert not model.use_nested_tensor
    other = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    replace_linear(other, calibrate=[batch], dry_run=True)
    assert other.use_nested_tensor and other.layers[0].activation_relu_or_gelu == 1
