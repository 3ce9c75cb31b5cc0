"""nn.TransformerEncoder after replace_linear: its fused inference path is off, and it computes the same in every mode."""

import copy

import pytest
import torch
from torch import nn

from fastkan import replace_linear

TOLERANCE = 256 * torch.finfo(torch.float32).eps


class MyEncoderLayer(nn.TransformerEncoderLayer):
    """Its source does not say linear1.weight; its parent's does."""


class Reading(nn.TransformerEncoderLayer):
    """Has a fused path of its own, which no setting switches off."""

    def forward(self, src, **masks):
        return src + nn.functional.linear(src, self.linear1.weight[: src.shape[-1]])


def encoder(layer_class=nn.TransformerEncoderLayer, layers=2, **settings):
    return nn.TransformerEncoder(layer_class(8, 2, 16, dropout=0.0, batch_first=True, **settings), layers)


PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
MASKS = {"none": {}, "padding": {"src_key_padding_mask": PADDING}, "causal": {"mask": CAUSAL, "is_causal": True}}


@pytest.mark.parametrize("masks", MASKS.values(), ids=list(MASKS))
@pytest.mark.parametrize("filter", [None, "*.1.*"], ids=str)
@pytest.mark.parametrize("layer_class", [nn.TransformerEncoderLayer, MyEncoderLayer])
def test_an_encoder_computes_the_same_in_every_mode(layer_class, filter, masks):
    model = encoder(layer_class)
    before = copy.deepcopy(model)
    assert model.use_nested_tensor
    report = replace_linear(model, filter)
    indices = (1,) if filter else (0, 1)
    blocks = ("self_attn.out_proj", "linear1", "linear2")
    assert report.replaced == [f"layers.{i}.{block}" for i in indices for block in blocks] and not report.refused
    assert list(report.changed) == ["", *(name for i in indices for name in (f"layers.{i}", f"layers.{i}.self_attn"))]
    x = torch.randn(2, 5, 8)
    real = ~masks.get("src_key_padding_mask", torch.zeros(2, 5, dtype=torch.bool))
    for training in (True, False):
        for gradients in (True, False):  # without gradients eval takes the fused path
            with torch.set_grad_enabled(gradients):
                want, got = before.train(training)(x, **masks), model.train(training)(x, **masks)
            torch.testing.assert_close(got[real], want[real], rtol=0, atol=TOLERANCE)
    model.train()(x, **masks).square().sum().backward()
    assert model.layers[1].linear1.weight.grad[:, :-1].any()


def test_a_copy_and_a_pickle_keep_the_fused_path_off():
    model = encoder().eval()
    replace_linear(model)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(model)(x, src_key_padding_mask=PADDING), model(x, src_key_padding_mask=PADDING))


def test_only_what_is_needed_is_switched_off():
    model = nn.Sequential(nn.Linear(6, 8), encoder())
    assert replace_linear(model, "*.linear?", dry_run=True).changed.keys() == {"1", "1.layers.0", "1.layers.1"}
    assert model[1].use_nested_tensor and model[1].layers[0].activation_relu_or_gelu
    assert not replace_linear(model, "0").changed
    assert model[1].use_nested_tensor and model[1].layers[0].activation_relu_or_gelu
    report = replace_linear(model, "*.layers.1.linear1")
    assert report.changed.keys() == {"1", "1.layers.1"}
    assert model[1].layers[0].activation_relu_or_gelu and not model[1].layers[1].activation_relu_or_gelu
    assert "changed" in str(report) and "fused inference path off" in str(report)


def test_out_proj_alone_switches_the_fused_path_of_its_layer_off():
    model = encoder().eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        want = model(x)
        report = replace_linear(model, "layers.1.self_attn.out_proj")
        assert report.changed.keys() == {"", "layers.1", "layers.1.self_attn"}
        torch.testing.assert_close(model(x), want, rtol=0, atol=TOLERANCE)
    assert model.layers[0].activation_relu_or_gelu and not model.layers[1].activation_relu_or_gelu


def test_a_fused_path_of_its_own_is_refused():
    assert replace_linear(encoder(Reading)).refused["layers.0.linear1"] == "Reading reads its .weight directly"


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_whole_transformer_computes_the_same(batch_first, dropout, calibrated):
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=dropout, batch_first=batch_first)
    before = copy.deepcopy(model)
    source, target = torch.randn(5, 5, 8), torch.randn(5, 5, 8)
    report = replace_linear(model, calibrate=[(source, target)] if calibrated else None)
    assert len(report.replaced) == 7 and not report.refused  # three attentions, two blocks of two
    for training in (True, False):
        for gradients in (True, False):
            results = []
            for each in (before, model):
                torch.manual_seed(0)
                with torch.set_grad_enabled(gradients):
                    results.append(each.train(training)(source, target, tgt_mask=CAUSAL, tgt_is_causal=True))
            torch.testing.assert_close(*results, rtol=0, atol=TOLERANCE)
