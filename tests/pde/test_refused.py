"""What jet refuses, and how it says so."""

import pytest
import torch
from torch import nn

import fastkan


class Patched(fastkan.KANLinear):
    def forward(self, input):
        return 2 * super().forward(input)


UNKNOWN = {
    "BatchNorm1d": nn.BatchNorm1d(3),
    "LayerNorm": nn.LayerNorm(3),
    "Softmax": nn.Softmax(-1),
    "MultiheadAttention": nn.MultiheadAttention(3, 1),
    "Patched": Patched(3, 3),
}


@pytest.mark.parametrize("module", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_modules_are_named(module):
    model = nn.Sequential(fastkan.KANLinear(2, 3), nn.Sequential(nn.Tanh(), module))
    with pytest.raises(TypeError, match=rf"^model: expected KANLinear, .*received {type(module).__name__} at '1\.1'"):
        fastkan.jet(model, torch.rand(4, 2))


def test_hooks_and_patched_forwards_are_named():
    model = fastkan.KAN([2, 3, 1])
    handle = model[0].register_forward_hook(lambda layer, inputs, y: 2 * y)
    with pytest.raises(TypeError, match=r"^model: expected modules without hooks .*received KANLinear at '0'"):
        fastkan.jet(model, torch.rand(4, 2))
    handle.remove()
    model[1].forward = lambda x: x
    with pytest.raises(TypeError, match=r"^model: expected modules without hooks .*received KANLinear at '1'"):
        fastkan.jet(model, torch.rand(4, 2))


X = torch.rand(4, 2)
REFUSED = [
    (TypeError, r"model: expected an nn.Module, received function", {"model": lambda x: x}),
    (TypeError, r"x: expected a torch.Tensor, received list", {"x": [[0.0, 0.0]]}),
    (TypeError, r"x: expected a real floating dtype, received torch.int64", {"x": torch.ones(4, 2, dtype=torch.long)}),
    (ValueError, r"x: expected at least 1 dimension, received shape \(\)", {"x": torch.tensor(1.0)}),
    (ValueError, r"x: expected at least one input, received shape \(4, 0\)", {"x": torch.rand(4, 0)}),
    (ValueError, r"x: expected last dimension 2 .*received shape \(4, 3\)", {"x": torch.rand(4, 3)}),
    (TypeError, r"weight: expected x's dtype torch.float64, received torch.float32", {"x": X.double()}),
    (TypeError, r"directions: expected a torch.Tensor, received list", {"directions": [[1.0, 0.0]]}),
    (TypeError, r"directions: expected torch.float32 on cpu, received torch.float64", {"directions": torch.eye(2).double()}),
    (ValueError, r"directions: expected shape \(d, 2\) or \(d, 4, 2\) .*received \(1, 3\)", {"directions": torch.ones(1, 3)}),
    (ValueError, r"directions: .*received \(2,\)", {"directions": torch.ones(2)}),
    (ValueError, r"directions: .*with d of at least 1, received \(0, 2\)", {"directions": torch.ones(0, 2)}),
    (ValueError, r"directions: .*received \(1, 5, 2\)", {"directions": torch.ones(1, 5, 2)}),
    (ValueError, r"coefficients: expected shape \(2,\), received \(3,\)", {"coefficients": (1, 2, 3)}),
    (TypeError, r"pointwise: expected types of modules, received", {"pointwise": (nn.Tanh(),)}),
]


@pytest.mark.parametrize("error, message, changes", REFUSED, ids=[case[1] for case in REFUSED])
def test_wrong_arguments_are_named(error, message, changes):
    with pytest.raises(error, match=f"^{message}"):
        fastkan.jet(**{"model": fastkan.KAN([2, 3, 1]), "x": X} | changes)
