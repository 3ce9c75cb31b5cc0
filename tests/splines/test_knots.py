"""Knot vectors and the refit: properties that hold for any samples, and least squares against scipy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from fastkan import reference
from fastkan.splines import knots as grids
from fastkan.splines import refit as refits
from fastkan.splines.refit import refit

EPS = torch.finfo(torch.float64).eps
DEGREES = range(1, 9)
few = settings(max_examples=40, deadline=None)
degrees = st.integers(1, 8)
grid_sizes = st.integers(1, 12)


@st.composite
def samples(draw):
    """[B, 1] with ties, clumps, offsets and constants, as activations have them."""
    values = draw(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30))
    values += draw(st.lists(st.sampled_from(values), max_size=30))
    offset, scale = draw(st.sampled_from([0.0, 0.5, -3.0, 1e6])), draw(st.sampled_from([1e-3, 1.0, 100.0]))
    return (offset + scale * torch.tensor(values, dtype=torch.float64))[:, None]


def inside(knots, degree, count=97):
    """Points [count, I] over the grid, both ends included."""
    points = grids.grid_points(knots, degree)
    return torch.lerp(points[:, 0], points[:, -1], torch.linspace(0, 1, count, dtype=knots.dtype)[:, None])


def spread_knots(in_features, grid_size, degree, seed=0):
    """Extended knots of a non-uniform grid over [-1, 1], every input its own."""
    generator = torch.Generator().manual_seed(seed)
    widths = 0.2 + torch.rand(in_features, grid_size, generator=generator, dtype=torch.float64)
    cuts = -1 + 2 * torch.nn.functional.pad(widths.cumsum(1) / widths.sum(1, keepdim=True), (1, 0))
    return grids.extend(cuts, degree)


def assert_reproduces_lines(knots, degree):
    """Partition of unity, and the Greville abscissae as coefficients give x: a rounding or two a term, p + 1 terms."""
    x = inside(knots, degree)
    values = reference.splines(x, knots, degree)
    rounding = 8 * (degree + 1) * EPS
    torch.testing.assert_close(values.sum(-1), torch.ones_like(x), rtol=0, atol=rounding)
    line = (values * grids.greville(knots, degree)).sum(-1)
    torch.testing.assert_close(line, x, rtol=0, atol=rounding * float(knots.abs().max()))


@few
@example(-1000.0, 1e-3, 5, 3)  # low + (high - low) is not high
@given(st.floats(-1e3, 0), st.floats(1e-3, 1e3), grid_sizes, degrees)
def test_uniform_knots_are_even_increasing_and_end_on_the_range(low, high, grid_size, degree):
    knots = grids.uniform(2, grid_size, degree, (low, high))
    points = grids.grid_points(knots, degree)
    assert knots.shape == (2, grid_size + 2 * degree + 1)
    assert knots.dtype == torch.float64
    assert (points[:, 0] == low).all()
    assert (points[:, -1] == high).all()
    spacing = (high - low) / grid_size
    rounding = 4 * EPS * (abs(low) + abs(high) + degree * spacing)
    assert (knots.diff(dim=1) - spacing).abs().max() <= rounding
    assert_reproduces_lines(knots, degree)


def test_uniform_knots_stay_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        assert grids.uniform(1, 5, 3, (-1.0, 1.0)).device.type == "cpu"


@pytest.mark.parametrize("degree", DEGREES)
def test_extend_keeps_the_points_and_adds_knots_at_the_mean_spacing(degree):
    points = torch.tensor([[0.0, 1.0, 1.5, 4.0], [-2.0, 0.0, 0.5, 1.0]], dtype=torch.float64)
    knots = grids.extend(points, degree)
    assert torch.equal(grids.grid_points(knots, degree), points)
    spacing = (points[:, -1:] - points[:, :1]) / 3
    for side in (knots[:, : degree + 1], knots[:, -degree - 1 :]):
        torch.testing.assert_close(side.diff(dim=1), spacing.expand(-1, degree), rtol=4 * EPS, atol=8 * EPS * 4)


@few
@given(
    samples(),
    grid_sizes,
    degrees,
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_adapt_gives_a_usable_grid_over_any_samples(x, grid_size, degree, eps, margin, dtype):
    start = grids.uniform(1, grid_size, degree, (-1.0, 1.0))
    adapted = grids.adapt(start, x, degree, eps, margin, dtype)
    points = grids.grid_points(adapted, degree)
    cells = points.diff(dim=1)
    assert cells.min() >= 2**-12 * cells.mean()  # 2^-10 of the mean, less what the narrow cells take from the wide ones
    assert (grids.rounded(adapted, dtype, "x").diff(dim=1) > 0).all()
    rounding = 4 * grid_size * EPS * float(x.abs().max() + points.abs().max())
    for beyond in (x < points[0, 0] - rounding, x > points[0, -1] + rounding):
        assert beyond.sum() <= (len(x) >= 17)  # one outlier in up to 200 samples, at either end
    assert_reproduces_lines(adapted, degree)


@pytest.mark.parametrize("eps", [0.0, 0.25, 1.0])
def test_adapt_blends_quantiles_and_uniform_points(eps):
    x = torch.randn(1000, 3, dtype=torch.float64) + torch.tensor([0.0, 5.0, -100.0])
    adapted = grids.adapt(grids.uniform(3, 8, 3, (-1.0, 1.0)), x, 3, eps, 0.01, torch.float64)
    steps = np.linspace(0, 1, 9)
    quantiles = np.quantile(x.numpy(), steps, axis=0)
    margin = 0.011 * (quantiles[-1] - quantiles[0])
    quantiles[0] -= margin
    quantiles[-1] += margin
    want = eps * (quantiles[0] + (quantiles[-1] - quantiles[0]) * steps[:, None]) + (1 - eps) * quantiles
    scale = float(x.abs().max())
    np.testing.assert_allclose(grids.grid_points(adapted, 3).T, want, rtol=0, atol=16 * EPS * scale)


@pytest.mark.parametrize("value", [0.0, 0.7, -1.0, 3.0, 1e4, -1e8])
def test_adapt_keeps_a_grid_that_holds_a_constant_column_and_else_moves_it_there(value):
    start = grids.uniform(1, 5, 3, (-1.0, 1.0))
    adapted = grids.adapt(start, torch.full((9, 1), value, dtype=torch.float64), 3, 0.02, 0.01, torch.float32)
    if abs(value) <= 1:
        assert torch.equal(adapted, start)
    else:
        points = grids.grid_points(adapted, 3)
        torch.testing.assert_close(points.mean(), torch.tensor(value, dtype=torch.float64), rtol=8 * EPS, atol=0)
        assert (grids.rounded(adapted, torch.float32, "x").diff() > 0).all()
        widest = max(0.4, 16 * torch.finfo(torch.float32).eps * abs(value))  # a cell as before, or what float32 can hold
        assert points.diff().max() <= widest * (1 + 1e-6)


@few
@given(grid_sizes, grid_sizes, degrees)
def test_resample_keeps_range_and_order_and_is_nested_where_the_size_divides(grid_size, other, degree):
    knots = spread_knots(2, grid_size, degree)
    points = grids.grid_points(knots, degree)
    resampled = grids.resample(knots, degree, other)
    new = grids.grid_points(resampled, degree)
    assert torch.equal(new[:, [0, -1]], points[:, [0, -1]])
    assert (resampled.diff(dim=1) > 0).all()
    assert_reproduces_lines(resampled, degree)
    finer = grids.grid_points(grids.resample(knots, degree, grid_size * other), degree)
    assert torch.equal(finer[:, ::other], points)


def test_rounded_refuses_cells_below_the_resolution():
    knots = grids.uniform(1, 10, 3, (1e6, 1e6 + 0.1))
    assert torch.equal(grids.rounded(knots, torch.float64, "grid_range"), knots)
    with pytest.raises(ValueError, match=r"^grid_range: expected grid cells that torch.float32 can tell apart, received"):
        grids.rounded(knots, torch.float32, "grid_range")


# ---- refit


def refit_rounding(degree):
    """Normal equations lose the condition of the splines, measured to grow some 20x a degree, up to what the ridge allows."""
    return min(EPS * 40**degree, 1e-6)


@few
@given(degrees, grid_sizes, grid_sizes, st.floats(-1, 0.5), st.floats(0.2, 0.5))
def test_refit_carries_a_line_to_any_grid_inside_the_old_one(degree, grid_size, other, low, width):
    old, new = spread_knots(1, grid_size, degree), grids.uniform(1, other, degree, (low, low + width))
    weight = torch.nn.functional.pad(grids.greville(old, degree), (0, 1))[..., None]
    moved = refit(weight, old, new, degree)
    x = inside(new, degree)
    line = (reference.splines(x, new, degree) * moved[:, :-1, 0]).sum(-1)
    torch.testing.assert_close(line, x, rtol=0, atol=refit_rounding(degree))


@pytest.mark.parametrize("degree", DEGREES)
def test_refit_on_the_same_knots_returns_the_weight_bit_for_bit(degree):
    knots = spread_knots(3, 5, degree)
    weight = torch.randn(3, 5 + degree + 1, 2, dtype=torch.float64)
    moved = torch.cat((knots[:1], spread_knots(2, 5, degree, seed=1)))
    assert torch.equal(refit(weight, knots, knots, degree), weight)
    refitted = refit(weight, knots, moved, degree)
    assert torch.equal(refitted[0], weight[0])
    assert not torch.equal(refitted[1:], weight[1:])


def cell_samples(points, per_cell=60):
    """Midpoints, as many in every cell: the refit's norm, in which each new cell weighs the same."""
    share = (np.arange(per_cell) + 0.5) / per_cell
    return (points[:-1, None] + np.diff(points)[:, None] * share).ravel()


