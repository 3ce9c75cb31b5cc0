"""Layers of other functions on edges as splines, within a tolerance that is measured on points the fit has not seen."""

import pytest
import torch
from torch import nn

from fastkan.interop import edges_of, from_edges


class Chebyshev(nn.Module):
    """sum_ik c_iok T_k(tanh x_i)."""

    def __init__(self, inputs, outputs, degree=5):
        super().__init__()
        self.c = nn.Parameter(torch.randn(inputs, outputs, degree + 1) / inputs)
        self.register_buffer("k", torch.arange(degree + 1))

    def forward(self, x):
        return torch.einsum("bik,iok->bo", torch.cos(self.k * torch.acos(torch.tanh(x))[..., None]), self.c)


class Fourier(nn.Module):
    """sum_ik a_iok cos(k x_i) + b_iok sin(k x_i), + c."""

    def __init__(self, inputs, outputs, order=4):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.randn(inputs, outputs, order)) for _ in range(2))
        self.c = nn.Parameter(torch.randn(outputs))
        self.register_buffer("k", torch.arange(1, order + 1))

    def forward(self, x):
        z = x[..., None] * self.k
        return torch.einsum("bik,iok->bo", z.cos(), self.a) + torch.einsum("bik,iok->bo", z.sin(), self.b) + self.c


