// forward for few rows. They hardly ever share an interval, so they are not sorted: every x reads its own
// weight rows where they lie, and the sums of a row stay in registers while its inputs run past.
#pragma once

#include "../common/arena.h"
#include "../common/blocks.h"
#include "../common/evaluate.h"
#include "../common/tile.h"

namespace fastkan {
namespace FASTKAN_ISA {

// A tile of rows by a chunk of inputs; arrays over both, the inputs of a row side by side.
template <class T>
struct Direct {
  int splines = 0;  // the p + 1 that every x has, alive or not, none for nu > p
  int rows = 0, inputs = 0;
  T *x = nullptr, *factors = nullptr, *base = nullptr;
  T* values = nullptr;       // splines + 1 for every x: its splines, then the base slot
  int32_t* first = nullptr;  // its first spline
};

template <class T>
static Direct<T> make_direct(const Call<T>& call, int rows, int inputs, Arena& arena) {
  Direct<T> direct;
  const int64_t all = int64_t(rows) * inputs;
  direct.splines = call.problem.nu > call.problem.degree ? 0 : call.problem.degree + 1;
  direct.x = arena.take<T>(all);
  direct.factors = call.row_weight.data ? arena.take<T>(all) : nullptr;
  direct.base = arena.take<T>(all);
  direct.values = arena.take<T>(all * (direct.splines + 1));
  direct.first = arena.take<int32_t>(all);
  return direct;
}

// values[r] of the R splines from the returned one on: those alive at x, and zeros for those that do not
// exist.
template <class T, int R>
FASTKAN_HD int32_t values_at(const Problem& problem, const T* knots, T x, T* values) {
  const int64_t j = find_interval(knots, problem.num_knots, x), last = problem.splines() - R;
  T local[R] = {};
  if (j >= 0) local_splines(knots, problem.num_knots, R - 1, int(problem.nu), j, x, local);
  const int64_t alive = j - (R - 1), first = alive < 0 ? 0 : alive < last ? alive : last;
  for (int r = 0; r < R; ++r) {
    const int64_t own = r + first - alive;
    values[r] = own >= 0 && own < R ? local[own] : T(0);
  }
  return int32_t(first);
}

template <class T>
static void fill_direct(const Call<T>& call, Direct<T>& direct, int64_t first_row, int rows,
                        int64_t first_input, int inputs) {
  const Problem& problem = call.problem;
  const int64_t offset = first_row * problem.in_features + first_input;
  const int all = rows * inputs;
  direct.rows = rows;
  direct.inputs = inputs;
  read_block(call.x, offset, problem.in_features, rows, inputs, inputs, direct.x);
  if (direct.factors)
    read_block(call.row_weight, offset, problem.in_features, rows, inputs, inputs, direct.factors);
  for (int q = 0; q < all; q += kLanes<T>)
    store(direct.base + q, activation_derivative(problem.activation, problem.nu, load(direct.x + q)));
  with_splines(direct.splines, [&](auto r) {
    constexpr int R = r.value;
    for (int q = 0; q < all; ++q) {
      T* const values = direct.values + q * (R + 1);
      if constexpr (R > 0) {
        const T* const knots = call.knots + (first_input + q % inputs) * problem.num_knots;
        direct.first[q] = values_at<T, R>(problem, knots, direct.x[q], values);
      }
      values[R] = direct.base[q];
      if (direct.factors)
        for (int k = 0; k <= R; ++k) values[k] *= direct.factors[q];
    }
  });
}

// The weight rows of one x, for its splines and the base slot: NV vectors of outputs from `o` on
template <class T>
struct RowsOfOne {
  const T *splines, *base;
  int64_t stride;
};

// Where they lie, or, if a vector would not fit or the numbers have 16 bit, a copy that is widened and
// padded.
template <class T, int R, int NV>
FASTKAN_HD RowsOfOne<T> rows_of_one(const Call<T>& call, int64_t input, int32_t first, int64_t o, int columns,
                                    T* copy) {
  constexpr int width = NV * kLanes<T>;
  const int64_t O = call.problem.out_features, slot = input * call.problem.slots();
  const int64_t splines = (slot + first) * O + o, base = (slot + call.problem.splines()) * O + o;
  if (columns == width && call.weight.storage == kStorage<T>) {
    const T* const weight = static_cast<const T*>(call.weight.data);
    return {weight + splines, weight + base, O};
  }
  read_block(call.weight, splines, O, R, columns, width, copy);
  read_block(call.weight, base, O, 1, columns, width, copy + R * width);
  return {copy, copy + R * width, width};
}

// tile[b] = sum_i (sum_r B_r C_r + base C_base) for outputs [o, o + columns), NV vectors wide
template <class T, int R, int NV>
FASTKAN_NOINLINE void direct_block(const Call<T>& call, const Direct<T>& direct, int64_t first_input,
                                   int64_t o, int columns, T* tile) {
  constexpr int w = kLanes<T>;
  T copy[(R + 1) * NV * w];
  for (int b = 0; b < direct.rows; ++b) {
    Lanes<T> sum[NV] = {};
    for (int i = 0; i < direct.inputs; ++i) {
      const int q = b * direct.inputs + i;
      const T* const values = direct.values + int64_t(q) * (R + 1);
      const RowsOfOne<T> rows =
          rows_of_one<T, R, NV>(call, first_input + i, R > 0 ? direct.first[q] : 0, o, columns, copy);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < NV; ++v) sum[v] += values[r] * load(rows.splines + r * rows.stride + v * w);
      for (int v = 0; v < NV; ++v) sum[v] += values[R] * load(rows.base + v * w);
    }
    for (int v = 0; v < NV; ++v) store(tile + (b * NV + v) * w, sum[v]);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
