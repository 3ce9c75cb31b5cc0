"""fastkan.restore: the structure of a swapped model again, from its state or its config."""

import json
import types

import pytest
import torch
from torch import nn

import fastkan


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.conv, self.head = nn.Linear(3, 4), nn.Conv1d(4, 4, 1), nn.Linear(4, 2, bias=False)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.alias = self.head

    def forward(self, x):
        return self.alias(self.encoder(self.conv(torch.tanh(self.fc(x)).mT).mT))


REPLACED = ["fc", "conv", "head", "alias", "encoder.self_attn.out_proj", "encoder.linear1", "encoder.linear2"]
SOURCES = {
    "state": lambda model, report: model.state_dict(),
    "config": lambda model, report: report.config(),
    "JSON": lambda model, report: json.loads(json.dumps(report.config())),
    "description": lambda model, report: fastkan.describe(model),
}


def swapped(**settings):
    model = Body()
    report = fastkan.replace_linear(model, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval(), report


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_fresh_model_gets_the_structure_and_the_state(source, device):
    model, report = swapped(grid_size=7, degree=2, grid_range=(-2, 3), activation="tanh")
    with torch.device(device):
        fresh = Body()
    again = fastkan.restore(fresh, source(model, report))
    assert sorted(again.replaced) == sorted(REPLACED) and again.changed == report.changed
    assert again.parameters == report.parameters and fastkan.describe(fresh) == fastkan.describe(model)
    assert fresh.head is fresh.alias
    assert str(fresh.load_state_dict(model.state_dict(), assign=device == "meta")) == "<All keys matched successfully>"
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), model(x))


def test_a_refined_and_pruned_model_comes_back_from_its_state():
    model, report = swapped()
    model.fc.refine(12)
    model.fc.set_mask(torch.rand(3, 4) > 0.3)
    assert fastkan.describe(model)["layers"]["fc"]["grid_size"] == 12 and report.config()["layers"]["fc"]["grid_size"] == 5
    fresh = Body()
    fastkan.restore(fresh, model.state_dict())
    fresh.load_state_dict(model.state_dict())
    x = torch.randn(2, 5, 3)
    assert torch.equal(fresh.eval()(x), model(x))


def test_layers_that_are_there_already_stay():
    model, report = swapped()
    layer = model.fc
    assert fastkan.restore(model, report.config()).replaced == [] and model.fc is layer
    partly = Body()
    fastkan.replace_linear(partly, "fc")
    assert "fc" not in fastkan.restore(partly, model.state_dict()).replaced
    assert str(partly.load_state_dict(model.state_dict())) == "<All keys matched successfully>"


def test_what_does_not_fit_is_named_and_nothing_is_changed():
    _, report = swapped()
    other = nn.ModuleDict({"fc": nn.Linear(3, 4), "head": nn.ReLU(), "encoder": nn.Linear(3, 3)})
    with pytest.raises(ValueError, match="^model: expected linear blocks where the source has KAN layers, but ") as caught:
        fastkan.restore(other, report.config())
    assert "conv is not there; head is ReLU; alias is not there" in str(caught.value)
    assert type(other["fc"]) is nn.Linear
    hooked = Body()
    hooked.fc.register_forward_hook(print)
    with pytest.raises(ValueError, match="fc: it has hooks, which a new layer would lose"):
        fastkan.restore(hooked, report.config())
    assert type(hooked.head) is nn.Linear


WRONG = {
    "no layers": (Body().state_dict(), ValueError, "^source: expected a state dict or a config with KAN layers, received none"),
    "newer": ({"format": 3, "layers": {}}, ValueError, "^format: expected at most 2, received 3; a newer fastkan"),
    "settings": ({"format": 1, "layers": {"fc": {"grid_size": 5}}}, ValueError, "^source: expected the settings grid_size, "),
    "list": ([], TypeError, "^source: expected a state dict or a config, received list"),
}


@pytest.mark.parametrize("source, error, message", WRONG.values(), ids=list(WRONG))
def test_a_wrong_source_is_named(source, error, message):
    with pytest.raises(error, match=message):
        fastkan.restore(Body(), source)
    with pytest.raises(ValueError, match=r"received DataParallel; call restore\(model\) first, then DataParallel\(model\)"):
        fastkan.restore(nn.DataParallel(Body()), source)


class PreTrainedModel(Body):  # as transformers': save_pretrained writes its config
    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace()


def test_a_config_that_is_saved_with_the_model_is_told():
    model = PreTrainedModel()
    fastkan.replace_linear(model, "conv", dry_run=True)
    assert not hasattr(model.config, "fastkan")
    fastkan.replace_linear(model, "fc")
    fastkan.replace_linear(model, ["head", "alias"])
    assert list(model.config.fastkan["layers"]) == ["fc", "head", "alias"]
    assert json.loads(json.dumps(model.config.fastkan)) == fastkan.describe(model)
