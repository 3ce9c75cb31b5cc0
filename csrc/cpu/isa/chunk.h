// A tile of rows by a chunk of inputs, made ready for the kernels: sorted by knot interval, with the values
// of the splines alive at every x.
#pragma once

#include "../kernels.h"
#include "compress.h"
#include "elementary.h"
#include "grid.h"
#include "tile.h"

namespace fastkan {
namespace FASTKAN_ISA {

// What the kernels multiply with, for one derivative order nu: the p + 1 splines alive at x, none for nu > p.
// Their values sum to 1, their derivatives to 0, so one of them, the pivot, is not stored: with D_r = C_r -
// C_pivot, sum_r B_r C_r = C_pivot + sum_{r != pivot} B_r D_r, an addition in place of a multiply-add, or
// nothing. Arrays of a set, each over the sorted rows: the splines but for the pivot, the base, and with row
// weights (which multiply all of them) the row weight, as the pivot's value.
struct Values {
  int splines = -1;  // none of this is wanted
  int64_t nu = 0;
  bool weighted = false;
  int first = 0;  // the first of its arrays

  Values() = default;
  Values(const Problem& problem, int64_t order, bool with_factors)
      : splines(order > problem.degree ? 0 : problem.degree + 1), nu(order), weighted(with_factors) {}
  int base() const { return splines > 1 ? splines - 1 : 0; }  // the base's array
  int arrays() const { return splines < 0 ? 0 : base() + 1 + (weighted && splines > 0); }
};

// What is evaluated at once: a set for F and A, perhaps weighted; one for X; and, where X is wanted of the
// first's order too, the first without row weights.
struct Sets {
  Values first, second, plain;

  int most_splines() const {
    const int most = first.splines > second.splines ? first.splines : second.splines;
    return most > plain.splines ? most : plain.splines;
  }
};

template <class T>
Sets gradients_sets(const Call<T>& call) {
  const Problem& problem = call.problem;
  Sets sets;
  if (call.grad_weight.data || call.y.data)
    sets.first = Values(problem, problem.nu, call.row_weight.data != nullptr);
  if (call.grad_input.data) sets.second = Values(problem, call.grad_input_nu, false);
  if (call.grad_row_weight.data) sets.plain = Values(problem, problem.nu, false);
  return sets;
}

template <int N>
struct Size {
  static constexpr int value = N;
};

// Calls body(Size<splines>): 0, or p + 1 for a degree p of 1 to kMaxDegree.
template <class Body>
FASTKAN_HD void with_splines(int splines, const Body& body) {
  switch (splines) {
    case 0:
      return body(Size<0>{});
    case 2:
      return body(Size<2>{});
    case 3:
      return body(Size<3>{});
    case 4:
      return body(Size<4>{});
    case 5:
      return body(Size<5>{});
    case 6:
      return body(Size<6>{});
    case 7:
      return body(Size<7>{});
    case 8:
      return body(Size<8>{});
    case 9:
      return body(Size<9>{});
  }
}

template <int R>
constexpr int kPivot = R >= 3 ? 1 : 0;

template <class T>
struct Chunk {
  Sets sets;
  int rows = 0, inputs = 0, intervals = 0, arrays = 0;
  int64_t stride = 0;  // of an array, and between inputs in `order`
  T *values = nullptr, *grids = nullptr;
  uint16_t *order = nullptr, *starts = nullptr;
  T *columns = nullptr, *factors = nullptr, *sorted = nullptr, *sorted_factors = nullptr, *next = nullptr;
  uint16_t *interval = nullptr, *table = nullptr, *counts = nullptr;

