"""From data to formulas."""

import numpy as np
import pytest
import torch

import fastkan
from fastkan.formulas.discovery import _left_over

X = torch.rand(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
Y = X[:, 0] * torch.exp(X[:, 1])


@pytest.fixture(scope="module")
def found():
    return fastkan.discover(X, Y, names=["a", "b"])


def test_a_formula_is_found(found):
    best = found[0]
    assert str(best.expression) == "a*exp(b)" and best.claimed and best.rmse < 1e-12
    torch.testing.assert_close(best.model(X)[:, 0], Y)
    torch.testing.assert_close(best.formula(X)[:, 0], Y)
    assert {snap.which for snap in best.snaps} <= {"a", "b", "c", "offset"}
    assert repr(best).startswith("a*exp(b)  (rmse") and repr(found).splitlines()[0] == repr(best)
    assert found.splines_rmse < 1e-3 and isinstance(found.splines, fastkan.KAN)


def test_it_is_the_same_again_and_of_arrays(found):
    again = fastkan.discover(X.numpy().astype(np.float64), Y[:, None].numpy(), names=["a", "b"])
    assert [repr(one) for one in again] == [repr(one) for one in found]


def test_a_frame_gives_its_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.numpy(), columns=["speed", "time"])
    assert str(fastkan.discover(frame, pandas.Series(Y.numpy()))[0].expression) == "speed*exp(time)"


def test_units_do_not_matter():
    scale, shift = torch.tensor([1e3, 0.3]), torch.tensor([2e3, 1.0])
    x = X * scale + shift
    best = fastkan.discover(x, 1e6 * x[:, 0] * x[:, 1] ** 2)[0]
    assert str(best.expression).replace(".0", "") == "1000000*x1*x2**2" and best.claimed


def test_noise(found):
    noisy = Y + 0.01 * Y.std() * torch.randn(len(Y), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    best = fastkan.discover(X, noisy)[0]
    assert best.claimed and str(best.expression) == "x1*exp(x2)"


def test_only_the_named_functions_are_used():
    found = fastkan.discover(X, Y, functions=["x", "x**2"], budget=1.0)
    text = repr(found)
    assert found and "exp" not in text and "sin" not in text and not found[0].claimed


def test_the_budget_ends_it():
    """One round is made, and no other is begun."""
    x = torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.special.bessel_j0(9 * x[:, 0] * x[:, 1]) + x[:, 2]
    met = []
    from fastkan.formulas import discovery

    def counted(*arguments):
        met.append(arguments[2])
        return discovery_candidates(*arguments)

    discovery_candidates = discovery.candidates
    discovery.candidates = counted
    try:
        found = fastkan.discover(x, y, budget=1e-3)
    finally:
        discovery.candidates = discovery_candidates
    assert len(met) == 1 and isinstance(found.splines, fastkan.KAN)


def test_no_random_state_is_touched():
    before = torch.get_rng_state()
    fastkan.discover(X[:60], X[:60, 0], budget=1e-3)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_neighbours_share_is_left_over():
    x = torch.rand(600, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for seed in range(5):
        noise = torch.randn(600, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert not _left_over(x, noise)
    assert _left_over(x, torch.sin(3 * x.sum(1)) - torch.sin(3 * x.sum(1)).mean())
    assert _left_over(x, (x[:, 0] - 0.5) * (x[:, 1] - 0.5))


@pytest.mark.proof
def test_no_formula_is_claimed_where_there_is_none():
    from scipy.special import ellipkinc

    y = torch.from_numpy(ellipkinc(*(1.5 * X[:, 0].numpy(), 0.45 * (X[:, 1].numpy() + 1))))
    found = fastkan.discover(X, y)
    assert not any(one.claimed for one in found) and found.splines_rmse < 1e-2 * y.std()
    errors = [one.rmse for one in sorted(found, key=lambda one: one.complexity)]
    assert len(found) > 1 and min(errors) < errors[0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((X, Y[:-1]), ValueError, "y: expected one number for each of 400 rows, received shape"),
        ((X, X), ValueError, "y: expected one number"),
        ((X[:10], Y[:10]), ValueError, "x: expected at least 40 rows, received 10"),
        ((X, torch.ones(400)), ValueError, "y: expected numbers that differ"),
        ((X * torch.nan, Y), ValueError, "x: expected finite numbers"),
        ((X[None], Y), ValueError, r"x: expected rows \[B, I\]"),
        (("rows", Y), TypeError, "x: expected numbers, received str"),
        ((X, Y, ["a"]), ValueError, "names: expected 2 different ones"),
        ((X, Y, ["a", "a"]), ValueError, "names: expected 2 different ones"),
        ((X, Y, None, 0), ValueError, "budget: expected seconds above 0"),
        ((X, Y, None, 1, 0, ["sine"]), ValueError, "received 'sine'"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        fastkan.discover(*arguments)
