"""Equations of physics that kanpiler has to build, from the Feynman lectures where they have a number, with ranges of our own."""

from collections.abc import Callable
from math import pi
from typing import NamedTuple

from torch import Tensor, arcsin, cos, exp, log, sin, sqrt, tanh


class Equation(NamedTuple):
    """text: for sympy. ranges: by name, in the order of function's arguments, which are columns [B] each, to [B]."""

    text: str
    ranges: dict[str, tuple[float, float]]
    function: Callable[..., Tensor]


ONE = (1.0, 2.0)
TWO = (3.0, 5.0)


def _planck(h: Tensor, w: Tensor, c: Tensor, k: Tensor, t: Tensor) -> Tensor:
    return h * w**3 / (pi**2 * c**2 * (exp(h * w / (k * t)) - 1))


def _gravity(g: Tensor, m: Tensor, n: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    return g * m * n / ((b - a) ** 2 + (d - c) ** 2 + (f - e) ** 2)


def _between(names: str, pair: tuple[float, float] = ONE, **other: tuple[float, float]) -> dict[str, tuple[float, float]]:
    return {name: other.get(name, pair) for name in names.split()}


EQUATIONS = {
    "I.6.2a": Equation("exp(-t**2/2)/sqrt(2*pi)", _between("t", (1, 3)), lambda t: exp(-(t**2) / 2) / (2 * pi) ** 0.5),
    "I.6.2": Equation(
        "exp(-(t/s)**2/2)/(sqrt(2*pi)*s)", _between("t s", (1, 3)), lambda t, s: exp(-((t / s) ** 2) / 2) / ((2 * pi) ** 0.5 * s)
    ),
    "I.6.2b": Equation(
        "exp(-((t - u)/s)**2/2)/(sqrt(2*pi)*s)", _between("t u s", (1, 3)),
        lambda t, u, s: exp(-(((t - u) / s) ** 2) / 2) / ((2 * pi) ** 0.5 * s),
    ),
    "I.8.14": Equation(
        "sqrt((b - a)**2 + (d - c)**2)", _between("a b c d", b=TWO, d=TWO),
        lambda a, b, c, d: sqrt((b - a) ** 2 + (d - c) ** 2),
    ),
    "I.9.18": Equation(
        "g*m*n/((b - a)**2 + (d - c)**2 + (f - e)**2)", _between("g m n a b c d e f", b=TWO, d=TWO, f=TWO), _gravity
    ),
    "I.10.7": Equation("m/sqrt(1 - v**2/c**2)", _between("m v c", c=TWO), lambda m, v, c: m / sqrt(1 - v**2 / c**2)),
    "I.11.19": Equation("a*x + b*y + c*z", _between("a b c x y z"), lambda a, b, c, x, y, z: a * x + b * y + c * z),
    "I.12.2": Equation("p*q/(4*pi*e*r**2)", _between("p q e r"), lambda p, q, e, r: p * q / (4 * pi * e * r**2)),
    "I.12.11": Equation(
        "q*(e + b*v*sin(t))", _between("q e b v t", t=(0, 3)), lambda q, e, b, v, t: q * (e + b * v * sin(t))
    ),
    "I.13.12": Equation(
        "g*m*n*(1/s - 1/r)", _between("g m n r s", r=TWO), lambda g, m, n, r, s: g * m * n * (1 / s - 1 / r)
    ),
    "I.15.3x": Equation(
        "(x - u*t)/sqrt(1 - u**2/c**2)", _between("x u t c", x=TWO, c=(3, 10)),
        lambda x, u, t, c: (x - u * t) / sqrt(1 - u**2 / c**2),
    ),
    "I.16.6": Equation("(u + v)/(1 + u*v/c**2)", _between("u v c"), lambda u, v, c: (u + v) / (1 + u * v / c**2)),
    "I.18.4": Equation(
        "(m*r + n*s)/(m + n)", _between("m n r s"), lambda m, n, r, s: (m * r + n * s) / (m + n)
    ),
    "I.24.6": Equation(
        "m*(w**2 + v**2)*x**2/4", _between("m w v x"), lambda m, w, v, x: m * (w**2 + v**2) * x**2 / 4
    ),
    "I.26.2": Equation("asin(n*sin(t))", _between("n t", (0, 0.9)), lambda n, t: arcsin(n * sin(t))),
    "I.27.6": Equation("1/(1/d + n/e)", _between("d e n"), lambda d, e, n: 1 / (1 / d + n / e)),
    "I.29.16": Equation(
        "sqrt(a**2 + b**2 - 2*a*b*cos(s - t))", _between("a b s t", b=TWO),
        lambda a, b, s, t: sqrt(a**2 + b**2 - 2 * a * b * cos(s - t)),
    ),
    "I.30.3": Equation(
        "i*sin(n*t/2)**2/sin(t/2)**2", _between("i n t"), lambda i, n, t: i * sin(n * t / 2) ** 2 / sin(t / 2) ** 2
    ),
    "I.32.17": Equation(
        "e*c*f**2/2*8*pi*r**2/3*w**4/(w**2 - v**2)**2", _between("e c f r w v", v=TWO),
        lambda e, c, f, r, w, v: (e * c * f**2 / 2) * (8 * pi * r**2 / 3) * w**4 / (w**2 - v**2) ** 2,
    ),
    "I.34.14": Equation(
        "(1 + v/c)/sqrt(1 - v**2/c**2)*w", _between("v c w", c=(3, 10)), lambda v, c, w: (1 + v / c) / sqrt(1 - v**2 / c**2) * w
    ),
    "I.37.4": Equation(
        "a + b + 2*sqrt(a*b)*cos(d)", _between("a b d", d=(0, 3)), lambda a, b, d: a + b + 2 * sqrt(a * b) * cos(d)
    ),
    "I.40.1": Equation(
        "n*exp(-m*g*x/(k*T))", _between("n m g x k T"), lambda n, m, g, x, k, t: n * exp(-m * g * x / (k * t))
    ),
    "I.41.16": Equation("h*w**3/(pi**2*c**2*(exp(h*w/(k*T)) - 1))", _between("h w c k T"), _planck),
    "I.44.4": Equation(
        "n*k*T*log(V/W)", _between("n k T V W"), lambda n, k, t, v, w: n * k * t * log(v / w)
    ),
    "I.50.26": Equation(
        "x*(cos(w*t) + a*cos(w*t)**2)", _between("x w t a"), lambda x, w, t, a: x * (cos(w * t) + a * cos(w * t) ** 2)
    ),
    "II.6.15a": Equation(
        "p/(4*pi*e)*3*z/r**5*sqrt(x**2 + y**2)", _between("p e z r x y"),
        lambda p, e, z, r, x, y: p / (4 * pi * e) * 3 * z / r**5 * sqrt(x**2 + y**2),
    ),
    "II.11.28": Equation(
        "1 + n*a/(1 - n*a/3)", _between("n a", (0, 1)), lambda n, a: 1 + n * a / (1 - n * a / 3)
    ),
    "II.24.17": Equation(
        "sqrt(w**2/c**2 - pi**2/d**2)", _between("w c d", w=(4, 6), d=TWO), lambda w, c, d: sqrt(w**2 / c**2 - pi**2 / d**2)
    ),
    "II.35.21": Equation(
        "n*m*tanh(m*b/(k*T))", _between("n m b k T"), lambda n, m, b, k, t: n * m * tanh(m * b / (k * t))
    ),
    "Kepler's third law": Equation(
        "2*pi*a**1.5/sqrt(g*(m + n))", _between("a g m n"), lambda a, g, m, n: 2 * pi * a**1.5 / sqrt(g * (m + n))
    ),
}  # fmt: skip
