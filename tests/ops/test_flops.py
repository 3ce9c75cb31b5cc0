"""What torch.utils.flop_counter counts of every operation."""

import importlib
import subprocess
import sys

import pytest
import torch
from contract.cases import Case, make_inputs
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from fastkan import KAN, KANLinear, ops
from fastkan.ops import OPERATIONS
from fastkan.tools.profile import roofline
from fastkan.tools.profile.workload import Workload

B, I, H, O = 7, 3, 4, 2
SLOTS = 5  # of a cubic layer those that are not zero: degree + 1 splines and the base


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("grad", [False, True])
def test_a_layer(grad):
    layer, x = KANLinear(I, O), torch.randn(B, I, requires_grad=grad)
    forward = 2 * B * I * O * SLOTS
    assert counted(lambda: layer(x)) == forward
    assert counted(lambda: layer(x).sum().backward()) == (3 if grad else 2) * forward


def test_a_stack_is_counted_layer_by_layer():
    net, x = KAN([I, H, O]), torch.randn(B, I)
    first, second = 2 * B * I * H * SLOTS, 2 * B * H * O * SLOTS
    with FlopCounterMode(display=False) as counter:
        y = net(x).sum()
    assert sum(counter.get_flop_counts()["KAN.0"].values()) == first
    assert counter.get_total_flops() == first + second
    assert counted(y.backward) == first + 2 * second  # x takes no gradient
    y = net(x).sum()  # all layers in one call; its backward pass is counted all the same
    assert counted(y.backward) == first + 2 * second


def test_a_second_derivative():
    """Of the slope: grad_input of the next order, grad_weight and forward in one pass."""
    layer, x = KANLinear(I, O), torch.randn(B, I, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    assert counted(lambda: torch.autograd.grad(slope.sum(), (x, layer.weight))) == 2 * 2 * B * I * O * SLOTS


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("degree", [1, 3])
def test_every_operation(name, degree):
    case = Case(B, I, O, degree=degree, row_weight=True)
    tensors = make_inputs(case, torch.float64)
    operands = [tensors[key] for key in OPERATIONS[name].tensors]
    arguments = (*operands, tensors["knots"], degree, "silu", "", *(0,) * len(OPERATIONS[name].orders))
    slots = degree + 2
    expected = 2 * B * I * slots * (slots if name in ("gram", "quadratic") else O)
    assert counted(lambda: ops.raw[name](*arguments)) == expected


def test_the_profile_counts_the_same():
    workload = Workload(B, I, O, grid_size=5, degree=3, dtype="float32", device="cpu", backend="cpu", mode="forward")
    layer, x = KANLinear(I, O), torch.randn(B, I)
    assert roofline.needed(workload, "forward") == counted(lambda: layer(x))


def test_importing_fastkan_does_not_import_the_counter():
    code = """
import sys, torch, fastkan
assert "torch.utils.flop_counter" not in sys.modules
from torch.utils.flop_counter import FlopCounterMode
layer = fastkan.KANLinear(2, 1, backend="reference")
with FlopCounterMode(display=False) as counter:
    layer(torch.zeros(3, 2))
print(counter.get_total_flops())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2 * 3 * 2 * SLOTS


def test_a_reloaded_counter_counts_too(monkeypatch):
    monkeypatch.setattr(flop_counter, "flop_registry", {})
    importlib.reload(flop_counter)
    assert torch.ops.fastkan.kan_linear in flop_counter.flop_registry
