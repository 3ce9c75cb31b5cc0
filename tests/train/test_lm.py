"""The matrices of Levenberg-Marquardt, and the rows of its first steps."""

import math

import pytest
import torch

from fastkan import KAN, fit
from fastkan.nn.jacobian import RowJacobian
from fastkan.train.lm import FINE, PANEL, Normal, block_rows, roughness
from fastkan.train.objective import FEW, OfData


def objective(widths, rows=40, **settings):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(rows, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
    return OfData(KAN(widths, seed=0, dtype=torch.float64, **settings), x, y)


def test_the_normal_matrix_in_panels_is_the_whole_one():
    data = objective([2, 25, 2])
    jacobian = RowJacobian(data.model, data.residuals)
    assert jacobian.size > 3 * PANEL
    (term,) = jacobian.terms
    ((whole, residuals),) = jacobian.blocks(term, len(term.values))
    memory = 2**20
    assert block_rows(jacobian.size, 2, memory) < len(term.values)
    normal = Normal(jacobian, memory)
    torch.testing.assert_close(normal.matrix, whole.T @ whole / len(whole))
    torch.testing.assert_close(normal.gradient, whole.T @ residuals / len(whole))


@pytest.mark.parametrize(("grid_size", "order"), [(FINE - 1, 4), (FINE, 6), (40, 6)])
def test_the_roughness_leaves_polynomials_below_its_order_alone(grid_size, order):
    data = objective([1, 1], grid_size=grid_size)
    rough = roughness(RowJacobian(data.model, data.residuals), 1.0)
    places = torch.arange(grid_size + 3, dtype=torch.float64) - grid_size // 2
    base = torch.ones(1, dtype=torch.float64)  # the base activation has no roughness
    smooth, next_power = (torch.cat((places**power, base)) for power in (order - 1, order))
    rounding = torch.finfo(torch.float64).eps * len(smooth) * (smooth.abs() @ rough.abs() @ smooth.abs())
    assert (smooth @ rough @ smooth).abs() <= rounding
    factorial = math.factorial(order)  # the difference of that order of k^order
    expected = (len(smooth) - 1 - order) * factorial**2
    error = torch.finfo(torch.float64).eps * len(smooth) * (next_power.abs() @ rough.abs() @ next_power.abs())
    assert (next_power @ rough @ next_power - expected).abs() <= error < expected


def test_the_first_steps_take_some_of_many_rows():
    data = objective([1, 1], rows=5 * FEW)
    few = data.few(residuals=10)
    assert torch.equal(few.x, data.x[::5]) and torch.equal(few.y, data.y[::5])
    assert len(data.few(residuals=2 * FEW).x) == len(data.x[::2])
    assert data.few(residuals=4 * FEW) is data


def test_data_of_a_kan_alone_are_plain():
    """A model that is more than layers of ours may use their weights in other ways."""
    data = objective([2, 1])
    assert data.plain
    assert not OfData(torch.nn.Sequential(data.model), data.x, data.y).plain


def test_a_compiled_model_is_fitted_as_it_was_written():
    x = torch.rand(100, 2, dtype=torch.float64) * 2 - 1
    y = x[:, :1] * x[:, 1:]
    fitted = []
    for compiled in (False, True):
        model = KAN([2, 2, 1], seed=0, dtype=torch.float64)
        if compiled:
            model.compile(backend="eager")
            model(x)  # this graph calls no hooks
        fit(model, x, y, grids=(3,), steps=5)
        fitted.append(model(x).detach())
    assert torch.equal(*fitted)
