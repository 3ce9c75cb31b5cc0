// Several derivative orders of the splines and of the activation at once, as jets need them.
#pragma once

#include "../sorted/chunk.h"

namespace fastkan {
namespace FASTKAN_ISA {

// values[n][r] = the nth derivative, n < N, of the R splines alive at x. Order n leaves the recurrence n
// steps before its end and is differentiated from there on.
template <class T, int R, int N, class Knot, class Inverse>
FASTKAN_HD void spline_orders(const Knot* knot, const Inverse& inverse, Lanes<T> x,
                              Lanes<T> (&values)[N][R]) {
  values[0][0] = broadcast<T>(1);
#pragma GCC unroll 8
  for (int k = 1; k < R; ++k) {
    const auto* const widths = inverse(k);
#pragma GCC unroll 4
    for (int n = 1; n < N; ++n) {
      if (k == R - n)
        for (int r = 0; r < k; ++r) values[n][r] = values[0][r];
      if (n < R && k >= R - n) raise_degree(k, true, knot, widths, x, values[n]);
    }
    raise_degree(k, false, knot, widths, x, values[0]);
  }
  for (int n = 1; n < N; ++n)
    for (int r = 0; r < R; ++r)
      values[n][r] = n < R ? values[n][r] * T(derivative_factor(R - 1, n)) : Lanes<T>{};
}

// A vector of sorted rows that lie in one interval: rows [q, q + count).
struct Sorted {
  int interval, q, count;
};

// Calls body(Size<R>, Sorted, values) for all rows of input i that lie in an interval, just sorted. Lanes
// past the rows repeat the first one: an x of another interval might give them infinities.
template <class T, int N, class Body>
FASTKAN_HD void for_sorted(const Call<T>& layer, const Chunk<T>& chunk, int i, const Body& body) {
  const Grid<T> grid = chunk.grid_of(layer.problem, i);
  const uint16_t* const starts = chunk.starts_of(i);
  with_splines(layer.problem.degree + 1, [&](auto splines) {
    constexpr int R = splines.value;
    if constexpr (R > 0)
      for (int j = 0; j < grid.intervals; ++j)
        for (int q = starts[j]; q < starts[j + 1]; q += kLanes<T>) {
          const Sorted rows{j, q, block_size(starts[j + 1] - q, kLanes<T>)};
          const Lanes<T> x = load_first(chunk.sorted + q, rows.count, chunk.sorted[q]);
          const auto inverse = [&](int k) FASTKAN_INLINE_LAMBDA { return grid.inverse(k) + j; };
          Lanes<T> values[N][R] = {};
          spline_orders<T, R, N>(grid.knots + j, inverse, x, values);
          body(splines, rows, values);
        }
  });
}

// out[n * stride + b] = the activation's nth derivative at x[b], n < N
template <class T, int N>
static void base_orders(Activation activation, const T* x, int rows, int64_t stride, T* out) {
  for (int b = 0; b < rows; b += kLanes<T>) {
    Lanes<T> values[N];
    activation_orders(activation, load(x + b), values);
    for (int n = 0; n < N; ++n) store(out + n * stride + b, values[n]);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
