"""KANLinear.refine: the same function on a finer grid, and what an optimizer makes of it."""

import copy

import numpy as np
import pytest
import torch
from layers import DEGREES, UNIT, change, on_grid, random_layer, values
from scipy.interpolate import BSpline
from torch import nn

from fastkan import KANLinear


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("grid_size", [1, 5, 16])
@pytest.mark.parametrize("degree", DEGREES)
def test_nested_refinement_leaves_the_function_on_the_grid(degree, grid_size, times):
    """float64 loses the condition of the normal equations: measured some 10^(p - 16), of which this is 10 to 100 times."""
    layer = random_layer(grid_size=grid_size, degree=degree)
    finer = copy.deepcopy(layer)
    finer.refine(times * grid_size)
    assert finer.grid_size == times * grid_size
    assert finer.knots.shape == (3, times * grid_size + 2 * degree + 1)
    assert change(layer, finer, on_grid(layer)) <= 32 * UNIT * 6**degree


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("degree", DEGREES)
def test_nested_refinement_in_lower_precision_costs_the_rounding_of_the_weight(degree, dtype):
    layer = random_layer(degree=degree, dtype=dtype)
    finer = copy.deepcopy(layer)
    finer.refine(10)
    # The new coefficients are rounded once (at most 1/2 unit, they stay near the old ones), both answers once more.
    largest = max(1.0, float(finer.weight.detach().abs().max() / layer.weight.detach().abs().max()))
    assert change(layer, finer, on_grid(layer)) <= 8 * torch.finfo(dtype).eps * largest


@pytest.mark.parametrize("sizes", [(5, 7), (8, 3), (3, 20)], ids=str)
@pytest.mark.parametrize("degree", DEGREES)
def test_other_refinement_is_as_good_as_scipys_least_squares(degree, sizes):
    layer = random_layer(1, 2, grid_size=sizes[0], degree=degree, base="zero")
    nn.init.zeros_(layer.bias)
    other = copy.deepcopy(layer)
    other.refine(sizes[1])
    x = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 1000 - 1
    function = values(layer, x).numpy()
    design = BSpline.design_matrix(x[:, 0].numpy(), other.knots[0].numpy(), degree).toarray()
    best = design @ np.linalg.lstsq(design, function, rcond=None)[0]
    error, least = np.linalg.norm(values(other, x).numpy() - function), np.linalg.norm(best - function)
    assert error <= 1.05 * least + 1e-9 * np.linalg.norm(function)  # measured 1.00


def test_refine_keeps_the_parameter_and_clears_its_gradient():
    layer = random_layer()
    weight, bias = layer.weight, layer.bias
    layer(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    layer.refine(10)
    assert layer.weight is weight
    assert layer.bias is bias
    assert weight.grad is None
    assert weight.requires_grad
    assert weight.shape == (3, 14, 2)


def test_sgd_goes_on_after_refine_and_adam_needs_its_state_cleared():
    layer = KANLinear(2, 1)
    x = 2 * torch.rand(64, 2) - 1

    def step(optimizer):
        loss = (layer(x) - x.prod(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    sgd, adam = torch.optim.SGD(layer.parameters(), lr=0.1), torch.optim.Adam(layer.parameters())
    first = step(sgd)
    step(adam)
    layer.refine(10)
    assert step(sgd) < first
    assert step(sgd) < first
    with pytest.raises(RuntimeError, match="size"):
        step(adam)
    adam.state.clear()
    assert step(adam) < first


def test_refine_names_a_wrong_grid_size():
    layer = random_layer(dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    for value, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="^grid_size: expected"):
            layer.refine(value)
    layer.update_grid(torch.rand(50, 3) + 1e6)
    with pytest.raises(ValueError, match=r"^grid_size: expected grid cells that torch.float32 can tell apart"):
        layer.refine(1000)
    layer.load_state_dict(before)  # the shapes are as they were
