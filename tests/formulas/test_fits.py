"""c f(a x + b) + d of known edges, found again by every function."""

import pytest
import torch

from fastkan.formulas.fits import explained, fits
from fastkan.nn import FUNCTIONS

SMOOTH = [name for name in FUNCTIONS if name not in ("0", "sign")]


def samples(name, seed):
    """An edge of that function on a range that it allows: x, y [N]."""
    f, g = FUNCTIONS[name], torch.Generator().manual_seed(seed)
    t = torch.rand(300, generator=g, dtype=torch.float64) * 2 - 1
    t[:2] = torch.tensor([-1.0, 1.0])
    for _ in range(200):
        a, b, middle, half = (torch.rand(4, generator=g, dtype=torch.float64) - 0.5).tolist()
        a, b = 2.6 * a, 2 * b if f.high < 9 else 5 * b
        z = a * t + b
        if abs(a) > 0.2 and not f.trouble(z.amin(), z.amax()) and f.call(z).abs().max() < 1e3:
            return 3 * middle + (0.5 + half) * 4 * t, 1.7 * f.call(z) - 0.4
    raise AssertionError("no range was found")


@pytest.mark.parametrize("name", SMOOTH)
def test_a_function_is_found_again(name):
    edges = [samples(name, seed) for seed in range(4)]
    x, y = (torch.stack(part) for part in zip(*edges, strict=True))
    found = fits(x, y, [name])
    assert found.r2.min() > 1 - 1e-5
    assert (found.r2 > 1 - 1e-11).sum() >= 3
    a, b, c, d = (part[:, None] for part in found.affine[0].unbind(-1))
    remade = c * FUNCTIONS[name].call(a * x + b) + d
    torch.testing.assert_close(1 - (remade - y).square().sum(1) / (y - y.mean(1, keepdim=True)).square().sum(1), found.r2[0])


def test_edges_do_not_know_of_each_other():
    edges = [samples(name, 1) for name in ("sin", "exp", "1/x", "x**2")]
    x, y = (torch.stack(part) for part in zip(*edges, strict=True))
    names = ["x", "sin", "exp", "1/x", "x**2", "tanh"]
    together = fits(x, y, names)
    for e in range(len(edges)):
        alone = fits(x[e : e + 1], y[e : e + 1], names)
        torch.testing.assert_close(alone.r2[:, 0], together.r2[:, e], atol=1e-9, rtol=0)


def test_no_pole_lies_among_the_samples():
    """The samples leave a gap where the pole would be, so nothing is infinite there."""
    x = torch.cat((torch.linspace(-1, -0.05, 100), torch.linspace(0.05, 1, 100))).double()[None]
    found = fits(x, 1 / x**2, ["1/x**2", "tan", "log", "sqrt"])
    a, b = found.affine[0, 0, :2].tolist()
    assert not -1 <= -b / a <= 1
    assert found.beyond[0, 0] > found.r2[0, 0] + 0.1 and abs(found.pole[0, 0]) < 0.1
    for k, name in enumerate(found.names):
        ends = found.affine[k, 0, 0] * torch.tensor([-1.0, 1.0]) + found.affine[k, 0, 1]
        assert found.r2[k, 0] < 0 or not FUNCTIONS[name].trouble(ends.amin(), ends.amax())


def test_parameters_are_in_their_simplest_form():
    x = torch.linspace(0.5, 4, 200, dtype=torch.float64)[None]
    found = fits(x, torch.sin(-2 * x + 9), ["sin", "sqrt", "exp"])
    a, b, *_ = found.affine[:, 0].unbind(-1)
    assert a[0] > 0 and abs(b[0]) <= torch.pi + 1e-9 and found.r2[0, 0] > 1 - 1e-12
    assert abs(a[1]) == 1 and b[2] == 0


def test_a_constant_edge_and_a_constant_input():
    x = torch.stack((torch.linspace(-1, 1, 50), torch.full((50,), 0.3))).double()
    y = torch.stack((torch.full((50,), 2.0), torch.linspace(0, 1, 50))).double()
    found = fits(x, y, ["0", "x", "sin"])
    assert found.r2[0, 0] == 1 and found.affine[0, 0, 3] == 2
    assert found.affine.isfinite().all() and (found.r2[1:, 1] <= 0).all()


def test_what_is_explained():
    z = torch.linspace(0, 1, 11, dtype=torch.float64)
    r2, c, d = explained(torch.stack((z, torch.full_like(z, torch.nan), torch.ones_like(z))), 3 * z + 1)
    assert r2[0] == pytest.approx(1) and c[0] == pytest.approx(3) and d[0] == pytest.approx(1)
    assert r2[1] == -1 and r2[2] == -1
