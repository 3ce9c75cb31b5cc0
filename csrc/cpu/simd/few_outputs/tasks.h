// forward and fused gradients of layers with few outputs, for the rows and inputs of one task, one input
// after another.
#pragma once

#include "blocks.h"

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
struct ForwardLanes {
  LaneTile<T> tile;
  T *sums, *total;  // of a chunk of inputs and of all

  ForwardLanes(const Call<T>& call, Arena& arena) {
    const Values set(call.problem, call.problem.nu, call.row_weight.data != nullptr);
    tile = make_lane_tile(call, Sets{set, {}, {}}, arena);
    sums = arena.take<T>(call.problem.out_features * tile.stride);
    total = arena.take<T>(call.problem.out_features * tile.stride);
  }
};

// Adds to y what an input gives whose tables of weights have been read.
template <class T, int N>
static void few_outputs_forward_input(const Problem& problem, const LaneTile<T>& tile, T* y) {
  constexpr int size = N * kLanes<T>;
  const T* const base = tile.weight + problem.out_features * size;
  with_splines(tile.first.set.splines, [&](auto r) {
    in_blocks(int(problem.out_features), [&](auto no, int o) {
      lane_forward<T, r.value, N, no.value>(tile, tile.weight + o * size, base + o, y + o * tile.stride);
    });
  });
}

// Sums of a chunk of inputs, then of chunks, as in forward_tile.
template <class T>
static void few_outputs_forward(const Call<T>& call, Range rows, char* workspace) {
  Arena arena(workspace);
  ForwardLanes<T> space(call, arena);
  const Problem& problem = call.problem;
  const int64_t I = problem.in_features, O = problem.out_features, all = O * space.tile.stride;
  for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows) {
    const Range part{b, b + block_size(rows.end - b, call.tile_rows)};
    memset(space.total, 0, size_t(all) * sizeof(T));
    for (int64_t i = 0; i < I; i += call.chunk_inputs) {
      const int inputs = block_size(I - i, call.chunk_inputs);
      memset(space.sums, 0, size_t(all) * sizeof(T));
      read_inputs(call, space.tile, part, i, inputs);
      for (int k = 0; k < inputs; ++k)
        with_table_registers<T>(problem, [&](auto n) {
          fill_lanes<T, n.value>(call, space.tile, i + k, k);
          read_tables(call, i + k, n.value * kLanes<T>, space.tile.weight);
          few_outputs_forward_input<T, n.value>(problem, space.tile, space.sums);
        });
      for (int64_t n = 0; n < all; ++n) space.total[n] += space.sums[n];
    }
    write_columns(space.total, space.tile.stride, call.y, O, b, int(part.size()), 0, int(O));
  }
}

template <class T>
static size_t few_outputs_forward_bytes(const Call<T>& call) {
  Arena arena(nullptr);
  ForwardLanes<T>(call, arena);
  return arena.used();
}

template <class T>
struct FusedGradientsLanes {
  LaneTile<T> tile;
  T *g, *y, *grads, *row_grads,
      *sums;  // grads: grad_input of every input of the chunk, row_grads: the same of `plain`
  int64_t sums_stride;

  FusedGradientsLanes(const Call<T>& call, Arena& arena) {
    const Problem& problem = call.problem;
    tile = make_lane_tile(call, fused_gradients_sets(call), arena);
    g = arena.take<T>(problem.out_features * tile.stride);
    y = arena.take<T>(call.y.data ? problem.out_features * tile.stride : 0);
    grads = arena.take<T>(call.chunk_inputs * tile.stride);
    row_grads = arena.take<T>(call.grad_row_weight.data ? call.chunk_inputs * tile.stride : 0);
    sums_stride = (problem.out_features + 3) / 4 * 4;
    sums = arena.take<T>(call.chunk_inputs * problem.slots() * sums_stride);
  }
};

// grad_input of an input whose tables of weights have been read
template <class T, int N>
static void few_outputs_grad_input(const Problem& problem, const LaneTile<T>& tile,
                                   const LaneValues<T>& values, const T* g, T* grads) {
  constexpr int size = N * kLanes<T>;
  const T* const base = tile.weight + problem.out_features * size;
  memset(grads, 0, size_t(tile.stride) * sizeof(T));
  with_splines(values.set.splines, [&](auto r) {
    in_blocks(int(problem.out_features), [&](auto no, int o) {
      lane_grad_input<T, r.value, N, no.value>(tile, values, tile.weight + o * size, base + o,
                                               g + o * tile.stride, grads);
    });
  });
}

