"""The formulas of the kernels: which splines are alive at x and their values, and the base activation of any order.

Device functions only: no launch, no tile size. `values` is a tuple of degree + 1 tensors shaped like x.
"""

import triton
import triton.language as tl

from fastkan.kernels.elementary import erfc, exp, tanh

FAR = tl.constexpr(1000.0)  # past it every product with a vanishing factor is 0, and inf never meets 0


# ---- splines


@triton.jit
def first_alive(x, knots_ptr, own, K, DEGREE: tl.constexpr):
    """Index of the first spline alive at x: j - degree in the interval t_j <= x < t_{j+1}, where j = -1 left of the knots and at
    NaN, and j = K - 1 right of them.

    knots_ptr + own is each element's first knot. Stored knots alone decide, so that every operation agrees on every knot.
    """
    first = tl.zeros_like(x).to(tl.int32) - (DEGREE + 1)
    for k in range(K):
        first += (x >= tl.load(knots_ptr + own + k)).to(tl.int32)
    return first


@triton.jit
def alive(x, first, knots_ptr, own, K, DEGREE: tl.constexpr, NU: tl.constexpr):
    """nu-th derivatives at x of the splines first .. first + degree; 0 outside the knots, NaN at NaN.

    Cox-de Boor raises the degree to degree - nu, then each lift differentiates (de Boor, A Practical Guide to Splines, ch. X).

    Knot indices are clamped at both ends: splines that would need a knot from beyond come out meaningless, and their slots do
    not exist. Every denominator spans interval j, hence is positive where x is inside.
    """
    j = first + DEGREE
    inside = (j >= 0) & (j < K - 1) & (NU <= DEGREE)
    knots = ()  # t_{j+1-degree} .. t_{j+degree}
    for q in tl.static_range(1 - DEGREE, DEGREE + 1):
        knots = knots + (tl.load(knots_ptr + own + tl.maximum(tl.minimum(j + q, K - 1), 0)),)
    values = (tl.zeros_like(x) + 1.0,)
    for k in tl.static_range(1, DEGREE + 1):
        raised = ()
        carry = tl.zeros_like(x)
        for r in tl.static_range(k):
            left, right = knots[DEGREE + r - k], knots[DEGREE + r]  # the support of values[r]
            share = values[r] / tl.where(inside, right - left, 1.0)
            if k > DEGREE - NU:
                raised = raised + (carry - k * share,)
                carry = k * share
            else:
                raised = raised + (carry + (right - x) * share,)
                carry = (x - left) * share
        values = raised + (carry,)
    kept = ()
    for k in tl.static_range(DEGREE + 1):
        kept = kept + (tl.where(inside, values[k], tl.where(x == x, 0.0, x)),)
    return kept


@triton.jit
def scaled(values, factor, DEGREE: tl.constexpr):
    """Every value times the row weight."""
    product = ()
    for k in tl.static_range(DEGREE + 1):
        product = product + (values[k] * factor,)
    return product


@triton.jit
def spline(first, values, m, DEGREE: tl.constexpr):
    """The splines numbered m, shaped as `first` and `values` broadcast with m: the alive ones in their places."""
    distance = m - first
    value = values[0] * 0.0  # NaN at NaN: every slot of it is NaN
    for k in tl.static_range(DEGREE + 1):
        value = tl.where(distance == k, values[k], value)
    return value


@triton.jit
def slot(first, values, base, m, S, DEGREE: tl.constexpr):
    """The slots numbered m: the splines, then the base activation in slot S."""
    return tl.where(m == S, base, spline(first, values, m, DEGREE))


@triton.jit
def expanded(values, AXIS: tl.constexpr, DEGREE: tl.constexpr):
    """Every value with a new axis, for `spline` to lay the slots along it."""
    result = ()
    for k in tl.static_range(DEGREE + 1):
        result = result + (tl.expand_dims(values[k], AXIS),)
    return result


# ---- base activations: closed forms in s(x) s(-x) and tanh, which do not cancel in the tails as 1 - s(x) would


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + exp(-x))


@triton.jit
def sigmoid_derivative(x, NU: tl.constexpr):
    if NU == 0:
        return sigmoid(x)
    d = sigmoid(x) * sigmoid(-x)
    q = tanh(-0.5 * x)
    if NU == 1:
        return d
    elif NU == 2:
        return d * q
    elif NU == 3:
        return d * (1.0 - 6.0 * d)
    else:
        return d * q * (1.0 - 12.0 * d)


@triton.jit
def silu(x, NU: tl.constexpr):
    if NU == 0:
        return tl.where(x < -FAR, -FAR, x) * sigmoid(x)
    near = tl.where(x > FAR, FAR, tl.where(x < -FAR, -FAR, x))
    return near * sigmoid_derivative(x, NU) + NU * sigmoid_derivative(x, NU - 1)


@triton.jit
def gelu(x, NU: tl.constexpr):
    """Exact GELU, x Phi(x); from the second derivative on by probabilists' Hermite polynomials."""
    cumulative = 0.5 * erfc(x * -0.7071067811865476)
    if NU == 0:
        return tl.where(x < -FAR, -FAR, x) * cumulative
    near = tl.where(x > FAR, FAR, tl.where(x < -FAR, -FAR, x))
    density = exp(-0.5 * near * near) * 0.3989422804014327
    if NU == 1:
        return cumulative + near * density
    elif NU == 2:
        return density * (2.0 - near * near)
    elif NU == 3:
        return density * near * (near * near - 4.0)
    else:
        return density * (4.0 * (near * near - 1.0) - near * near * (near * near - 3.0))


@triton.jit
def hyperbolic_tangent(x, NU: tl.constexpr):
    t = tanh(x)
    if NU == 0:
        return t
    u = 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x)  # 1 - t^2 without the cancellation
    if NU == 1:
        return u
    elif NU == 2:
        return -2.0 * t * u
    elif NU == 3:
        return u * (6.0 * t * t - 2.0)
    else:
        return t * u * (16.0 - 24.0 * t * t)


@triton.jit
def base_value(x, BASE: tl.constexpr, NU: tl.constexpr):
    """nu-th derivative of the base activation; NaN at NaN whatever the base."""
    if BASE == "silu":
        value = silu(x, NU)
    elif BASE == "gelu":
        value = gelu(x, NU)
    elif BASE == "tanh":
        value = hyperbolic_tangent(x, NU)
    elif BASE == "identity" and NU == 0:
        value = x
    elif BASE == "identity" and NU == 1:
        value = tl.zeros_like(x) + 1.0
    elif BASE == "relu" and NU == 0:
        value = tl.where(x > 0, x, 0.0)
    elif BASE == "relu" and NU == 1:
        value = (x > 0).to(x.dtype)
    else:
        value = tl.zeros_like(x)
    return tl.where(x == x, value, x)
