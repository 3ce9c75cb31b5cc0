// The values at every x of a tile, row by row: what the rows' kernels read.
#pragma once

#include "../common/blocks.h"
#include "orders.h"

namespace fastkan {
namespace FASTKAN_ISA {

// A record holds, for each of N derivative orders, the values of the p + 1 splines from `first` on and that
// of the base slot. The records of a row's inputs lie side by side.
template <class T, int N>
struct Records {
  Chunk<T> chunk;
  int slots = 0;  // p + 2
  T *values = nullptr, *base = nullptr;
  int32_t* first = nullptr;

  Records(const Call<T>& layer, Arena& arena) {
    chunk = make_chunk(layer, Sets{}, layer.tile_rows, layer.chunk_inputs, arena);
    slots = layer.problem.degree + 2;
    const int64_t all = int64_t(layer.tile_rows) * layer.chunk_inputs;
    values = arena.take<T>(all * N * slots);
    base = arena.take<T>(N * chunk.stride);
    first = arena.take<int32_t>(all);
  }
  int64_t place(int b, int i) const { return int64_t(b) * chunk.inputs + i; }
  T* at(int b, int i) const { return values + place(b, i) * (N * slots); }
};

// The splines of one vector of sorted rows. Near the ends of the knots some that the recurrence gives do not
// exist; in their place stand zeros for others, so that every x has p + 1.
template <class T, int N, int R>
FASTKAN_HD void write_splines(const Problem& problem, const Records<T, N>& records, int i, const Sorted& rows,
                              const Lanes<T> (&values)[N][R]) {
  constexpr int w = kLanes<T>;
  const uint16_t* const order = records.chunk.order_of(i) + rows.q;
  const int last = int(problem.splines()) - R, alive = rows.interval - (R - 1);
  const int first = alive < 0 ? 0 : alive < last ? alive : last, shift = first - alive;
  T columns[N * R * w];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) {
      const bool exists = r + shift >= 0 && r + shift < R;
      store(columns + (n * R + r) * w, exists ? values[n][exists ? r + shift : 0] : Lanes<T>{});
    }
  for (int k = 0; k < rows.count; ++k) {
    const int b = order[k];
    records.first[records.place(b, i)] = first;
    T* const record = records.at(b, i);
    for (int n = 0; n < N; ++n)
      for (int r = 0; r < R; ++r) record[n * (R + 1) + r] = columns[(n * R + r) * w + k];
  }
}

template <class T, int N>
static void fill_records(const Call<T>& layer, Records<T, N>& records, int64_t first_row, int rows,
                         int64_t first_input, int inputs) {
  Chunk<T>& chunk = records.chunk;
  const Problem& problem = layer.problem;
  chunk.rows = rows;
  chunk.inputs = inputs;
  read_columns(layer.x, problem.in_features, first_row, rows, first_input, inputs, chunk.columns,
               chunk.stride);
  for (int i = 0; i < inputs; ++i) {
    sort_input(layer, chunk, first_input, i);
    for_sorted<T, N>(layer, chunk, i, [&](auto splines, const Sorted& sorted, const auto& values) {
      write_splines<T, N, splines.value>(problem, records, i, sorted, values);
    });
    const uint16_t* const order = chunk.order_of(i);
    for (int q = chunk.starts_of(i)[chunk.intervals]; q < rows; ++q) {  // outside: no splines
      records.first[records.place(order[q], i)] = 0;
      memset(records.at(order[q], i), 0, N * records.slots * sizeof(T));
    }
    base_orders<T, N>(problem.activation, chunk.columns + i * chunk.stride, rows, chunk.stride, records.base);
    for (int b = 0; b < rows; ++b)
      for (int n = 0; n < N; ++n)
        records.at(b, i)[(n + 1) * records.slots - 1] = records.base[n * chunk.stride + b];
  }
}

// The p + 2 slots alive at one x: where their rows of NV vectors are in a block of the weight, or of its
// gradient.
template <class T>
struct AliveRows {
  T *splines, *base;
  int64_t stride;
  FASTKAN_INLINE T* at(int n, int last) const { return n < last ? splines + n * stride : base; }
};

template <class T, class S, int N>
FASTKAN_HD AliveRows<S> alive_rows(const Problem& problem, const Records<T, N>& records,
                                   const Slots<S>& slots, int b, int i) {
  S* const own = slots.data + i * slots.input_stride;
  return {own + records.first[records.place(b, i)] * slots.slot_stride,
          own + problem.splines() * slots.slot_stride, slots.slot_stride};
}

// squares[b][i] = sum_k coefficients[k] first[k]^2
template <class T>
static void fill_squares(const JetCall<T>& jet, int64_t first_row, int rows, int64_t first_input, int inputs,
                         T* squares) {
  const int64_t I = jet.layer.problem.in_features, all = jet.layer.problem.batch * I;
  for (int b = 0; b < rows; ++b) {
    T* const own = squares + int64_t(b) * inputs;
    if (!jet.first) {
      for (int i = 0; i < inputs; ++i) own[i] = jet.coefficient(first_input + i);
      continue;
    }
    const T* t = jet.first + (first_row + b) * I + first_input;
    for (int i = 0; i < inputs; ++i) own[i] = 0;
    for (int64_t k = 0; k < jet.directions; ++k, t += all) {
      const T c = jet.coefficient(k);
      for (int i = 0; i < inputs; ++i) own[i] += c * (t[i] * t[i]);
    }
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
