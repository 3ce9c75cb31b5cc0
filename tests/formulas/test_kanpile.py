"""kanpiler: models that equal expressions, and expressions that are refused."""

import contextlib
import math
import random

import pytest
import torch

import fastkan
from fastkan.formulas import add_function, kanpiler
from fastkan.nn import FUNCTIONS
from fastkan.nn.edges import present

sympy = pytest.importorskip("sympy")
D = torch.float64


def rows(ranges, count=400):
    low, high = torch.tensor(ranges, dtype=D).unbind(1)
    return low + (high - low) * torch.rand(count, len(ranges), dtype=D, generator=torch.Generator().manual_seed(1))


def off(model, wanted, x):
    """The largest error of a model, as a share of the function's size."""
    return float((model(x)[:, 0].detach() - wanted).abs().max() / wanted.abs().max())


EXPRESSIONS = [  # text, ranges, function of torch, widths
    ("x*y", [(-1, 1)] * 2, lambda x, y: x * y, [2, (0, 1)]),
    ("3*x*y + 1", [(-1, 1)] * 2, lambda x, y: 3 * x * y + 1, [2, (0, 1), 1]),
    ("x + x**2 + x**3", [(-2, 1)], lambda x: x + x**2 + x**3, [1, 3, 1]),
    ("m*sin(2*v + 1) - pi", [(1, 2)] * 2, lambda m, v: m * torch.sin(2 * v + 1) - math.pi, [2, (0, 1), 1]),
    ("w*x*y*z", [(-1, 1)] * 4, lambda w, x, y, z: w * x * y * z, [4, (0, 1)]),
    ("exp(sin(pi*x) + y**2) + z + w", [(-1, 1)] * 4,
     lambda w, x, y, z: torch.exp(torch.sin(math.pi * x) + y**2) + z + w, [4, 2, 1]),
    ("z*w*exp(sin(pi*x) + y**2)", [(-1, 1)] * 4,
     lambda w, x, y, z: z * w * torch.exp(torch.sin(math.pi * x) + y**2), [4, (1, 1), (0, 1)]),
    ("(x + 1)/(y + 3)", [(-1, 1)] * 2, lambda x, y: (x + 1) / (y + 3), [2, (0, 1)]),
    ("sqrt(1 + x**2 - 2*x*cos(y))", [(2, 3)] * 2, lambda x, y: torch.sqrt(1 + x**2 - 2 * x * torch.cos(y)), [2, (1, 1), 1, 1]),
    ("x**1.5 + y**-1.5", [(0.5, 2)] * 2, lambda x, y: x**1.5 + y**-1.5, [2, (1, 1), 1]),
    ("x**(1/3)*y**2.3", [(0.5, 2)] * 2, lambda x, y: x ** (1 / 3) * y**2.3, [2, 2, (0, 1)]),
    ("x**y + 2**x", [(0.5, 2)] * 2, lambda x, y: x**y + 2**x, [2, (1, 1), 1]),
    ("x**12 - 1/(x - 3)**7", [(-1, 1)], lambda x: x**12 - (x - 3) ** -7.0, [1, (0, 2), 1]),
    ("x**0.25", [(0, 1)], lambda x: x**0.25, [1, 1, 1]),
    ("sin(x + y) + cos(2*x + 2*y + 1)*sin(x + y)", [(-1, 1)] * 2,
     lambda x, y: torch.sin(x + y) * (1 + torch.cos(2 * (x + y) + 1)), [2, 1, (1, 1), 1]),
    ("exp(-3*(x - 1)**2 + 2) + 2/(1 + 4*y**2)", [(-1, 1)] * 2,
     lambda x, y: torch.exp(-3 * (x - 1) ** 2 + 2) + 2 / (1 + 4 * y**2), [2, 1]),
    ("tan(x) + asin(y) + sinh(x)*acosh(y + 3)", [(-1, 1)] * 2,
     lambda x, y: torch.tan(x) + torch.asin(y) + torch.sinh(x) * torch.acosh(y + 3), None),
    ("Max(x, y, 0) + atan2(x, y + 2) + Heaviside(x)", [(-1, 1)] * 2,
     lambda x, y: torch.maximum(x, y).clamp(min=0) + torch.atan2(x, y + 2) + (x > 0), None),
    ("x*(cos(t*w) + a*cos(t*w)**2)", [(1, 2)] * 4,
     lambda a, t, w, x: x * (torch.cos(t * w) + a * torch.cos(t * w) ** 2), [4, (2, 1), 3, (2, 1), (0, 1)]),
    ("x + x**2 + atan(x**2)", [(-1, 1)], lambda x: x + x**2 + torch.atan(x**2), [1, 2, 2, 1]),
    ("sec(x) + coth(y)", [(0.5, 1)] * 2, lambda x, y: 1 / torch.cos(x) + 1 / torch.tanh(y), None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "ranges", "function", "widths"), EXPRESSIONS, ids=[row[0] for row in EXPRESSIONS])
def test_equals_the_expression(text, ranges, function, widths):
    model = kanpiler(text, ranges=ranges)
    x = rows(ranges)
    assert off(model, function(*x.unbind(1)), x) < 1e-12
    assert widths is None or model.widths == widths
    assert not any(present(layer).any() for layer in model.layers)
    assert model.coverage(x) == [1.0] * len(model.layers)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("0", "sign")])
def test_takes_every_function_of_the_library(name):
    f = FUNCTIONS[name]
    x = torch.linspace(0.1, 0.9, 50, dtype=D)[:, None]
    model = kanpiler(sympy.sympify(f.expression), ["x"], ranges=(0.1, 0.9))
    assert off(model, f.call(x[:, 0]), x) < 1e-12
    (edge,) = model.layers[0].symbolic.edges
    assert edge[2] == ("x" if name == "abs" else name)  # of what is positive