def fit_errors(old, new, degree):
    """Norms of our refit's error, of numpy's best fit's, and of the random function fitted."""
    weight = torch.nn.functional.pad(torch.randn(1, old.shape[1] - degree - 1, 2, dtype=torch.float64), (0, 0, 0, 1))
    moved = refit(weight, old, new, degree)[0, :-1].numpy()
    x = cell_samples(grids.grid_points(new, degree)[0].numpy())
    function = (reference.splines(torch.from_numpy(x)[:, None], old, degree)[:, 0] @ weight[0, :-1]).numpy()
    design = BSpline.design_matrix(x, new[0].numpy(), degree).toarray()
    best = design @ np.linalg.lstsq(design, function, rcond=None)[0]
    return *(np.linalg.norm(fit - function) for fit in (design @ moved, best)), np.linalg.norm(function)


@pytest.mark.parametrize("degree, sizes", list(itertools.product(DEGREES, [(5, 7), (8, 3), (3, 20)])), ids=str)
@pytest.mark.parametrize("new_range", [(-1.0, 1.0), (-0.6, 0.7), (-1.3, 1.2)], ids=["same", "narrower", "wider"])
def test_refit_is_as_good_as_an_independent_least_squares_fit(degree, sizes, new_range):
    old = spread_knots(1, sizes[0], degree)
    low, high = new_range
    new = low + (high - low) * 0.5 * (spread_knots(1, sizes[1], degree, seed=1) + 1)
    error, least, size = fit_errors(old, new, degree)
    # Measured 1.00 (sums over samples against our exact integrals); errors below 1e-11 are the ridge's.
    assert error <= 1.05 * least + 1e-10 * size


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_every_cell_of_the_new_grid_weighs_the_same(degree):
    """On a grid of very uneven cells other weights cost 3 to 26 % in this norm."""
    old = spread_knots(1, 9, degree)
    new = grids.extend(2 * torch.linspace(0, 1, 7, dtype=torch.float64)[None] ** 5 - 1, degree)
    error, least, _ = fit_errors(old, new, degree)
    assert error <= 1.02 * least


def test_refit_in_parts_is_the_refit_at_once(monkeypatch):
    old, new = spread_knots(5, 4, 3), spread_knots(5, 6, 3, seed=2)
    weight = torch.randn(5, 8, 3, dtype=torch.float64)
    whole = refit(weight, old, new, 3)
    monkeypatch.setattr(refits, "ELEMENTS", 1)
    torch.testing.assert_close(refit(weight, old, new, 3), whole, rtol=0, atol=1e-10 * float(whole.abs().max()))


@pytest.mark.parametrize("in_features, out_features", [(0, 3), (2, 0)])
def test_refit_of_an_empty_weight(in_features, out_features):
    weight = torch.empty(in_features, 9, out_features, dtype=torch.float64)
    moved = refit(weight, spread_knots(in_features, 5, 3), spread_knots(in_features, 10, 3), 3)
    assert moved.shape == (in_features, 14, out_features)