class MexicanHat(nn.Module):
    """Wavelets with a scale and a place of their own on every edge, behind a batch normalisation."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.scale, self.place, self.size = (nn.Parameter(torch.rand(inputs, outputs) + 0.5) for _ in range(3))
        self.norm = nn.BatchNorm1d(outputs)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x):
        z = ((x[..., None] - self.place) / self.scale).square()
        return self.norm((self.size * (1 - z) * torch.exp(-z / 2)).sum(1))


def rows(inputs, low, high):
    return low + (high - low) * torch.rand(500, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", [Chebyshev, Fourier, MexicanHat])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_a_layer_is_within_the_tolerance(kind, tolerance):
    torch.manual_seed(0)
    theirs = kind(4, 3)
    before = theirs.training, {name: t.clone() for name, t in theirs.state_dict().items()}
    function = edges_of(theirs, 4, (-2, 3))
    ours, error = from_edges(function, 4, 3, (-2, 3), tolerance, dtype=torch.float64)
    assert theirs.training == before[0] and all(torch.equal(t, before[1][name]) for name, t in theirs.state_dict().items())
    x = rows(4, -2, 3)
    size = function(x).abs().amax(0)
    measured = torch.stack([(from_one(ours, x, i) - function(x)[:, i]).abs().amax(0) for i in range(4)])
    assert (error <= tolerance * size * 1.05).all()  # the largest value is that of other points
    assert (measured <= error * 1.05).all() and (measured >= 0.2 * error).all()
    y = theirs.double().eval()(x)
    assert (ours(x) - y).abs().max() <= 1.05 * error.sum(0).max()


def from_one(layer, x, i):
    """The edges of one input."""
    rest = torch.zeros(layer.in_features, dtype=torch.bool)
    rest[i] = True
    return layer(torch.where(rest, x, 1e9))  # past the grid the others are 0


def test_the_grid_is_the_smallest_that_is_near_enough():
    def function(t):
        return torch.sin(3 * t)[..., None]

    for tolerance in (1e-2, 1e-4, 1e-6):
        layer, _ = from_edges(function, 1, 1, tolerance=tolerance, dtype=torch.float64)
        assert layer.grid_size > 1
        with pytest.raises(ValueError, match=f"at most {layer.grid_size - 1} cells"):
            from_edges(function, 1, 1, tolerance=tolerance, largest=layer.grid_size - 1, dtype=torch.float64)


@pytest.mark.parametrize("degree", [1, 2, 5, 8])
def test_polynomials_of_the_degree_need_no_more_cells(degree):
    layer, error = from_edges(lambda t: (t[..., None] - 0.3) ** degree, 2, 1, (-1, 2), 1e-12, degree, dtype=torch.float64)
    assert layer.grid_size == degree and error.max() < 1e-12 * 1.7**degree
    assert layer.weight.abs().max() < 1e5


def test_ranges_of_each_input():
    ends = torch.tensor([[-1.0, 1.0], [100.0, 300.0]])
    layer, error = from_edges(lambda t: torch.stack((t, torch.cos(t / 50)), dim=-1), 2, 2, ends, dtype=torch.float64)
    knots = layer.knots[:, [layer.degree, -layer.degree - 1]]
    torch.testing.assert_close(knots, ends.double())
    assert error.shape == (2, 2) and error[1].max() < 0.03


def test_a_layer_in_float32_says_what_its_rounding_costs():
    def function(t):
        return torch.sin(t)[..., None]

    layer, error = from_edges(function, 1, 1, tolerance=1e-6)
    assert layer.weight.dtype == torch.float32 and error.max() < 1e-6
    with pytest.raises(ValueError, match="tolerance: expected edges within 1e-09"):
        from_edges(function, 1, 1, tolerance=1e-9, largest=256)


def test_edges_that_are_0_or_noise_beside_others_need_no_cells():
    def function(t):
        noise = 1e-13 * torch.sin(1e6 * t)
        return torch.stack((t, torch.zeros_like(t), noise), dim=-1)

    assert from_edges(function, 1, 3, tolerance=1e-6, dtype=torch.float64).layer.grid_size == 3


def test_a_step_is_refused_with_its_error():
    with pytest.raises(
        ValueError, match=r"on at most 64 cells \(largest\), received an error of \S+ on edge \(0, 1\), whose values reach 2"
    ):
        from_edges(lambda t: torch.stack((t, 2 * torch.sign(t - 0.1)), dim=-1), 1, 2, largest=64)


def test_a_spike_between_few_points_is_seen():
    """Grids of few cells are measured at 2,000 points too."""

    def function(t):
        return (t + torch.exp(-(((t - 5 / 24) / 0.005) ** 2)))[..., None]

    layer, _ = from_edges(function, 1, 1, tolerance=1e-3)
    assert layer.grid_size > 100


@pytest.mark.parametrize(
    "function, settings, message",
    [
        (lambda t: 1 / t[..., None], {}, r"function: expected finite values in the range, received inf on edge \(0, 0\) at 0"),
        (lambda t: torch.log(t)[..., None], {}, "received nan on edge"),
        (lambda t: t, {}, r"function: expected floating values \[T, I, O\] = \(4, 1, 1\) at t \[T, I\], received \(4, 1\)"),
        (lambda t: 3, {}, "received int"),
        (lambda t: t[..., None], {"tolerance": 0}, "tolerance: expected a number between 0 and 1, received 0"),
        (lambda t: t[..., None], {"grid_range": (1, -1)}, r"grid_range: expected finite \(low, high\) with low < high"),
        (lambda t: t[..., None], {"grid_range": torch.zeros(3, 2)}, "grid_range: expected"),
        (lambda t: t[..., None], {"activation": "sine"}, "activation: expected one of"),
    ],
)
def test_what_is_wrong_is_named(function, settings, message):
    with pytest.raises(ValueError, match=message):
        from_edges(function, 1, 1, degree=1, **settings)


def test_a_layer_that_is_no_sum_is_refused():
    with pytest.raises(ValueError, match="layer: expected a sum of functions of one input each, received one that differs"):
        edges_of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), 3)
    with pytest.raises(ValueError, match="layer: expected a sum"):
        edges_of(lambda x: x.prod(1, keepdim=True), 2)


def test_no_random_state_is_touched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    from_edges(edges_of(Chebyshev(2, 2), 2), 2, 2)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    Chebyshev(2, 2)
    assert torch.equal(torch.get_rng_state(), after)
