// The B-splines, for the CPU and for CUDA: the interval of x, and the splines that are not zero (alive)
// there.
#pragma once

#include "problem.h"

namespace fastkan {

// The interval j, knots[j] <= x < knots[j + 1], among count - 1 intervals; -1 if x is NaN or outside
// [knots[0], knots[count - 1]). x is compared with stored knots only, so all operations and orders agree on
// every knot. The interval has positive width.
template <class T>
FASTKAN_HD int64_t find_interval(const T* knots, int64_t count, T x) {
  const int64_t intervals = count - 1;
  const T first = knots[0], last = knots[intervals];
  if (!(x >= first && x < last)) return -1;

  // On uniform knots the guess is right, but for rounding. A range that overflows gives NaN, for which the
  // comparison is false.
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

// One step of Cox-de Boor in interval j: values[0 .. k - 1], the splines of degree k - 1, become values[0 ..
// k] of degree k, or their derivatives divided by k (de Boor, A Practical Guide to Splines, ch. X). knot[q] =
// t_{j + q} for q = 1 - k .. k, and inverse[r] = 1 / (knot[r + 1] - knot[r + 1 - k]). Each of these widths
// spans interval j, so it is positive, and 0 / 0 := 0 needs no test. V: a value, or a vector of values in the
// same interval. Knots, Inverses: pointers, or types that compute on access.
template <class V, class Knots, class Inverses>
FASTKAN_HD void raise_degree(int k, bool differentiate, Knots knot, Inverses inverse, V x, V* values) {
  V carry = V{};
  for (int r = 0; r < k; ++r) {
    const V share = values[r] * inverse[r];
    values[r] = differentiate ? carry - share : carry + (knot[r + 1] - x) * share;
    carry = differentiate ? share : (x - knot[r + 1 - k]) * share;
  }
  values[k] = carry;
}

// The factor that raise_degree leaves out of nu-th derivatives, degree (degree - 1) ... (degree - nu + 1):
// one multiplication rounds once.
FASTKAN_HD int derivative_factor(int degree, int nu) {
  int factor = 1;
  for (int k = degree; k > degree - nu; --k) factor *= k;
  return factor;
}

// values[r] = the nu-th derivative at x of spline j - degree + r, for r = 0 .. degree, x in interval j and nu
// <= degree. Knot indices are clamped at both ends. A spline that would need a knot from beyond does not
// exist: its value has no meaning, and the caller drops it. No other spline depends on such a knot.
template <class T>
FASTKAN_HD void local_splines(const T* knots, int64_t count, int degree, int nu, int64_t j, T x, T* values) {
  T window[2 * kMaxDegree];
  T* const knot = window + degree - 1;  // knot[q] = t_{j + q}, q = 1 - degree .. degree
  for (int q = 1 - degree; q <= degree; ++q) {
    const int64_t index = j + q;
    knot[q] = knots[index < 0 ? 0 : index < count ? index : count - 1];
  }
  values[0] = 1;
  for (int k = 1; k <= degree; ++k) {
    T inverse[kMaxDegree];
    for (int r = 0; r < k; ++r) inverse[r] = 1 / (knot[r + 1] - knot[r + 1 - k]);
    raise_degree(k, k > degree - nu, knot, inverse, x, values);
  }
  if (nu > 0)
    for (int r = 0; r <= degree; ++r) values[r] *= T(derivative_factor(degree, nu));
}

}  // namespace fastkan
