"""Numbers of formulas, to rounding, and to simple ones where the data let them."""

import math

import pytest
import torch

import fastkan
from fastkan.formulas.named import Named
from fastkan.formulas.polish import polished, snapped

X = torch.rand(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
NOISE = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def named():
    """c sin(a x0 + b) + c' x1^2 + offset"""
    return Named(fastkan.KAN([2, 1], dtype=torch.float64, seed=0), ["sin", "x**2"])


def numbers(*, a=math.pi, b=0.0, c=0.5, square=2.0, offset=0.0):
    return torch.tensor([a, b, c, 1.0, 0.0, square, offset], dtype=torch.float64)


def test_numbers_come_back_to_rounding():
    made, want = named(), numbers(a=2.345, b=0.4, offset=-1.234)
    start = want.clone()
    start[made.free()] += 0.1
    p, error = polished(made, X, made(X, want), start, made.free())
    assert error < 1e-14 and torch.allclose(p, want, atol=1e-12)


def test_a_start_out_of_the_domain_has_no_error():
    made = Named(fastkan.KAN([2, 1], dtype=torch.float64, seed=0), ["log", "x"])
    start = torch.tensor([1.0, 0, 1, 1, 0, 1, 0], dtype=torch.float64)
    p, error = polished(made, X, X[:, 0], start, made.free())
    assert error == math.inf and torch.equal(p, start)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_simple_numbers_are_found_and_said(noise):
    made, want = named(), numbers()
    y = made(X, want)
    y = y + noise * y.std() * NOISE
    p, error = polished(made, X, y, want + 0.01 * made.free(), made.free())
    snapped_to, snaps, after = snapped(made, X, y, p, error)
    assert torch.equal(snapped_to[made.free()], want[made.free()])
    assert {(s.which, s.simple) for s in snaps} >= {("a", math.pi), ("c", 0.5), ("offset", 0.0)}
    assert all(s.errors < 3 for s in snaps) and after < error * 1.05 + 1e-15


def test_numbers_that_are_not_simple_stay():
    made, want = named(), numbers(a=3.05, c=0.53, offset=0.07)
    y = made(X, want)
    y = y + 0.001 * y.std() * NOISE
    p, error = polished(made, X, y, want, made.free())
    after, snaps, _ = snapped(made, X, y, p, error)
    assert {s.which for s in snaps} <= {"b", "c"} and abs(after[0] - 3.05) < 0.01 and abs(after[2] - 0.53) < 0.01
    assert abs(after[-1] - 0.07) < 0.01
