"""What the library says of its functions, against the functions."""

import math

import pytest
import torch

from fastkan.nn import FUNCTIONS, SymbolicEdges

NAMES = [name for name in FUNCTIONS if name != "0"]
HERE = {"Abs": abs, "sign": lambda x: math.copysign(1, x)} | {name: getattr(math, name) for name in dir(math)}


def inside():
    """Arguments in every domain, on the right of 0."""
    return torch.linspace(0.1, 0.9, 9, dtype=torch.float64)


def expected(expression, x):
    return torch.tensor([eval(expression, {"__builtins__": {}}, HERE | {"x": v}) for v in x.tolist()], dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_its_expression(name):
    x = inside()
    torch.testing.assert_close(FUNCTIONS[name].call(x), expected(FUNCTIONS[name].expression, x))


@pytest.mark.parametrize("name", NAMES)
def test_its_slope(name):
    x = inside().requires_grad_()
    (slope,) = torch.autograd.grad(FUNCTIONS[name].call(x).sum(), x)
    torch.testing.assert_close(FUNCTIONS[name].slope(x.detach()), slope)


@pytest.mark.parametrize("name", [name for name in NAMES if FUNCTIONS[name].inverse])
def test_its_inverse(name):
    x = inside()
    torch.testing.assert_close(expected(FUNCTIONS[name].inverse, FUNCTIONS[name].call(x)), x)


@pytest.mark.parametrize("name", NAMES)
def test_its_symmetries(name):
    f, s = FUNCTIONS[name], 0.7
    right = inside() / 3
    x = torch.cat((right, -right - 0.5)) if f.low == -math.inf else right  # not -s, a pole once it is shifted
    one = torch.ones(1, dtype=torch.float64) / 2
    scaled = {
        "amplitude": f.call(s * x) - f.call(s * one) / f.call(one) * f.call(x),
        "offset": f.call(s * x) - f.call(x) - f.call(s * one) + f.call(one),
    }
    shifted = {
        "amplitude": f.call(x + s) - f.call(one + s) / f.call(one) * f.call(x),
        "offset": f.call(x + s) - f.call(x) - f.call(one + s) + f.call(one),
    }
    for differences, said in ((scaled, f.scaling), (shifted, f.shifting)):
        for kind, difference in differences.items():
            holds = bool(difference.abs().max() < 1e-12 * f.call(x).abs().max())
            assert holds == (said == kind) or (name == "sign" and holds)  # which is both
    if f.low < 0:
        even, odd = (torch.allclose(f.call(-x), sign * f.call(x)) for sign in (1, -1))
        assert f.parity == even - odd
    if f.period:
        torch.testing.assert_close(f.call(x + f.period), f.call(x))


@pytest.mark.parametrize("name", NAMES)
def test_trouble_is_where_it_is_not_finite(name):
    f = FUNCTIONS[name]
    ends = torch.linspace(-3.05, 3.05, 40, dtype=torch.float64)
    low, high = torch.meshgrid(ends, ends, indexing="ij")
    low, high = low[low <= high], high[low <= high]
    values = f.call(torch.lerp(low[:, None], high[:, None], torch.linspace(0, 1, 4001, dtype=torch.float64)))
    bad = ~values.isfinite().all(1)
    if f.poles:  # no end is nearer to a pole than 0.07, and in an interval with one a point is nearer than 0.001
        order = int(name[-1]) if "**" in name else 1
        bad |= values.abs().amax(1) > 30.0**order
    assert torch.equal(f.trouble(low, high), bad)


def test_a_pole_between_two_samples_is_trouble():
    low, high = torch.tensor([-1.0, 0.5]), torch.tensor([1.0, 1.0])
    assert FUNCTIONS["1/x"].trouble(low, high).tolist() == [True, False]
    assert FUNCTIONS["tan"].trouble(torch.tensor([8.0, 10.5]), torch.tensor([10.0, 11.0])).tolist() == [False, True]
    assert FUNCTIONS["log"].trouble(torch.tensor([0.0, 1e-9]), torch.tensor([1.0, 1.0])).tolist() == [True, False]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="expected one of 0, x, .* received 'sine'"):
        SymbolicEdges([(0, 0, "sine")], torch.zeros(1, 4), 1)
