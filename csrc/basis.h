// The formulas, once, for the CPU core and for CUDA: the interval of x, the B-splines alive there, the base
// activation.
#pragma once

#include <cmath>

#include "problem.h"

namespace fastkan {

// The one interval knots[j] <= x < knots[j + 1] among the count - 1 intervals; -1 if x is outside [knots[0],
// knots[count - 1]) or NaN. Only stored knots are compared with x, so that all operations and orders agree on
// every knot; an interval found has positive width.
template <class T>
FASTKAN_HD int64_t find_interval(const T* knots, int64_t count, T x) {
  const int64_t intervals = count - 1;
  const T first = knots[0], last = knots[intervals];
  if (!(x >= first && x < last)) return -1;

  // Right at once on uniform knots, up to rounding. The comparison is false for the NaN of a range that
  // overflows.
  const T guess = (x - first) / (last - first) * T(intervals);
  if (guess < T(intervals)) {
    const int64_t j = int64_t(guess);
    if (j < intervals && knots[j] <= x && x < knots[j + 1]) return j;
  }

  int64_t low = 0, high = intervals;  // knots[low] <= x < knots[high]
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (knots[middle] <= x ? low : high) = middle;
  }
  return low;
}

// values[r] = nu-th derivative at x of the spline j - degree + r, r = 0..degree, for x in interval j and nu
// <= degree. Cox-de Boor raises the degree to degree - nu, then each lift differentiates once (de Boor, A
// Practical Guide to Splines, ch. X). Knot indices are clamped at both ends: splines that would need a knot
// from beyond come out meaningless and are dropped by the caller, the others never see one. Every denominator
// spans interval j, hence is positive: 0/0 := 0 needs no test.
template <class T>
FASTKAN_HD void local_splines(const T* knots, int64_t count, int degree, int nu, int64_t j, T x, T* values) {
  T window[2 * kMaxDegree];
  T* const knot = window + degree - 1;  // knot[q] = t_{j + q}, q = 1 - degree .. degree
  for (int q = 1 - degree; q <= degree; ++q) {
    const int64_t index = j + q;
    knot[q] = knots[index < 0 ? 0 : index < count ? index : count - 1];
  }

  values[0] = 1;
  for (int k = 1; k <= degree; ++k) {  // values[0..k-1] of degree k - 1 become values[0..k] of degree k
    const bool differentiate = k > degree - nu;
    T carry = 0;
    for (int r = 0; r < k; ++r) {
      const T left = knot[r + 1 - k], right = knot[r + 1];  // the support of values[r]
      const T share = values[r] / (right - left);
      values[r] = carry + (differentiate ? -k * share : (right - x) * share);
      carry = differentiate ? k * share : (x - left) * share;
    }
    values[k] = carry;
  }
}

template <class T>
FASTKAN_HD T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

// Past +-1000 every product with a vanishing factor is 0 in both dtypes; clamping there keeps inf * 0 from
// becoming NaN.
template <class T>
FASTKAN_HD T clamp_below(T x) {
  return x < T(-1000) ? T(-1000) : x;
}

template <class T>
FASTKAN_HD T clamp_both(T x) {
  return x > T(1000) ? T(1000) : clamp_below(x);
}

// Closed forms in s(x) s(-x) and tanh, which do not cancel in the tails as 1 - s(x) would.
template <class T>
FASTKAN_HD T sigmoid_derivative(int64_t order, T x) {
  if (order == 0) return sigmoid(x);
  const T d = sigmoid(x) * sigmoid(-x), q = std::tanh(-x / 2);
  switch (order) {
    case 1:
      return d;
    case 2:
      return d * q;
    case 3:
      return d * (1 - 6 * d);
    default:
      return d * q * (1 - 12 * d);
  }
}

template <class T>
FASTKAN_HD T silu_derivative(int64_t order, T x) {
  if (order == 0) return clamp_below(x) * sigmoid(x);
  return clamp_both(x) * sigmoid_derivative(order, x) + T(order) * sigmoid_derivative(order - 1, x);
}