// What needs the weights of one input
template <class T, int N>
static void few_outputs_products(const Call<T>& call, FusedGradientsLanes<T>& space, int64_t input, int i) {
  const LaneTile<T>& tile = space.tile;
  const int64_t offset = i * tile.stride;
  read_tables(call, input, N * kLanes<T>, tile.weight);
  if (call.grad_input.data)
    few_outputs_grad_input<T, N>(call.problem, tile, tile.second, space.g, space.grads + offset);
  if (call.grad_row_weight.data)
    few_outputs_grad_input<T, N>(call.problem, tile, tile.plain, space.g, space.row_grads + offset);
  if (call.y.data) few_outputs_forward_input<T, N>(call.problem, tile, space.y);
}

// Every slot of an input with a NaN x has a NaN gradient.
template <class T>
static void few_outputs_grad_weight(const Call<T>& call, FusedGradientsLanes<T>& space, int i) {
  const LaneTile<T>& tile = space.tile;
  const int64_t S = call.problem.splines(), stride = space.sums_stride;
  T* const sums = space.sums + i * (S + 1) * stride;
  with_splines(tile.first.set.splines, [&](auto r) {
    if constexpr (r.value > 0) rotate_splines<T, r.value>(tile);
  });
  in_blocks(int(call.problem.out_features), [&](auto no, int o) {
    const T* const g = space.g + o * tile.stride;
    if (tile.first.splines)
      in_blocks(int(S), [&](auto nm, int m) {
        lane_grad_weight<T, nm.value, no.value>(tile, m, g, sums + m * stride + o, stride);
      });
    lane_grad_base<T, no.value>(tile, g, sums + S * stride + o);
  });
  Mask<T> nan{};
  for (int b = 0; b < tile.vectors * kLanes<T>; b += kLanes<T>) {
    const Lanes<T> x = load(tile.x + i * tile.stride + b);
    nan |= x != x;
  }
  for (int k = 0; k < kLanes<T>; ++k)
    if (nan[k])
      for (int64_t n = 0; n < (S + 1) * stride; ++n) sums[n] = T(NAN);
}

template <class T>
static void few_outputs_fused_gradients_tile(const Call<T>& call, FusedGradientsLanes<T>& space, Range rows,
                                             int64_t first_input, int inputs) {
  const Problem& problem = call.problem;
  LaneTile<T>& tile = space.tile;
  read_inputs(call, tile, rows, first_input, inputs);
  const int O = int(problem.out_features);
  read_lanes(call.g, O, rows, 0, O, tile.stride, space.g);
  if (call.y.data) memset(space.y, 0, size_t(O * tile.stride) * sizeof(T));
  for (int i = 0; i < inputs; ++i) {
    with_table_registers<T>(problem, [&](auto n) {
      fill_lanes<T, n.value>(call, tile, first_input + i, i);
      if (call.grad_input.data || call.grad_row_weight.data || call.y.data)
        few_outputs_products<T, n.value>(call, space, first_input + i, i);
    });
    if (call.grad_weight.data) few_outputs_grad_weight(call, space, i);
  }
  const auto write_grads = [&](const T* grads, const Target& out) {
    if (out.data)
      write_columns(grads, tile.stride, out, problem.in_features, rows.begin, tile.rows, first_input, inputs);
  };
  write_grads(space.grads, call.grad_input);
  write_grads(space.row_grads, call.grad_row_weight);
  if (call.y.data) write_columns(space.y, tile.stride, call.y, O, rows.begin, tile.rows, 0, O);
}

template <class T>
static void few_outputs_fused_gradients(const Call<T>& call, Range rows, Range inputs, char* workspace) {
  Arena arena(workspace);
  FusedGradientsLanes<T> space(call, arena);
  const int64_t M = call.problem.slots(), O = call.problem.out_features;
  for (int64_t i = inputs.begin; i < inputs.end; i += call.chunk_inputs) {
    const int count = block_size(inputs.end - i, call.chunk_inputs);
    memset(space.sums, 0, size_t(count * M * space.sums_stride) * sizeof(T));
    for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows)
      few_outputs_fused_gradients_tile(call, space, {b, b + block_size(rows.end - b, call.tile_rows)}, i,
                                       count);
    if (call.grad_weight.data)
      write_block(space.sums, space.sums_stride, count * M, int(O), false, call.grad_weight, i * M * O, O);
  }
}

template <class T>
static size_t few_outputs_fused_gradients_bytes(const Call<T>& call) {
  Arena arena(nullptr);
  FusedGradientsLanes<T>(call, arena);
  return arena.used();
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
#endif