  const uint16_t* order_of(int i) const { return order + i * stride; }
  const uint16_t* starts_of(int i) const { return starts + i * int64_t(intervals + 2); }
  T* values_of(int i, const Values& set) const { return values + (int64_t(i) * arrays + set.first) * stride; }
  Grid<T> grid_of(const Problem& problem, int i) const {
    const int64_t size = grid_stride<T>(problem);
    const T* const own = grids + i * (problem.degree + 1) * size;
    return {own + problem.degree - 1, own + size, size, int(problem.num_knots - 1)};
  }
};

// Takes a chunk's arrays from the arena, for `rows` rows and `inputs` inputs at most.
template <class T>
static Chunk<T> make_chunk(const Call<T>& call, const Sets& sets, int rows, int inputs, Arena& arena) {
  Chunk<T> chunk;
  chunk.sets = sets;
  Values* const all_sets[] = {&chunk.sets.first, &chunk.sets.second, &chunk.sets.plain};
  for (Values* const set : all_sets) {
    set->first = chunk.arrays;
    chunk.arrays += set->arrays();
  }
  chunk.intervals = int(call.problem.num_knots - 1);
  chunk.stride = (rows + 63) / 64 * 64 + 64;
  const int64_t all = chunk.stride * inputs, buckets = chunk.intervals + 2;
  chunk.values = arena.take<T>(all * chunk.arrays);
  chunk.grids = arena.take<T>(inputs * (call.problem.degree + 1) * grid_stride<T>(call.problem));
  chunk.order = arena.take<uint16_t>(all);
  chunk.starts = arena.take<uint16_t>(inputs * buckets);
  chunk.columns = arena.take<T>(all);
  chunk.factors = call.row_weight.data ? arena.take<T>(all) : nullptr;
  chunk.sorted = arena.take<T>(chunk.stride);
  chunk.sorted_factors = call.row_weight.data ? arena.take<T>(chunk.stride) : nullptr;
  chunk.interval = arena.take<uint16_t>(chunk.stride);
  chunk.table = arena.take<uint16_t>(kCells * buckets);
  chunk.next = arena.take<T>(buckets);
  chunk.counts = arena.take<uint16_t>(2 * buckets);
  return chunk;
}

// ---- the values

// values[s][r], r < R: the splines alive at x of degree R - 1, or their derivatives of order nu[s]; for two
// orders, the lower first, the steps before they part are taken once. knot and inverse(k) are those of
// raise_degree, of all lanes or one for each.
template <class T, int R, int ORDERS, class Knot, class Inverse>
FASTKAN_HD void splines_at(const int (&nu)[ORDERS], const Knot* knot, const Inverse& inverse, Lanes<T> x,
                           Lanes<T> (&values)[ORDERS][R]) {
  const int parting = R - nu[ORDERS - 1];
  values[0][0] = broadcast<T>(1);
#pragma GCC unroll 8
  for (int k = 1; k < R; ++k) {
    const auto* const widths = inverse(k);
    if (ORDERS > 1 && k == parting)
      for (int r = 0; r < k; ++r) values[ORDERS - 1][r] = values[0][r];
    if (ORDERS > 1 && k >= parting) raise_degree(k, true, knot, widths, x, values[ORDERS - 1]);
    raise_degree(k, k >= R - nu[0], knot, widths, x, values[0]);
  }
  for (int s = 0; s < ORDERS; ++s)
    if (nu[s] > 0)
      for (int r = 0; r < R; ++r) values[s][r] *= T(derivative_factor(R - 1, nu[s]));
}

// But for the pivot over the sorted rows of every interval. Vectors may reach into the next interval, whose
// values are written after them.
template <class T, int R, int ORDERS>
static void spline_values(const Grid<T>& grid, const int (&nu)[ORDERS], const uint16_t* starts, const T* x,
                          int64_t stride, T* const (&out)[ORDERS]) {
  for (int j = 0; j < grid.intervals; ++j)
    for (int q = starts[j]; q < starts[j + 1]; q += kLanes<T>) {
      const auto inverse = [&](int k) FASTKAN_INLINE_LAMBDA { return grid.inverse(k) + j; };
      Lanes<T> values[ORDERS][R];
      splines_at<T, R>(nu, grid.knots + j, inverse, load(x + q), values);
      for (int s = 0; s < ORDERS; ++s)
        for (int r = 0, array = 0; r < R; ++r)
          if (r != kPivot<R>) store(out[s] + stride * array++ + q, values[s][r]);
    }
}

// Calls body(Size<splines>, orders, out) for what is wanted of two sets: in one go where they share steps.
template <class T, class Body>
FASTKAN_HD void with_orders(const Values& first, const Values& second, T* first_out, T* second_out,
                            const Body& body) {
  const auto alone = [&](const Values& set, T* out) FASTKAN_INLINE_LAMBDA {
    with_splines(set.splines, [&](auto r) {
      const int nu[] = {int(set.nu)};
      T* const outs[] = {out};
      if constexpr (r.value > 0) body(r, nu, outs);
    });
  };
  if (first.splines != second.splines || first.nu >= second.nu) {
    alone(first, first_out);
    return alone(second, second_out);
  }
  with_splines(first.splines, [&](auto r) {
    const int nu[] = {int(first.nu), int(second.nu)};
    T* const outs[] = {first_out, second_out};
    if constexpr (r.value > 0) body(r, nu, outs);
  });
}

template <class T>
static void fill_splines(const Grid<T>& grid, const Chunk<T>& chunk, int i, const Values& first) {
  const Values& second = chunk.sets.second;
  const uint16_t* const starts = chunk.starts_of(i);
  with_orders(first, second, chunk.values_of(i, first), chunk.values_of(i, second),
              [&](auto r, const auto& nu, const auto& out) {
                spline_values<T, r.value>(grid, nu, starts, chunk.sorted, chunk.stride, out);
              });
}

// The base's values at `rows` numbers x, for what is wanted of two sets. SiLU is apart: one that computes no
// slope takes three quarters of the time.
template <class T>
static void base_arrays(Base base, const Values& first, const Values& second, const T* x, int rows,
                        T* first_out, T* second_out) {
  const bool both = first.splines >= 0 && second.splines >= 0;
  const int64_t nu = first.splines >= 0 ? first.nu : second.nu;
  T* const out = first.splines >= 0 ? first_out : second_out;
  const auto fill = [&](const auto& evaluate) FASTKAN_INLINE_LAMBDA {
    for (int q = 0; q < rows; q += kLanes<T>) {
      Lanes<T> value, other;
      evaluate(load(x + q), value, other);
      store(out + q, value);
      if (both) store(second_out + q, other);
    }
  };
  if (both)
    fill([&](Lanes<T> v, Lanes<T>& value, Lanes<T>& other)
             FASTKAN_INLINE_LAMBDA { base_values(base, nu, second.nu, v, value, other); });
  else if (base == Base::silu && nu == 0)
    fill([](Lanes<T> v, Lanes<T>& value, Lanes<T>& other)
             FASTKAN_INLINE_LAMBDA { silu_and_slope(v, value, other); });
  else
    fill([&](Lanes<T> v, Lanes<T>& value, Lanes<T>&)
             FASTKAN_INLINE_LAMBDA { value = base_value(base, nu, v); });
}

template <class T>
static void fill_values(const Call<T>& call, const Chunk<T>& chunk, int i) {
  if (!chunk.arrays) return;  // gram and quadratic evaluate as they go
  const auto base_of = [&](const Values& s) { return chunk.values_of(i, s) + s.base() * chunk.stride; };
  const Values &set = chunk.sets.first, &second = chunk.sets.second;
  const Values& evaluated = chunk.sets.plain.splines >= 0 ? chunk.sets.plain : set;
  fill_splines(chunk.grid_of(call.problem, i), chunk, i, evaluated);
  base_arrays(call.problem.base, evaluated, second, chunk.sorted, chunk.rows, base_of(evaluated),
              base_of(second));
  if (!set.weighted) return;
  T* const out = chunk.values_of(i, set);
  for (int array = 0; array <= set.base(); ++array) {
    const T* const from = chunk.values_of(i, evaluated) + array * chunk.stride;
    T* const values = out + array * chunk.stride;
    for (int q = 0; q < chunk.rows; ++q) values[q] = from[q] * chunk.sorted_factors[q];
  }
  if (set.splines > 0)
    memcpy(out + (set.base() + 1) * chunk.stride, chunk.sorted_factors, size_t(chunk.rows) * sizeof(T));
}

// Sorts the rows of one input of the chunk by interval.
template <class T>
static void sort_input(const Call<T>& call, const Chunk<T>& chunk, int64_t first_input, int i) {
  const Problem& problem = call.problem;
  const Grid<T> grid = make_grid(problem, call.knots + (first_input + i) * problem.num_knots,
                                 chunk.grids + i * (problem.degree + 1) * grid_stride<T>(problem));
  const T* const x = chunk.columns + i * chunk.stride;
  const T* const factors = chunk.factors ? chunk.factors + i * chunk.stride : nullptr;
  uint16_t* const order = chunk.order + i * chunk.stride;
  uint16_t* const starts = chunk.starts + i * int64_t(chunk.intervals + 2);
  T *const sorted = chunk.sorted, *const sorted_factors = chunk.sorted_factors;
#ifdef FASTKAN_COMPRESS
  if (pick_rows(grid, chunk.rows, x, factors, order, starts, sorted, sorted_factors)) return;
#endif
  find_intervals(grid, x, chunk.rows, chunk.table, chunk.next, chunk.interval);
  sort_rows(chunk.interval, chunk.rows, chunk.intervals, x, factors, chunk.counts, order, starts, sorted,
            sorted_factors);
}

// Everything about rows [first_row, + rows) and inputs [first_input, + inputs) that the kernels need.
template <class T>
static void fill_chunk(const Call<T>& call, Chunk<T>& chunk, int64_t first_row, int rows, int64_t first_input,
                       int inputs) {
  const Problem& problem = call.problem;
  const int64_t I = problem.in_features;
  chunk.rows = rows;
  chunk.inputs = inputs;
  read_columns(call.x, I, first_row, rows, first_input, inputs, chunk.columns, chunk.stride);
  if (chunk.factors)
    read_columns(call.row_weight, I, first_row, rows, first_input, inputs, chunk.factors, chunk.stride);
  for (int i = 0; i < inputs; ++i) {
    sort_input(call, chunk, first_input, i);
    fill_values(call, chunk, i);
  }
}

// Whether an x of input i is NaN: such rows lie outside, at the end.
template <class T>
FASTKAN_HD bool has_nan(const Chunk<T>& chunk, int i) {
  const uint16_t *starts = chunk.starts_of(i), *order = chunk.order_of(i);
  const T* const x = chunk.columns + i * chunk.stride;
  for (int q = starts[chunk.intervals]; q < starts[chunk.intervals + 1]; ++q)
    if (x[order[q]] != x[order[q]]) return true;
  return false;
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
