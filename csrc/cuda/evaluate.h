// The values of the slots that are not zero at one x, written to shared memory. Only cubics have an array of
// the thread's own, because their loops unroll into registers: for a degree known at run time such an array
// would lie in slow local memory.
#pragma once

#include "../core/splines.h"
#include "../core/storage.h"
#include "device.h"

namespace fastkan {

template <class T>
FASTKAN_DEVICE T read(const Source& source, int64_t index) {
  if constexpr (sizeof(T) == 4) {
    if (source.storage == Storage::bfloat16) return widen(static_cast<const Bfloat16*>(source.data)[index]);
    if (source.storage == Storage::float16) return widen(static_cast<const Float16*>(source.data)[index]);
  }
  return static_cast<const T*>(source.data)[index];
}

template <class T>
FASTKAN_DEVICE void write(const Target& target, int64_t index, T value) {
  with_elements<T>(target, [&](auto* data) { narrow(value, data + index); });
}

// t_{j + q}, clamped at both ends like those of local_splines.
template <class T>
struct KnotsAround {
  const T* knots;
  int64_t count, j;
  FASTKAN_DEVICE T operator[](int q) const {
    const int64_t index = j + q;
    return knots[index < 0 ? 0 : index < count ? index : count - 1];
  }
};

template <class T>
struct InverseWidths {
  KnotsAround<T> knot;
  int k;
  FASTKAN_DEVICE T operator[](int r) const { return T(1) / (knot[r + 1] - knot[r + 1 - k]); }
};

// How many values evaluate() writes.
FASTKAN_HD int value_count(const Problem& problem) { return problem.degree + 2; }

// values[0..p] = the nu-th derivatives at x of p + 1 splines, among them all that are not zero, and values[p
// + 1] that of the base slot; returns the first spline. `knots` are those of x's input. All values are NaN at
// NaN.
template <class T>
FASTKAN_DEVICE int64_t evaluate(const Problem& problem, const T* knots, int64_t nu, T x, T* values) {
  const int degree = problem.degree;
  const bool nan = x != x;
  const int64_t j = nan || nu > degree ? -1 : find_interval(knots, problem.num_knots, x);
  values[degree + 1] = activation_derivative(problem.activation, nu, x);
  if (j < 0) {
    for (int r = 0; r <= degree; ++r) values[r] = nan ? x : T(0);
    return 0;
  }
  if (degree == 3) {  // with its loops unrolled, everything stays in registers
    T local[4];
    local_splines(knots, problem.num_knots, 3, int(nu), j, x, local);
    for (int r = 0; r < 4; ++r) values[r] = local[r];
  } else {
    const KnotsAround<T> knot{knots, problem.num_knots, j};
    values[0] = 1;
    for (int k = 1; k <= degree; ++k)
      raise_degree(k, k > degree - int(nu), knot, InverseWidths<T>{knot, k}, x, values);
    if (nu > 0)
      for (int r = 0; r <= degree; ++r) values[r] *= T(derivative_factor(degree, int(nu)));
  }

  // Near the ends some of these splines do not exist: the window moves to p + 1 that do.
  const int64_t alive = j - degree, last = problem.splines() - 1 - degree;
  if (alive < 0) {
    const int missing = int(-alive);
    for (int r = 0; r <= degree; ++r) values[r] = r + missing <= degree ? values[r + missing] : T(0);
    return 0;
  }
  if (alive > last) {
    const int missing = int(alive - last);
    for (int r = degree; r >= 0; --r) values[r] = r >= missing ? values[r - missing] : T(0);
    return last;
  }
  return alive;
}

// The row weight of x [b, i], if there are any.
template <class T>
FASTKAN_DEVICE T row_factor(const Source& row_weight, int64_t index) {
  return row_weight.data ? read<T>(row_weight, index) : T(1);
}

}  // namespace fastkan
