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
@pytest.mark.parametrize("moved", [False, True])
def test_nested_refinement_leaves_the_function_on_the_whole_line(moved, degree, grid_size, times):
    """To some roundings of the largest coefficient for each of the p levels of Cox-de Boor."""
    layer = random_layer(grid_size=grid_size, degree=degree)
    if moved:
        layer.update_grid(torch.randn(300, 3))
    finer = copy.deepcopy(layer)
    finer.refine(times * grid_size)
    assert finer.grid_size == times * grid_size
    assert finer.knots.shape == (3, times * grid_size + 2 * degree + 1)
    line = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None].expand(-1, 3)
    for x in (line, on_grid(layer)):
        coefficients = float(layer.weight.detach().abs().max() / values(layer, x).abs().max())
        assert change(layer, finer, x) <= 16 * (degree + 1) * UNIT * max(coefficients, 1.0)


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
    layer = random_layer(1, 2, grid_size=sizes[0], degree=degree, activation="zero")
    nn.init.zeros_(layer.bias)
    other = copy.deepcopy(layer)
    other.refine(sizes[1])
    cells = other.knots[0].diff()
    share = (torch.arange(200, dtype=torch.float64)[:, None] + 0.5) / 200  # every cell weighs the same, those beside the grid too
    x = (other.knots[0, :-1] + share * cells).T.reshape(-1, 1)
    function = values(layer, x).numpy()
    rows = [
        BSpline.basis_element(other.knots[0, s : s + degree + 2].numpy(), extrapolate=False)(x[:, 0])
        for s in range(sizes[1] + degree)
    ]
    design = np.nan_to_num(np.stack(rows, axis=1))
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
