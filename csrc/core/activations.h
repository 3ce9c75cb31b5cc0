// The activations of the base slot and their derivatives, for scalars and for vectors of lanes. A new
// activation takes a name in one of the lists and its formula, NAME_derivative, in this file.
#pragma once

#include <cmath>
#include <cstdint>

#include "inline.h"

namespace fastkan {

// Smooth ones have formulas up to kHighestOrder, through which NaN comes by itself; piecewise ones know every
// order.
#define FASTKAN_SMOOTH(X) X(silu) X(gelu) X(tanh)
#define FASTKAN_PIECEWISE(X) X(identity) X(zero) X(relu)
#define FASTKAN_ACTIVATIONS(X) FASTKAN_SMOOTH(X) FASTKAN_PIECEWISE(X)
constexpr int64_t kHighestOrder = 8;

enum class Activation {
#define FASTKAN_NAME(name) name,
  FASTKAN_ACTIVATIONS(FASTKAN_NAME)
#undef FASTKAN_NAME
};

// The functions that the formulas take of a value type. Those of vectors: cpu/simd/common/elementary.h.
template <class V>
struct Elementary {
  using Scalar = V;
  FASTKAN_INLINE static V exp(V x) { return std::exp(x); }
  FASTKAN_INLINE static V tanh(V x) { return std::tanh(x); }
  FASTKAN_INLINE static V erfc(V x) { return std::erfc(x); }
};

template <class V>
using Scalar = typename Elementary<V>::Scalar;

// exp(-|x|): the sigmoid s and its derivatives are rational functions of it that neither overflow nor cancel.
template <class V>
FASTKAN_HD V decay(V x) {
  return Elementary<V>::exp(x < V{} ? x : -x);
}

// Past +-1000 every product with a vanishing factor is 0 in both dtypes. Clamping there keeps inf * 0 from
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

// The sigmoid's derivative of order n is d (q^(n-1) + c_1 d q^(n-3) + c_2 d^2 q^(n-5) + ...) with d = s(x)
// s(-x) and q = 1 - 2 s(x): as d' = d q and q' = -2 d, every term gives two of the next order. The first term
// alone is left in the tails, the last one at 0, so nothing cancels there; 1 - s(x) would.
struct SigmoidTerms {
  int c[(kHighestOrder + 1) / 2];
};

FASTKAN_HD constexpr SigmoidTerms sigmoid_terms(int order) {
  SigmoidTerms terms{{1}};
  for (int n = 2; n <= order; ++n)
    for (int j = (n - 1) / 2; j > 0; --j)
      terms.c[j] = (j + 1) * terms.c[j] - 2 * (n - 2 * j) * terms.c[j - 1];
  return terms;
}

// Orders 2 to N. Each has its coefficients in its code: on a GPU those of a run-time order would take
// registers.
template <int N, class V>
FASTKAN_HD V sigmoid_polynomial(int64_t order, V d, V q) {
  if constexpr (N == 2) {
    return d * q;
  } else {
    if (order < N) return sigmoid_polynomial<N - 1>(order, d, q);
    constexpr SigmoidTerms terms = sigmoid_terms(N);
    const V square = q * q;
    V sum = V{} + Scalar<V>(1), power = d;
    for (int j = 1; 2 * j < N; ++j) {
      sum = sum * square + Scalar<V>(terms.c[j]) * power;
      power *= d;
    }
    return N % 2 == 0 ? d * q * sum : d * sum;
  }
}

template <class V>
FASTKAN_HD V sigmoid_derivative(int64_t order, V x) {
  using T = Scalar<V>;
  const V e = decay(x), d = e / ((T(1) + e) * (T(1) + e));
  if (order == 1) return d;
  return sigmoid_polynomial<int(kHighestOrder)>(order, d, Elementary<V>::tanh(x * T(-0.5)));
}

// SiLU and its first derivative from one exponential and one division: every training step needs both.
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

// Exact GELU, x Phi(x). From the second derivative on: (-1)^n phi(x) (n He_{n-2}(x) - x He_{n-1}(x)) with the
// probabilists' Hermite polynomials He.
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

// tanh(x) = 2 s(2x) - 1
template <class V>
FASTKAN_HD V tanh_derivative(int64_t order, V x) {
  using T = Scalar<V>;
  if (order == 0) return Elementary<V>::tanh(x);
  return T(2 << order) * sigmoid_derivative(order, T(2) * x);
}

template <class V>
FASTKAN_HD V identity_derivative(int64_t order, V x) {
  const V zero{}, one = V{} + Scalar<V>(1);
  return order == 0 ? x : order == 1 ? one : zero;
}

template <class V>
FASTKAN_HD V zero_derivative(int64_t, V) {
  return V{};
}

template <class V>
FASTKAN_HD V relu_derivative(int64_t order, V x) {
  const V zero{}, one = V{} + Scalar<V>(1);
  return order > 1 ? zero : (x > zero ? (order == 0 ? x : one) : zero);
}

// The nu-th derivative at x; NaN at NaN. nu is at most highest_order.
template <class V>
FASTKAN_HD V activation_derivative(Activation activation, int64_t nu, V x) {
  V value{};
  switch (activation) {
#define FASTKAN_CASE(name) \
  case Activation::name:   \
    return name##_derivative(nu, x);
    FASTKAN_SMOOTH(FASTKAN_CASE)
#undef FASTKAN_CASE
#define FASTKAN_CASE(name)            \
  case Activation::name:              \
    value = name##_derivative(nu, x); \
    break;
    FASTKAN_PIECEWISE(FASTKAN_CASE)
#undef FASTKAN_CASE
  }
  return x != x ? x : value;
}

// Derivatives of two orders at one x.
template <class V>
FASTKAN_HD void activation_derivatives(Activation activation, int64_t nu, int64_t mu, V x, V& first,
                                       V& second) {
  if (activation == Activation::silu && nu == 0 && mu == 1) return silu_and_slope(x, first, second);
  first = activation_derivative(activation, nu, x);
  second = activation_derivative(activation, mu, x);
}

// values[n] = the nth derivative at x, n < N. With constant orders the compiler takes what they share once.
template <int N, class V>
FASTKAN_HD void activation_orders(Activation activation, V x, V (&values)[N]) {
  for (int n = 0; n < N; ++n) values[n] = V{};
  switch (activation) {
#define FASTKAN_CASE(name)                                           \
  case Activation::name:                                             \
    for (int n = 0; n < N; ++n) values[n] = name##_derivative(n, x); \
    break;
    FASTKAN_ACTIVATIONS(FASTKAN_CASE)
#undef FASTKAN_CASE
  }
  for (int n = 0; n < N; ++n) values[n] = x != x ? x : values[n];
}

// -1: every order.
constexpr int64_t highest_order(Activation activation) {
  switch (activation) {
#define FASTKAN_CASE(name) case Activation::name:
    FASTKAN_SMOOTH(FASTKAN_CASE)
#undef FASTKAN_CASE
    return kHighestOrder;
    default:
      return -1;
  }
}

}  // namespace fastkan
