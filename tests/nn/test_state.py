"""state_dict says which layer it is of, and a refined state finds room."""

import json

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KAN, KANLinear


def edited(state, **changes):
    """The state with another description."""
    text = json.loads(bytes(state["_extra_state"].tolist())) | changes
    return state | {"_extra_state": torch.tensor(list(json.dumps(text).encode()), dtype=torch.uint8)}


OTHERS = {
    "activation: expected 'silu', received 'identity'": {"activation": "identity"},
    "degree: expected 3, received 4": {"degree": 4, "grid_size": 4},  # the same shape of weight
    r"grid_range: expected \[-1.0, 1.0\], received \[-2.0, 1.0\]": {"grid_range": (-2.0, 1.0)},
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("message, settings", OTHERS.items(), ids=list(OTHERS))
def test_a_state_of_another_layer_is_refused_and_changes_nothing(message, settings, strict):
    layer = KANLinear(3, 2)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(KANLinear(3, 2, **settings).state_dict(), strict=strict)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_the_message_names_the_layer_inside_a_model():
    swapped = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    fastkan.replace_linear(swapped)
    with pytest.raises(RuntimeError, match="1: activation: expected 'silu', received 'identity'"):
        nn.Sequential(KANLinear(3, 4, activation="identity"), KANLinear(4, 2)).load_state_dict(swapped.state_dict())


def test_a_state_of_a_newer_format_or_of_other_bytes_is_refused():
    layer = KANLinear(3, 2)
    state = layer.state_dict()
    with pytest.raises(RuntimeError, match="format: expected at most 2, received 3; a newer fastkan"):
        layer.load_state_dict(edited(state, format=3))
    with pytest.raises(RuntimeError, match="expected a description of a KANLinear, received other bytes"):
        layer.load_state_dict(state | {"_extra_state": torch.tensor([1, 2], dtype=torch.uint8)})


def test_a_state_from_before_descriptions_loads():
    net = KAN([3, 4, 2])
    old = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("_extra_state")}
    fresh = KAN([3, 4, 2])
    assert str(fresh.load_state_dict(old)) == "<All keys matched successfully>"
    x = torch.randn(5, 3)
    assert torch.equal(fresh(x), net(x))


def test_a_state_survives_torch_save_with_weights_only_and_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    net, fresh = KAN([3, 4, 2]), KAN([3, 4, 2])
    torch.save(net.state_dict(), tmp_path / "kan.pt")
    safetensors.save_file(net.state_dict(), tmp_path / "kan.safetensors")
    for state in (torch.load(tmp_path / "kan.pt", weights_only=True), safetensors.load_file(tmp_path / "kan.safetensors")):
        fresh.load_state_dict(state)
        assert torch.equal(fresh[1].weight, net[1].weight)


def test_states_go_through_functional_call_deepcopy_and_assign():
    layer, x = KANLinear(3, 2), torch.randn(5, 3)
    assert torch.equal(torch.func.functional_call(layer, layer.state_dict(), (x,)), layer(x))
    fresh = KANLinear(3, 2)
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(fresh(x), layer(x))


def test_a_refined_state_loads_into_a_fresh_model_when_asked():
    net, fresh = nn.Sequential(KAN([3, 4, 2]), nn.Linear(2, 1)), nn.Sequential(KAN([3, 4, 2]), nn.Linear(2, 1))
    net[0].update_grid(torch.randn(200, 3))
    fastkan.refine(net, 12)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fastkan.load_state_dict(fresh, net.state_dict())
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)
    weight = fresh[0][0].weight
    fastkan.load_state_dict(fresh, net.state_dict(), resize=True)
    x = torch.randn(5, 3)
    assert torch.equal(fresh(x), net(x))
    assert fresh[0][0].weight is weight and weight.requires_grad and fresh[0][0].grid_size == 12
    fresh(x).sum().backward()
    optimizer.step()
    assert not torch.equal(fresh[0][0].weight, net[0][0].weight)


@pytest.mark.parametrize("net", [KAN([3, 5, 2]), KAN([3, 4, 2], activation="identity"), KAN([3, 4, 2], degree=2)], ids=str)
def test_a_state_that_does_not_fit_leaves_the_shapes(net):
    net.refine(12)
    fresh = KAN([3, 4, 2])
    before = {name: tensor.clone() for name, tensor in fresh[0].state_dict().items()}
    with pytest.raises(RuntimeError, match="Error\\(s\\) in loading state_dict"):
        fastkan.load_state_dict(fresh, net.state_dict(), resize=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh[0].state_dict().items())
    assert fresh(torch.randn(5, 3)).isfinite().all()
