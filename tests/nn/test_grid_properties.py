"""Properties of every refine and update_grid: any degree, grid and samples with gaps, outliers, constants, values outside."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import UNIT, values

from fastkan import KAN, KANLinear

pytestmark = pytest.mark.filterwarnings("ignore:update_grid. .* samples for", "ignore:.* of the samples' values lie outside")
few = settings(max_examples=60, deadline=None)


@st.composite
def layers(draw):
    torch.manual_seed(draw(st.integers(0, 2**16)))
    layer = KANLinear(
        draw(st.integers(1, 3)), draw(st.integers(1, 3)), grid_size=draw(st.integers(1, 9)), degree=draw(st.integers(1, 6)),
        grid_range=draw(st.sampled_from([(-1.0, 1.0), (0.0, 1e-3), (-50.0, 1e4)])), dtype=torch.float64,
    )  # fmt: skip
    torch.nn.init.normal_(layer.weight)
    return layer


@st.composite
def samples(draw, layer):
    """Rows in clumps with gaps, now and then constant, beside the grid or with an outlier."""
    low, high = (float(layer.knots[0, k]) for k in (layer.degree, -layer.degree - 1))
    centres = draw(st.lists(st.sampled_from([-2.0, -0.2, 0.0, 0.3, 0.5, 1.0, 1.2, 40.0]), min_size=1, max_size=3))
    rows = draw(st.integers(1, 80))
    width = draw(st.sampled_from([0.0, 1e-6, 0.1, 1.0]))
    at = torch.tensor(centres, dtype=torch.float64)[torch.randint(len(centres), (rows, layer.in_features))]
    x = low + (high - low) * (at + width * (torch.rand(rows, layer.in_features, dtype=torch.float64) - 0.5))
    if draw(st.booleans()):
        x[0, 0] = draw(st.sampled_from([1e3, -1e8]))
    return x


def line(layer):
    """Points over all knots and far beyond."""
    low, high = layer.knots.min(), layer.knots.max()
    return (low + (high - low) * torch.linspace(-1, 2, 1501, dtype=torch.float64))[:, None].expand(-1, layer.in_features)


def assert_sound(layer, x):
    y = layer(x.clone().requires_grad_())
    y.sum().backward()
    assert y.isfinite().all() and layer.weight.grad.isfinite().all()
    assert layer.weight.isfinite().all() and layer.knots.isfinite().all()
    assert (layer.knots.diff(dim=1) > 0).all()


@few
@given(st.data())
def test_a_nested_refinement_is_exact_on_the_line(data):
    layer = data.draw(layers())
    if data.draw(st.booleans()):
        layer.update_grid(data.draw(samples(layer)))
    finer = copy.deepcopy(layer)
    times = data.draw(st.integers(1, 5))
    changed = finer.refine(times * layer.grid_size)
    x = line(layer)
    size = max(float(layer.weight.detach().abs().max()), 1.0) * layer.in_features
    bound = 16 * (layer.degree + 1) * UNIT * size
    activation = 8 * UNIT * float(x.abs().max()) * size  # y itself is rounded: the activation grows with x
    assert (values(finer, x) - values(layer, x)).abs().max() <= bound + activation
    assert changed.largest <= bound and changed.anywhere <= bound and changed.outside is None
    assert_sound(finer, x)


@few
@given(st.data())
def test_other_changes_report_what_they_changed(data):
    layer = data.draw(layers())
    x = data.draw(samples(layer))
    moved = copy.deepcopy(layer)
    for change in data.draw(st.lists(st.sampled_from(["update", "refine"]), min_size=1, max_size=3)):
        before = copy.deepcopy(moved)
        if change == "update":
            report = moved.update_grid(
                x, data.draw(st.sampled_from([0.0, 0.02, 1.0])), data.draw(st.sampled_from([0.0, 0.01, 0.2]))
            )
        else:
            report = moved.refine(data.draw(st.integers(1, 12)), x)
        difference = values(moved, x) - values(before, x)
        rounding = 64 * UNIT * float(values(before, x).abs().max() + moved.weight.detach().abs().max())
        assert abs(float(difference.abs().max()) - report.largest) <= rounding
        assert abs(float(difference.square().mean().sqrt()) - report.rms) <= rounding
        points = moved.knots[:, moved.degree], moved.knots[:, -moved.degree - 1]
        assert report.outside == float(((x < points[0]) | (x > points[1])).double().mean())
        assert_sound(moved, x)
        assert_sound(moved, line(moved))


@few
@given(st.data())
def test_a_net_changes_as_a_whole(data):
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    net = KAN([2, 3, 2], grid_size=data.draw(st.integers(1, 6)), dtype=torch.float64)
    x = torch.randn(data.draw(st.integers(1, 60)), 2, dtype=torch.float64)
    before = values(net, x)
    reports = net.update_grid(x)
    assert len(reports) == 2 and values(net, x).isfinite().all()
    net.refine(2 * net[0].grid_size)
    after_update = values(net, x)
    assert (after_update - before).abs().max() <= 10 * (1 + before.abs().max())
    net.refine(3 * net[0].grid_size)
    torch.testing.assert_close(values(net, x), after_update, rtol=1e-9, atol=1e-9)
