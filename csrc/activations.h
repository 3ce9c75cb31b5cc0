// The base activations and their derivatives, for scalars and for vectors of lanes.
#pragma once

#include <cmath>

#include "problem.h"

namespace fastkan {

// What a value type brings along; csrc/cpu/isa/elementary.h has the same for vectors.
template <class V>
struct Elementary {
  using Scalar = V;
  FASTKAN_INLINE static V exp(V x) { return std::exp(x); }
  FASTKAN_INLINE static V tanh(V x) { return std::tanh(x); }
  FASTKAN_INLINE static V erfc(V x) { return std::erfc(x); }
};

template <class V>
using Scalar = typename Elementary<V>::Scalar;

// exp(-|x|), of which the sigmoid s and its derivatives are rational functions that neither overflow nor
// cancel
template <class V>
FASTKAN_HD V decay(V x) {
  return Elementary<V>::exp(x < V{} ? x : -x);
}

// Past +-1000 every product with a vanishing factor is 0 in both dtypes; clamping there keeps inf * 0 from
// becoming NaN.
template <class V>
FASTKAN_HD V clamp_below(V x) {
  const V limit = V{} - Scalar<V>(1000);
  return x < limit ? limit : x;
}

template <class V>
FASTKAN_HD V clamp_both(V x) {
  const V limit = V{} + Scalar<V>(1000);
  return x > limit ? limit : clamp_below(x);
}

// Orders 1 to 4: closed forms in s(x) s(-x) = e / (1 + e)^2 and tanh, which do not cancel in the tails as 1 -
// s(x) would.
template <class V>
FASTKAN_HD V sigmoid_derivative(int64_t order, V x) {
  using T = Scalar<V>;
  const V e = decay(x), d = e / ((T(1) + e) * (T(1) + e));
  if (order == 1) return d;
  if (order == 3) return d * (T(1) - T(6) * d);
  const V q = Elementary<V>::tanh(x * T(-0.5));
  return order == 2 ? d * q : d * q * (T(1) - T(12) * d);
}

// SiLU and its first derivative, of one exponential and one division: every training step takes both.
template <class V>
FASTKAN_HD void silu_and_slope(V x, V& value, V& slope) {
  const V e = decay(x), one = V{} + Scalar<V>(1), r = one / (one + e), s = x < V{} ? e : one;
  value = clamp_below(x) * (s * r);
  slope = r * (s + clamp_both(x) * e * r);
}

template <class V>
FASTKAN_HD V silu_derivative(int64_t order, V x) {
  if (order <= 1) {
    V value, slope;
    silu_and_slope(x, value, slope);
    return order == 0 ? value : slope;
  }
  return clamp_both(x) * sigmoid_derivative(order, x) + Scalar<V>(order) * sigmoid_derivative(order - 1, x);
}

// Exact GELU, x Phi(x). From the second derivative on: (-1)^n phi(x) (n He_{n-2}(x) - x He_{n-1}(x)),
// probabilists' Hermite.
template <class V>
FASTKAN_HD V gelu_derivative(int64_t order, V x) {
  using T = Scalar<V>;
  const V cumulative = Elementary<V>::erfc(x * T(-0.70710678118654752440)) * T(0.5);
  if (order == 0) return clamp_below(x) * cumulative;
  x = clamp_both(x);
  const V density = Elementary<V>::exp(x * x * T(-0.5)) * T(0.39894228040143267794);
  if (order == 1) return cumulative + x * density;
  V older = V{} + T(1), newer = x;  // He_{n-2}, He_{n-1}, starting from n = 2
  for (int64_t n = 2; n < order; ++n) {
    const V next = x * newer - T(n - 1) * older;
    older = newer;
    newer = next;
  }
  const V value = density * (T(order) * older - x * newer);
  return order % 2 == 0 ? value : -value;
}

template <class V>
FASTKAN_HD V tanh_derivative(int64_t order, V x) {
  using T = Scalar<V>;
  const V t = Elementary<V>::tanh(x);
  if (order == 0) return t;
  const V u = T(4) * sigmoid_derivative(1, T(2) * x);  // 1 - t^2 without the cancellation
  switch (order) {
    case 1:
      return u;
    case 2:
      return T(-2) * t * u;
    case 3:
      return u * (T(6) * t * t - T(2));
    default:
      return t * u * (T(16) - T(24) * t * t);
  }
}

// nu-th derivative of the base activation; NaN at NaN. The order was checked with max_base_order.
template <class V>
FASTKAN_HD V base_value(Base base, int64_t nu, V x) {
  using T = Scalar<V>;
  const V zero{}, one = V{} + T(1);
  V value = zero;
  switch (base) {
    case Base::silu:
      return silu_derivative(nu, x);
    case Base::gelu:
      return gelu_derivative(nu, x);
    case Base::tanh:
      return tanh_derivative(nu, x);
    case Base::identity:
      value = nu == 0 ? x : nu == 1 ? one : zero;
      break;
    case Base::relu:
      value = nu > 1 ? zero : (x > zero ? (nu == 0 ? x : one) : zero);
      break;
    case Base::zero:
      break;
  }
  return x != x ? x : value;
}

// Two orders of it at one x.
template <class V>
FASTKAN_HD void base_values(Base base, int64_t nu, int64_t mu, V x, V& first, V& second) {
  if (base == Base::silu && nu == 0 && mu == 1) return silu_and_slope(x, first, second);
  first = base_value(base, nu, x);
  second = base_value(base, mu, x);
}

// The highest derivative order base_value knows; -1 = every order.
constexpr int64_t max_base_order(Base base) {
  return base == Base::silu || base == Base::gelu || base == Base::tanh ? 4 : -1;
}

}  // namespace fastkan
