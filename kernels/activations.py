"""The base activations and their derivatives of any order: to add one, write it here and give it a branch in `activation_value`.

The formulas use s(x) s(-x) and tanh, which do not cancel in the tails as 1 - s(x) would.
"""

import triton
import triton.language as tl

from fastkan.kernels.elementary import erfc, exp, tanh

FAR = tl.constexpr(1000.0)  # past it every product with a vanishing factor is 0, and inf never meets 0


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + exp(-x))


@triton.constexpr_function
def coefficient(nu, j):
    """c_j of `logistic`: as d' = d q and q' = -2 d, every term gives two of the next order."""
    if j < 0 or 2 * j >= nu:
        return 0
    if j == 0:
        return 1
    return (j + 1) * coefficient(nu - 1, j) - 2 * (nu - 2 * j) * coefficient(nu - 1, j - 1)


@triton.jit
def logistic(d, q, NU: tl.constexpr):
    """s^(nu) = d (q^(nu-1) + c_1 d q^(nu-3) + c_2 d^2 q^(nu-5) + ...) for nu > 0, with d = s(x) s(-x) and q = 1 - 2 s(x)."""
    value = d
    if NU % 2 == 0:
        value = d * q
    if NU > 2:
        square = q * q
        total = square + coefficient(NU, 1) * d
        power = d
        for j in tl.static_range(2, (NU + 1) // 2):
            power = power * d
            total = total * square + coefficient(NU, j) * power
        value = value * total
    return value


@triton.jit
def sigmoid_derivative(x, NU: tl.constexpr):
    if NU == 0:
        return sigmoid(x)
    return logistic(sigmoid(x) * sigmoid(-x), tanh(-0.5 * x), NU)


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
    older = tl.zeros_like(x) + 1.0
    newer = near
    for n in tl.static_range(2, NU):
        following = near * newer - (n - 1) * older
        older = newer
        newer = following
    value = density * (NU * older - near * newer)
    return value if NU % 2 == 0 else -value


@triton.jit
def hyperbolic_tangent(x, NU: tl.constexpr):
    """tanh(x) = 1 - 2 s(-2x), and q is tanh(x) there."""
    t = tanh(x)
    if NU == 0:
        return t
    return (-2) ** (NU + 1) * logistic(sigmoid(2.0 * x) * sigmoid(-2.0 * x), t, NU)


@triton.jit
def identity(x, NU: tl.constexpr):
    if NU == 0:
        return x
    elif NU == 1:
        return tl.zeros_like(x) + 1.0
    else:
        return tl.zeros_like(x)


@triton.jit
def relu(x, NU: tl.constexpr):
    if NU == 0:
        return tl.where(x > 0, x, 0.0)
    elif NU == 1:
        return (x > 0).to(x.dtype)
    else:
        return tl.zeros_like(x)


@triton.jit
def activation_value(x, ACTIVATION: tl.constexpr, NU: tl.constexpr):
    """nu-th derivative of the named activation; NaN at NaN, whatever the activation."""
    if ACTIVATION == "silu":
        value = silu(x, NU)
    elif ACTIVATION == "gelu":
        value = gelu(x, NU)
    elif ACTIVATION == "tanh":
        value = hyperbolic_tangent(x, NU)
    elif ACTIVATION == "identity":
        value = identity(x, NU)
    elif ACTIVATION == "relu":
        value = relu(x, NU)
    else:
        tl.static_assert(ACTIVATION == "zero", "an activation that kernels/activations.py does not have")
        value = tl.zeros_like(x)
    return tl.where(x == x, value, x)
