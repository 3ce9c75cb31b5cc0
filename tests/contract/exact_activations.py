"""Exact derivatives of the base activations: in numpy's extended precision for the case table, and by mpmath at some points.

The two share nothing with each other, nor with what they judge.
"""

import functools
import math

import mpmath
import numpy as np

# ---- in extended precision


def normal_distribution(x):
    """P(N <= x) nearly in x's precision: math.erfc in float64, and one Newton step for the rounding of its argument."""
    z = -x / np.sqrt(np.longdouble(2))
    near = z.astype(np.float64)
    erfc = np.vectorize(math.erfc, otypes=[np.float64])(near)
    return (erfc - 2 / np.sqrt(np.pi) * np.exp(-z * z) * (z - near)) / 2


def distribution(x, nu):
    """nu-th derivative of P(N <= x), from Hermite polynomials."""
    if nu == 0:
        return normal_distribution(x)
    hermite = np.polynomial.hermite_e.hermeval(x, [0] * (nu - 1) + [1])
    return (-1) ** (nu - 1) * hermite * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def sigmoid(x, nu):
    """nu-th derivative of s(x), from powers of s(x) and s(-x) with the Eulerian numbers."""
    s, opposite = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    if nu == 0:
        return s
    eulerian = [1]
    for n in range(2, nu + 1):
        pairs = zip([*eulerian, 0], [0, *eulerian], strict=True)
        eulerian = [(k + 1) * same + (n - k) * lower for k, (same, lower) in enumerate(pairs)]
    return sum((-1) ** k * number * s ** (k + 1) * opposite ** (nu - k) for k, number in enumerate(eulerian))


def exact_activation(x, activation, nu):
    """nu-th derivative of a base activation in x's precision, by Leibniz on sigmoid, normal distribution or tanh."""
    if activation == "zero" or (activation in ("identity", "relu") and nu > 1):
        return np.zeros_like(x)
    if activation in ("identity", "relu"):
        kept = np.ones_like(x) if activation == "identity" else (x > 0).astype(x.dtype)
        return kept if nu == 1 else kept * x
    if activation == "tanh":
        return 2.0 ** (nu + 1) * sigmoid(2 * x, nu) - (1 if nu == 0 else 0)
    factor = distribution if activation == "gelu" else sigmoid
    return x * factor(x, nu) + (nu * factor(x, nu - 1) if nu else 0)


# ---- from mpmath

SMOOTH = {
    "silu": lambda t: t / (1 + mpmath.exp(-t)),
    "gelu": lambda t: t * mpmath.erfc(-t / mpmath.sqrt(2)) / 2,
    "tanh": mpmath.tanh,
}
TAILS = {"silu": (8, 12, 20, 40, 80), "gelu": (8, 10, 12), "tanh": (8, 12, 20, 40)}
HIGHEST = 8  # the order that the package promises
DIGITS, POINTS, RADIUS = 120, 32, 0.5  # in a tail up to 70 digits are those of the limit


@functools.cache
def half_circle():
    """Points around 0, and for each order the factors that make a derivative of the values there, by Cauchy's integral.

    The values on the other half are their conjugates. The trapezoidal rule is off by a power of radius / distance of the nearest
    pole, for tanh by 1e-32 of the derivative.
    """
    with mpmath.workdps(DIGITS):
        steps = [RADIUS * mpmath.expjpi(mpmath.mpf(2 * k + 1) / (2 * POINTS)) for k in range(POINTS)]
        return steps, [[mpmath.factorial(n) / POINTS / step**n for step in steps] for n in range(HIGHEST + 2)]


@functools.cache
def derivatives(x, activation):
    """Orders 0 to HIGHEST + 1 at x."""
    steps, factors = half_circle()
    with mpmath.workdps(DIGITS):
        values = [SMOOTH[activation](x + step) for step in steps]
        return [float(mpmath.fdot(values, row).real) for row in factors]


@functools.cache
def zeros(activation, nu):
    """Float32 numbers beside which the nu-th derivative changes sign."""
    grid = np.linspace(-8, 8, 1601, dtype=np.longdouble) + np.longdouble(1e-3)
    signs = np.sign(exact_activation(grid, activation, nu))
    crossing = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    low, high, sign = grid[crossing], grid[crossing + 1], signs[crossing]
    for _ in range(40):
        middle = (low + high) / 2
        same = np.sign(exact_activation(middle, activation, nu)) == sign
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return low.astype(np.float32)


def exact_points(activation, nu):
    """(x, the nu-th derivative, the one after it) in float64: a spread of float32 numbers, both tails, and the zeros."""
    middle, tail = np.linspace(-6, 6, 31, dtype=np.float32), np.array(TAILS[activation])
    x = np.concatenate((middle, -tail, tail, zeros(activation, nu))).astype(np.float64)
    values = np.array([derivatives(float(t), activation) for t in x])
    return x, values[:, nu], values[:, nu + 1]