// Exact GELU, x Phi(x). From the second derivative on: (-1)^n phi(x) (n He_{n-2}(x) - x He_{n-1}(x)),
// probabilists' Hermite.
template <class T>
FASTKAN_HD T gelu_derivative(int64_t order, T x) {
  const T cumulative = std::erfc(-x * T(0.70710678118654752440)) / 2;
  if (order == 0) return clamp_below(x) * cumulative;
  x = clamp_both(x);
  const T density = std::exp(-x * x / 2) * T(0.39894228040143267794);
  if (order == 1) return cumulative + x * density;
  T older = 1, newer = x;  // He_{n-2}, He_{n-1}, starting from n = 2
  for (int64_t n = 2; n < order; ++n) {
    const T next = x * newer - T(n - 1) * older;
    older = newer;
    newer = next;
  }
  const T value = density * (T(order) * older - x * newer);
  return order % 2 == 0 ? value : -value;
}

template <class T>
FASTKAN_HD T tanh_derivative(int64_t order, T x) {
  const T t = std::tanh(x);
  if (order == 0) return t;
  const T u = 4 * sigmoid(2 * x) * sigmoid(-2 * x);  // 1 - t^2 without the cancellation
  switch (order) {
    case 1:
      return u;
    case 2:
      return -2 * t * u;
    case 3:
      return u * (6 * t * t - 2);
    default:
      return t * u * (16 - 24 * t * t);
  }
}

// nu-th derivative of the base activation; x is not NaN, and the order was checked with max_base_order.
template <class T>
FASTKAN_HD T base_value(Base base, int64_t nu, T x) {
  switch (base) {
    case Base::silu:
      return silu_derivative(nu, x);
    case Base::gelu:
      return gelu_derivative(nu, x);
    case Base::tanh:
      return tanh_derivative(nu, x);
    case Base::identity:
      return nu == 0 ? x : T(nu == 1);
    case Base::relu:
      return x > 0 && nu <= 1 ? (nu == 0 ? x : T(1)) : T(0);
    case Base::zero:
      break;
  }
  return T(0);
}

// The highest derivative order base_value knows; -1 = every order.
constexpr int64_t max_base_order(Base base) {
  return base == Base::silu || base == Base::gelu || base == Base::tanh ? 4 : -1;
}

// The slots that are not zero at one x: `splines` consecutive ones from `first` on, then the base slot.
template <class T>
struct Active {
  int64_t first = 0;
  int splines = 0;
  T values[kMaxDegree + 2];  // values[splines] is the base's

  FASTKAN_HD int count() const { return splines + 1; }
  FASTKAN_HD int64_t slot(int k, const Problem& problem) const {
    return k < splines ? first + k : problem.splines();
  }
};

// `knots` are the knots of x's input. A NaN x has only its base slot here, which is NaN whatever the base; an
// operation with an output per slot must treat x != x by itself.
template <class T>
FASTKAN_HD Active<T> active_slots(const Problem& problem, const T* knots, int64_t nu, T x) {
  Active<T> active;
  if (x != x) {
    active.values[0] = x;
    return active;
  }
  const int degree = problem.degree;
  const int64_t j = nu > degree ? -1 : find_interval(knots, problem.num_knots, x);
  if (j >= 0) {
    T local[kMaxDegree + 1];
    local_splines(knots, problem.num_knots, degree, int(nu), j, x, local);
    const int64_t begin = j - degree < 0 ? 0 : j - degree;
    const int64_t end = j + 1 < problem.splines() ? j + 1 : problem.splines();
    active.first = begin;
    active.splines = int(end - begin);
    for (int k = 0; k < active.splines; ++k) active.values[k] = local[begin - (j - degree) + k];
  }
  active.values[active.splines] = base_value(problem.base, nu, x);
  return active;
}

// f_slot^(nu)(x), for threads that own one slot: the splines are evaluated only if the slot's support holds
// x.
template <class T>
FASTKAN_HD T slot_value(const Problem& problem, const T* knots, int64_t nu, T x, int64_t slot) {
  if (x != x) return x;
  if (slot == problem.splines()) return base_value(problem.base, nu, x);
  const int degree = problem.degree;
  const int64_t j = nu > degree ? -1 : find_interval(knots, problem.num_knots, x);
  if (j < slot || j > slot + degree) return T(0);
  T local[kMaxDegree + 1];
  local_splines(knots, problem.num_knots, degree, int(nu), j, x, local);
  return local[slot - (j - degree)];
}

}  // namespace fastkan
