"""nn.MultiheadAttention after replace_linear swapped its out_proj: the attention calls it, and computes the same."""

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KANLinear, replace_linear
from fastkan.nn.replace.attention import REASON, CallingAttention

TOLERANCE = 1e-6
N, L, S, E, H = 3, 5, 4, 8, 2
BLOCKED = torch.tensor([[False] * 3 + [True], [False] * 4, [False, True, False, False]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(S)
BUILT = {
    "plain": {},
    "one head": {"num_heads": 1},
    "dropout": {"dropout": 0.3},
    "no bias": {"bias": False},
    "bias_kv": {"add_bias_kv": True},
    "zero_attn": {"add_zero_attn": True},
    "bias_kv and zero_attn": {"add_bias_kv": True, "add_zero_attn": True},
    "kdim and vdim": {"kdim": 6, "vdim": 7},
    "kdim alone": {"kdim": 6, "add_bias_kv": True},
}
CALLED = {
    "weights": {},
    "weights of heads": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
    "padding": {"key_padding_mask": BLOCKED},
    "float padding": {"key_padding_mask": torch.zeros(N, S).masked_fill(BLOCKED, -torch.inf), "need_weights": False},
    "mask": {"attn_mask": torch.ones(L, S).tril(1) == 0},
    "float mask": {"attn_mask": torch.randn(L, S), "need_weights": False},
    "mask of heads": {"attn_mask": torch.randn(N * H, L, S)},
    "mask and padding": {"attn_mask": torch.randn(L, S) > 1.5, "key_padding_mask": BLOCKED, "need_weights": False},
}


def attention(num_heads=H, **settings):
    module = nn.MultiheadAttention(E, num_heads, **settings)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)  # biases start at 0
    return module


def swapped_and_not(module):
    swapped = copy.deepcopy(module)
    report = replace_linear(swapped)
    assert report.replaced == ["out_proj"] and report.changed == {"": REASON}
    assert type(swapped.out_proj) is KANLinear and isinstance(swapped, nn.MultiheadAttention)
    return swapped, module


def assert_same(swapped, module, *inputs, **call):
    """Outputs, weights and gradients in training; outputs in eval with and without gradients, where there is a fused path."""
    assert swapped.training and module.training
    for training, gradients in ((True, True), (True, False), (False, True), (False, False)):
        results = []
        for each in (swapped, module):
            torch.manual_seed(0)
            with torch.set_grad_enabled(gradients):
                results.append(each.train(training)(*inputs, **call))
        torch.testing.assert_close(*results, rtol=0, atol=TOLERANCE)
        if training and gradients:
            ours, expected = (torch.autograd.grad(y.square().sum(), inputs, allow_unused=True) for y, _ in results)
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def tensors(kdim=E, vdim=E, **_):
    return [torch.randn(*shape, requires_grad=True) for shape in ((L, N, E), (S, N, kdim), (S, N, vdim))]


@pytest.mark.parametrize("call", CALLED.values(), ids=list(CALLED))
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("built", BUILT.values(), ids=list(BUILT))
def test_it_computes_the_same(built, batch_first, call):
    if built.get("num_heads") == 1 and call.get("attn_mask", BLOCKED).ndim == 3:
        call = {**call, "attn_mask": call["attn_mask"][:N]}
    pair = swapped_and_not(attention(batch_first=batch_first, **built))
    inputs = tensors(**built)
    assert_same(*pair, *([x.transpose(0, 1) for x in inputs] if batch_first else inputs), **call)


SELF = {
    "itself": {},
    "padding": {"key_padding_mask": BLOCKED},
    "causal": {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
    "causal with weights": {"attn_mask": CAUSAL, "is_causal": True},
    "causal and padding": {"attn_mask": CAUSAL, "is_causal": True, "key_padding_mask": BLOCKED.float().cumsum(1) * -1.0},
}


@pytest.mark.parametrize("call", SELF.values(), ids=list(SELF))
@pytest.mark.parametrize("same", ["query key value", "key value", "query key"])
def test_self_attention_computes_the_same(same, call):
    """One tensor for several is projected at once; in eval without gradients the original is fused."""
    pair = swapped_and_not(attention(batch_first=True))
    one, other = (torch.randn(N, S, E, requires_grad=True) for _ in range(2))
    assert_same(*pair, *(one if name in same else other for name in ("query", "key", "value")), **call)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_unbatched_input_computes_the_same(batch_first, need_weights):
    pair = swapped_and_not(attention(batch_first=batch_first))
    inputs = [torch.randn(length, E, requires_grad=True) for length in (L, S, S)]
    assert_same(*pair, *inputs, key_padding_mask=BLOCKED[0], attn_mask=torch.randn(L, S) > 2, need_weights=need_weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_autocast(dtype):
    x = torch.randn(N, L, E)
    swapped, module = swapped_and_not(attention(batch_first=True).to(dtype))
    tolerance = 1e-12 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(swapped(*[x.to(dtype)] * 3)[0], module(*[x.to(dtype)] * 3)[0], rtol=0, atol=tolerance)
    with torch.autocast("cpu", torch.bfloat16):
        swapped, module = swapped.float(), module.float()
        torch.testing.assert_close(swapped(x, x, x)[0].float(), module(x, x, x)[0].float(), rtol=0, atol=0.05)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.free = nn.MultiheadAttention(E, H, batch_first=True), nn.Linear(E, E)

    def forward(self, x):
        return self.free(self.attention(x, x, x, need_weights=False)[0])


def moved():
    """A swapped model whose splines are not 0 any more."""
    model = Model()
    report = replace_linear(model, grid_range=(-2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval(), report


def test_the_splines_of_out_proj_are_computed_and_trained():
    model, _ = moved()
    x = torch.randn(N, L, E)
    before = model(x)
    before.square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    with torch.no_grad():
        model.attention.out_proj.weight[:, 3] += 0.5  # a spline in the middle
        assert (model(x) - before).abs().max() > 1e-3


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=list(COPIES))
def test_a_copy_calls_out_proj_too(copied):
    model, _ = moved()
    x = torch.randn(N, L, E)
    again = copied(model)
    assert type(again.attention) is CallingAttention and torch.equal(again(x), model(x))


SOURCES = {
    "state": lambda model, report: model.state_dict(),
    "config": lambda model, report: json.loads(json.dumps(report.config())),
    "description": lambda model, report: fastkan.describe(model),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_restore_takes_the_same_way(device, source):
    model, report = moved()
    with torch.device(device):
        fresh = Model()
    again = fastkan.restore(fresh, source(model, report))
    assert again.changed == report.changed == {"attention": REASON}
    assert (sorted(again.replaced), again.classes["attention"]) == (sorted(report.replaced), "MultiheadAttention")
    assert str(fresh.load_state_dict(model.state_dict(), assign=device == "meta")) == "<All keys matched successfully>"
    x = torch.randn(N, L, E)
    assert torch.equal(fresh.eval()(x), model(x))


def test_other_tools_see_what_they_saw():
    model, _ = moved()
    x = torch.randn(N, L, E)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x), rtol=0, atol=TOLERANCE)
    doubled = {name: 2 * parameter for name, parameter in model.named_parameters()}
    assert (torch.func.functional_call(model, doubled, x) - model(x)).abs().max() > 0.1
