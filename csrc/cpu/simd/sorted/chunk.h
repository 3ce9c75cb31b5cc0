// A tile of rows by a chunk of inputs, ready for the kernels: the rows of each input sorted by knot interval,
// and the values at every x.
#pragma once

#include "../common/arena.h"
#include "../common/evaluate.h"
#include "../common/tile.h"
#include "compress.h"
#include "grid.h"

namespace fastkan {
namespace FASTKAN_ISA {

// The pivot is the spline whose values are not stored. Values of the splines sum to 1, their derivatives to
// 0: with D_r = C_r - C_pivot, sum_r B_r C_r = C_pivot + sum_{r != pivot} B_r D_r, which takes an addition in
// place of a multiply-add, and for derivatives nothing.
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

// Takes a chunk's arrays from the arena, for at most `rows` rows and `inputs` inputs.
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

// The splines but for the pivot, at the sorted rows of every interval. A vector may reach into the next
// interval, whose values are written later.
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

template <class T>
static void fill_splines(const Grid<T>& grid, const Chunk<T>& chunk, int i, const Values& first) {
  const Values& second = chunk.sets.second;
  const uint16_t* const starts = chunk.starts_of(i);
  with_orders(first, second, chunk.values_of(i, first), chunk.values_of(i, second),
              [&](auto r, const auto& nu, const auto& out) {
                spline_values<T, r.value>(grid, nu, starts, chunk.sorted, chunk.stride, out);
              });
}

template <class T>
static void fill_values(const Call<T>& call, const Chunk<T>& chunk, int i) {
  if (!chunk.arrays) return;  // gram and quadratic evaluate as they go
  const auto base_of = [&](const Values& s) { return chunk.values_of(i, s) + s.base() * chunk.stride; };
  const Values &set = chunk.sets.first, &second = chunk.sets.second;
  const Values& evaluated = chunk.sets.plain.splines >= 0 ? chunk.sets.plain : set;
  fill_splines(chunk.grid_of(call.problem, i), chunk, i, evaluated);
  activation_arrays(call.problem.activation, evaluated, second, chunk.sorted, chunk.rows, base_of(evaluated),
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

// Reads, sorts and evaluates rows [first_row, + rows) of inputs [first_input, + inputs).
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

// Whether an x of input i is NaN. Such rows lie outside of all intervals, at the end.
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
