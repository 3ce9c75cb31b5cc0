"""Which splines are alive at x, and their values: the formulas of every kernel but those for uniform grids.

`values` is a tuple of degree + 1 tensors shaped like x.
"""

import triton
import triton.language as tl


@triton.jit
def first_alive(x, knots_ptr, own, K, DEGREE: tl.constexpr):
    """Index of the first spline alive at x: j - degree where t_j <= x < t_{j+1}. j is -1 left of the knots and at NaN, and K - 1
    right of them.

    knots_ptr + own is each element's first knot. Only the stored knots decide, so all operations agree at every knot.
    """
    first = tl.zeros_like(x).to(tl.int32) - (DEGREE + 1)
    for k in range(K):
        first += (x >= tl.load(knots_ptr + own + k)).to(tl.int32)
    return first


@triton.jit
def alive(x, first, knots_ptr, own, K, DEGREE: tl.constexpr, NU: tl.constexpr):
    """nu-th derivatives at x of the splines first .. first + degree; 0 outside the knots, NaN at NaN.

    Cox-de Boor's recursion raises the degree to degree - nu; each of the nu steps after that differentiates (de Boor, A Practical
    Guide to Splines, chapter X).

    Knot indices are clamped at both ends. A spline that would need a knot beyond them gets a meaningless value, and its slot does
    not exist. Every denominator spans interval j, so it is positive where x is inside.
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
    """The splines numbered m: values[m - first] where that one is alive, else 0. `first` and `values` broadcast with m."""
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
    """Every value with a new axis, along which `spline` lays the slots."""
    result = ()
    for k in tl.static_range(DEGREE + 1):
        result = result + (tl.expand_dims(values[k], AXIS),)
    return result
