// F, X and A of narrow layers for the rows and inputs of one task, one input after another.
#pragma once

#include "narrow_blocks.h"

#ifdef FASTKAN_LOOKUP
namespace fastkan {
namespace FASTKAN_ISA {

// Calls body(Size<n>, first) for blocks of 4, 2 and 1 that together are `count`.
template <class Body>
FASTKAN_HD void in_blocks(int count, const Body& body) {
  int n = 0;
  for (; n + 4 <= count; n += 4) body(Size<4>{}, n);
  if (count & 2) body(Size<2>{}, n), n += 2;
  if (count & 1) body(Size<1>{}, n);
}

template <class T, class Body>
FASTKAN_HD void with_table_registers(const Problem& problem, const Body& body) {
  if (table_registers<T>(problem) == 1) return body(Size<1>{});
  body(Size<2>{});
}

template <class T>
struct NarrowForward {
  Narrow<T> narrow;
  T *sums, *total;  // of a chunk of inputs and of all

  NarrowForward(const Call<T>& call, Arena& arena) {
    const Values set(call.problem, call.problem.nu, call.row_weight.data != nullptr);
    narrow = make_narrow(call, Sets{set, {}, {}}, arena);
    sums = arena.take<T>(call.problem.out_features * narrow.stride);
    total = arena.take<T>(call.problem.out_features * narrow.stride);
  }
};

// What an input, whose tables of weights are read, gives to y
template <class T, int N>
static void narrow_forward_input(const Problem& problem, const Narrow<T>& narrow, T* y) {
  constexpr int size = N * kLanes<T>;
  const T* const base = narrow.weight + problem.out_features * size;
  with_splines(narrow.first.set.splines, [&](auto r) {
    in_blocks(int(problem.out_features), [&](auto no, int o) {
      lane_forward<T, r.value, N, no.value>(narrow, narrow.weight + o * size, base + o,
                                            y + o * narrow.stride);
    });
  });
}

// As in forward_tile, sums of a chunk of inputs, then of chunks
template <class T>
static void narrow_forward(const Call<T>& call, Range rows, char* workspace) {
  Arena arena(workspace);
  NarrowForward<T> space(call, arena);
  const Problem& problem = call.problem;
  const int64_t I = problem.in_features, O = problem.out_features, all = O * space.narrow.stride;
  for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows) {
    const Range tile{b, b + block_size(rows.end - b, call.tile_rows)};
    memset(space.total, 0, size_t(all) * sizeof(T));
    for (int64_t i = 0; i < I; i += call.chunk_inputs) {
      const int inputs = block_size(I - i, call.chunk_inputs);
      memset(space.sums, 0, size_t(all) * sizeof(T));
      read_inputs(call, space.narrow, tile, i, inputs);
      for (int k = 0; k < inputs; ++k)
        with_table_registers<T>(problem, [&](auto n) {
          fill_lanes<T, n.value>(call, space.narrow, i + k, k);
          read_tables(call, i + k, n.value * kLanes<T>, space.narrow.weight);
          narrow_forward_input<T, n.value>(problem, space.narrow, space.sums);
        });
      for (int64_t n = 0; n < all; ++n) space.total[n] += space.sums[n];
    }
    write_columns(space.total, space.narrow.stride, call.y, O, b, int(tile.size()), 0, int(O));
  }
}

template <class T>
static size_t narrow_forward_bytes(const Call<T>& call) {
  Arena arena(nullptr);
  NarrowForward<T>(call, arena);
  return arena.used();
}

template <class T>
struct NarrowGradients {
  Narrow<T> narrow;
  T *g, *y, *grads, *row_grads, *sums;  // the X of every input, of the orders of `second` and `plain`
  int64_t sums_stride;