@pytest.mark.parametrize("start", [0, 20])
def test_expressions_at_random(start):
    """kanpiler itself compares each with the expression and raises RuntimeError."""
    symbols = sympy.symbols("a b c")
    unary = [sympy.sin, sympy.exp, sympy.sqrt, sympy.log, sympy.atan, abs, *(lambda z, n=n: z**n for n in (2, -1, 7, 1.5, 0.3))]

    def expression(draw, depth):
        if depth == 0:
            return draw.choice([*symbols, *symbols, sympy.Integer(2), sympy.pi, sympy.Float(0.37)])
        parts = [expression(draw, depth - 1) for _ in range(draw.randint(2, 4))]
        kind = draw.random()
        return sympy.Add(*parts) if kind < 0.35 else sympy.Mul(*parts) if kind < 0.6 else draw.choice(unary)(parts[0])

    built = 0
    for seed in range(start, start + 20):
        with contextlib.suppress(ValueError):
            kanpiler(expression(random.Random(seed), 3), symbols, ranges=(0.5, 1.5))
            built += 1
    assert built >= 15


def test_several_expressions_share_nodes_and_are_one_output_each():
    model = kanpiler(["x*y", "x + y", "5", "sin(x*y)"], ["y", "x"])
    x = rows([(-1, 1)] * 2)
    product = x[:, 0] * x[:, 1]
    wanted = torch.stack([product, x.sum(1), torch.full_like(product, 5), product.sin()], dim=1)
    assert torch.allclose(model(x), wanted, rtol=0, atol=1e-14)
    assert model.widths == [2, (1, 1), 4]


def test_products_end_a_model_after_its_sums():
    x = rows([(-1, 1)] * 2)
    last, first = kanpiler(["x + y", "x*y"]), kanpiler(["x*y", "x + y"])
    assert last.widths == [2, (1, 1)]
    assert first.widths == [2, (1, 1), 2]
    assert torch.allclose(last(x).flip(1), first(x), rtol=0, atol=1e-15)


def test_columns_are_the_variables():
    model = kanpiler("b - a", ["c", "b", "a"], ranges={"a": (0, 1), "b": (2, 3), "c": (4, 5)})
    assert model(torch.tensor([[4.5, 2.5, 0.5]], dtype=D)).item() == 2
    assert kanpiler("2*E + beta", ["E", "beta"])(torch.tensor([[1.0, 0.5]], dtype=D)).item() == 2.5


def test_numbers_stay_numbers_in_other_dtypes():
    model = kanpiler("x*y", dtype=torch.float32)
    assert model(torch.tensor([[0.5, 0.25]])).item() == 0.125


def test_what_the_library_lacks_is_a_spline_and_a_warning_says_how_near():
    x = rows([(-1, 1)] * 2)
    wanted = torch.erf(x.sum(1)) * x[:, 1]
    with pytest.warns(UserWarning, match=r"erf .* of 5 cells"):
        coarse = kanpiler("erf(x + y)*y")
    with pytest.warns(UserWarning, match="of 80 cells"):
        fine = kanpiler("erf(x + y)*y", grid_size=80)
    assert off(coarse, wanted, x) < 1e-2
    assert off(fine, wanted, x) < 1e-6
    assert int(present(fine.layers[1]).sum()) == 1


def test_takes_a_users_function():
    add_function("softplus_of_test", torch.nn.functional.softplus)
    try:
        model = kanpiler(sympy.Function("softplus_of_test")(sympy.Symbol("x")) * 2)
        assert model(torch.zeros(1, 1, dtype=D)).item() == pytest.approx(2 * math.log(2), rel=1e-14)
    finally:
        del FUNCTIONS["softplus_of_test"]


REFUSED = [
    ("log(x)", (-1, 1), r"domain of log .* from -1 to 1"),
    ("sqrt(x + y - 1.9)", (-1, 1), r"domain of sqrt .* from -3.9 to 0.1"),
    ("1/(x - 0.3)", (0, 1), "domain of 1/x"),
    ("tan(x)", (0, 2), r"domain of tan .* every 3.142"),
    ("asin(1.0001*sin(x))", (0, 2), r"domain of asin .* to 1.0001"),
    ("x**(1/3)", (0, 1), "base above 0"),
    ("x**y", (-1, 1), "base above 0"),
    ("x*I", (-1, 1), "real and finite numbers"),
    ("x < 1", (-1, 1), "number-valued"),
    ("exp(exp(x))", (0, 9), "finite values"),
    ("5", (0, 1), "with a variable"),
    ("x +* y", (0, 1), "sympy or its text"),
    ("besselj(x, y)", (0, 1), "functions of one argument"),
]


@pytest.mark.parametrize(("text", "ranges", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses_with_the_reason(text, ranges, reason):
    with pytest.raises(ValueError, match=reason):
        kanpiler(text, ranges=ranges)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"variables": ["x"]}, "without y"),
        ({"variables": ["x", "x"]}, "each once"),
        ({"ranges": (1, 0)}, "low < high"),
        ({"ranges": [(0, 1)] * 3}, "2 variables"),
        ({"ranges": {"x": (0, 1)}}, "one for each of x, y"),
        ({"grid_size": 0}, "grid_size"),
    ],
)
def test_refuses_wrong_arguments(settings, reason):
    with pytest.raises(ValueError, match=reason):
        kanpiler("x*y", **settings)


def test_formula_comes_back():
    model = kanpiler("m*v**2/2 + sin(v)", ["m", "v"])
    assert str(fastkan.formulas.symbolic_formula(model, ["m", "v"])) == "m*v**2/2 + sin(v)"