  NarrowGradients(const Call<T>& call, Arena& arena) {
    const Problem& problem = call.problem;
    narrow = make_narrow(call, gradients_sets(call), arena);
    g = arena.take<T>(problem.out_features * narrow.stride);
    y = arena.take<T>(call.y.data ? problem.out_features * narrow.stride : 0);
    grads = arena.take<T>(call.chunk_inputs * narrow.stride);
    row_grads = arena.take<T>(call.grad_row_weight.data ? call.chunk_inputs * narrow.stride : 0);
    sums_stride = (problem.out_features + 3) / 4 * 4;
    sums = arena.take<T>(call.chunk_inputs * problem.slots() * sums_stride);
  }
};

// X of an input whose tables of weights are read
template <class T, int N>
static void narrow_grad_input(const Problem& problem, const Narrow<T>& narrow, const LaneValues<T>& values,
                              const T* g, T* grads) {
  constexpr int size = N * kLanes<T>;
  const T* const base = narrow.weight + problem.out_features * size;
  memset(grads, 0, size_t(narrow.stride) * sizeof(T));
  with_splines(values.set.splines, [&](auto r) {
    in_blocks(int(problem.out_features), [&](auto no, int o) {
      lane_grad_input<T, r.value, N, no.value>(narrow, values, narrow.weight + o * size, base + o,
                                               g + o * narrow.stride, grads);
    });
  });
}

// What needs the weights of one input
template <class T, int N>
static void narrow_products(const Call<T>& call, NarrowGradients<T>& space, int64_t input, int i) {
  const Narrow<T>& narrow = space.narrow;
  const int64_t offset = i * narrow.stride;
  read_tables(call, input, N * kLanes<T>, narrow.weight);
  if (call.grad_input.data)
    narrow_grad_input<T, N>(call.problem, narrow, narrow.second, space.g, space.grads + offset);
  if (call.grad_row_weight.data)
    narrow_grad_input<T, N>(call.problem, narrow, narrow.plain, space.g, space.row_grads + offset);
  if (call.y.data) narrow_forward_input<T, N>(call.problem, narrow, space.y);
}

// Every slot of an input with a NaN x has a NaN gradient.
template <class T>
static void narrow_grad_weight(const Call<T>& call, NarrowGradients<T>& space, int i) {
  const Narrow<T>& narrow = space.narrow;
  const int64_t S = call.problem.splines(), stride = space.sums_stride;
  T* const sums = space.sums + i * (S + 1) * stride;
  with_splines(narrow.first.set.splines, [&](auto r) {
    if constexpr (r.value > 0) rotate_splines<T, r.value>(narrow);
  });
  in_blocks(int(call.problem.out_features), [&](auto no, int o) {
    const T* const g = space.g + o * narrow.stride;
    if (narrow.first.splines)
      in_blocks(int(S), [&](auto nm, int m) {
        lane_grad_weight<T, nm.value, no.value>(narrow, m, g, sums + m * stride + o, stride);
      });
    lane_grad_base<T, no.value>(narrow, g, sums + S * stride + o);
  });
  Mask<T> nan{};
  for (int b = 0; b < narrow.vectors * kLanes<T>; b += kLanes<T>) {
    const Lanes<T> x = load(narrow.x + i * narrow.stride + b);
    nan |= x != x;
  }
  for (int k = 0; k < kLanes<T>; ++k)
    if (nan[k])
      for (int64_t n = 0; n < (S + 1) * stride; ++n) sums[n] = T(NAN);
}

template <class T>
static void narrow_gradients_tile(const Call<T>& call, NarrowGradients<T>& space, Range rows,
                                  int64_t first_input, int inputs) {
  const Problem& problem = call.problem;
  Narrow<T>& narrow = space.narrow;
  read_inputs(call, narrow, rows, first_input, inputs);
  const int O = int(problem.out_features);
  read_lanes(call.g, O, rows, 0, O, narrow.stride, space.g);
  if (call.y.data) memset(space.y, 0, size_t(O * narrow.stride) * sizeof(T));
  for (int i = 0; i < inputs; ++i) {
    with_table_registers<T>(problem, [&](auto n) {
      fill_lanes<T, n.value>(call, narrow, first_input + i, i);
      if (call.grad_input.data || call.grad_row_weight.data || call.y.data)
        narrow_products<T, n.value>(call, space, first_input + i, i);
    });
    if (call.grad_weight.data) narrow_grad_weight(call, space, i);
  }
  const auto write_grads = [&](const T* grads, const Target& out) {
    if (out.data)
      write_columns(grads, narrow.stride, out, problem.in_features, rows.begin, narrow.rows, first_input,
                    inputs);
  };
  write_grads(space.grads, call.grad_input);
  write_grads(space.row_grads, call.grad_row_weight);
  if (call.y.data) write_columns(space.y, narrow.stride, call.y, O, rows.begin, narrow.rows, 0, O);
}

template <class T>
static void narrow_gradients(const Call<T>& call, Range rows, Range inputs, char* workspace) {
  Arena arena(workspace);
  NarrowGradients<T> space(call, arena);
  const int64_t M = call.problem.slots(), O = call.problem.out_features;
  for (int64_t i = inputs.begin; i < inputs.end; i += call.chunk_inputs) {
    const int count = block_size(inputs.end - i, call.chunk_inputs);
    memset(space.sums, 0, size_t(count * M * space.sums_stride) * sizeof(T));
    for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows)
      narrow_gradients_tile(call, space, {b, b + block_size(rows.end - b, call.tile_rows)}, i, count);
    if (call.grad_weight.data)
      write_block(space.sums, space.sums_stride, count * M, int(O), false, call.grad_weight, i * M * O, O);
  }
}

template <class T>
static size_t narrow_gradients_bytes(const Call<T>& call) {
  Arena arena(nullptr);
  NarrowGradients<T>(call, arena);
  return arena.used();
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
#endif
