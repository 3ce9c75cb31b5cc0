// forward, grad_input and grad_weight as products of tiles over all slots. One operand is the expansion of x,
// which never leaves shared memory.
#pragma once

#include "tiles.h"

namespace fastkan {

// y[b, o]: a = expansion [64 rows, depth slots], b = weight [depth slots, 128 outputs]
template <class Kind>
FASTKAN_KERNEL(kThreads)
forward_all_slots(Inputs inputs, Matrix weight, Target y) {
  using Operand = typename Kind::Operand;
  auto* const a = reinterpret_cast<Operand*>(shared_memory());
  Operand* const b = a + kTileRows * kDepthStride<Kind>;
  const Problem& problem = inputs.problem;
  float* const scratch =
      reinterpret_cast<float*>(shared_memory() + kOperandBytes) + int(threadIdx.x) * value_count(problem);
  const int64_t O = problem.out_features;
  const TileIndex tile = TileIndex::here(blocks_of(O, kTileColumns));
  const int64_t row = tile.row * kTileRows, column = tile.column * kTileColumns;
  const Lane lane = Lane::here();
  Product product;
  product.clear();
  for (int64_t s = 0; s < weight.rows; s += Kind::depth) {
    const Window window{s, s + Kind::depth < weight.rows ? s + Kind::depth : weight.rows};
    const int depth = int(window.end - window.begin);
    __syncthreads();
    clear(a, kTileRows * kDepthStride<Kind>);
    __syncthreads();
    expand(inputs, window, row, kTileRows, scratch,
           [&](int r, int c, float value) { a[r * kDepthStride<Kind> + c] = Kind::operand(value); });
    load_block<Kind, Kind::depth, kTileColumns>(weight, s, column, kColumnStride, b);
    __syncthreads();
    multiply_tiles<Kind, false>(a, b, depth, lane, product);
  }
  product.for_each(lane, [&](int r, int c, float sum) {
    if (row + r < problem.batch && column + c < O) write(y, (row + r) * O + column + c, sum);
  });
}

// How many inputs, with all their slots, a tile of grad_input holds; at least one.
FASTKAN_HD int inputs_of_tile(const Problem& problem) {
  return problem.slots() < kTileColumns ? int(kTileColumns / problem.slots()) : 1;
}

// grad_input[b, i]: a = g [64 rows, depth outputs], b = weight [128 slots, depth outputs]; the product meets
// the slots of x at the end, and its sums over them are kept in shared memory
template <class Kind>
FASTKAN_KERNEL(kThreads)
grad_input_all_slots(Inputs inputs, Matrix weight, Matrix g, Target out) {
  using Operand = typename Kind::Operand;
  constexpr int stride = kTileColumns + 4;
  static_assert(kTileRows * stride * sizeof(float) <= kOperandBytes, "the product fits where operands were");
  auto* const a = reinterpret_cast<Operand*>(shared_memory());
  Operand* const b = a + kTileRows * kDepthStride<Kind>;
  auto* const products = reinterpret_cast<float*>(shared_memory());
  const Problem& problem = inputs.problem;
  const int64_t M = problem.slots(), O = problem.out_features, I = problem.in_features;
  const int values = value_count(problem), most = inputs_of_tile(problem);
  float* const scratch =
      reinterpret_cast<float*>(shared_memory() + kOperandBytes) + int(threadIdx.x) * values;
  float* const sums = reinterpret_cast<float*>(shared_memory() + kOperandBytes) + kThreads * values;
  const TileIndex tile = TileIndex::here(blocks_of(I, most));
  const int64_t row = tile.row * kTileRows, first = tile.column * most;
  const int count = I - first < most ? int(I - first) : most, pairs = kTileRows * count;
  const Lane lane = Lane::here();
  for (int pair = int(threadIdx.x); pair < pairs; pair += kThreads) sums[pair] = 0;

  for (int64_t s = first * M; s < (first + count) * M; s += kTileColumns) {
    Product product;
    product.clear();
    for (int64_t o = 0; o < O; o += Kind::depth) {
      __syncthreads();
      load_block<Kind, kTileRows, Kind::depth>(g, row, o, kDepthStride<Kind>, a);
      load_block<Kind, kTileColumns, Kind::depth>(weight, s, o, kDepthStride<Kind>, b);
      __syncthreads();
      multiply_tiles<Kind, true>(a, b, int(O - o < Kind::depth ? O - o : Kind::depth), lane, product);
    }
    __syncthreads();
    product.for_each(lane, [&](int r, int c, float sum) { products[r * stride + c] = sum; });
    __syncthreads();
    for (int pair = int(threadIdx.x); pair < pairs; pair += kThreads) {
      const int r = pair / count;
      const int64_t i = first + pair % count, begin = i * M - s;  // where its slots lie in the tile
      if (row + r >= problem.batch) continue;
      const float x = read<float>(inputs.x, (row + r) * I + i);
      const int64_t own = evaluate(problem, inputs.knots + i * problem.num_knots, problem.nu, x, scratch);
      float sum = 0;
      for (int k = 0; k < values; ++k) {
        const int64_t c = begin + (k < values - 1 ? own + k : M - 1);
        if (c >= 0 && c < kTileColumns) sum += scratch[k] * products[r * stride + c];
      }
      sums[pair] += sum;
    }
  }
  for (int pair = int(threadIdx.x); pair < pairs; pair += kThreads) {
    const int64_t b = row + pair / count;
    if (b < problem.batch) write(out, b * I + first + pair % count, sums[pair]);
  }
}

// grad_weight[(i, m), o] of one split of the rows: a = expansion [64 slots, depth rows], b = g [depth rows,
// 128 outputs]. The grid's y axis numbers the splits, each with a result of its own.
template <class Kind>
FASTKAN_KERNEL(kThreads)
grad_weight_all_slots(Inputs inputs, Matrix g, int64_t split_rows, Target out) {
  using Operand = typename Kind::Operand;
  auto* const a = reinterpret_cast<Operand*>(shared_memory());
  Operand* const b = a + kTileRows * kDepthStride<Kind>;
  const Problem& problem = inputs.problem;
  float* const scratch =
      reinterpret_cast<float*>(shared_memory() + kOperandBytes) + int(threadIdx.x) * value_count(problem);
  const int64_t O = problem.out_features, slots = problem.in_features * problem.slots();
  const TileIndex tile = TileIndex::here(blocks_of(O, kTileColumns));
  const int64_t slot = tile.row * kTileRows, column = tile.column * kTileColumns;
  const Window window{slot, slot + kTileRows < slots ? slot + kTileRows : slots};
  const int64_t begin = blockIdx.y * split_rows;
  const int64_t end = begin + split_rows < problem.batch ? begin + split_rows : problem.batch;
  const Matrix g_split{g.source, end, g.columns};
  const Lane lane = Lane::here();
  Product product;
  product.clear();
  Inputs split = inputs;
  split.problem.batch = end;
  for (int64_t row = begin; row < end; row += Kind::depth) {
    __syncthreads();
    clear(a, kTileRows * kDepthStride<Kind>);
    __syncthreads();
    expand(split, window, row, Kind::depth, scratch,
           [&](int r, int c, float value) { a[c * kDepthStride<Kind> + r] = Kind::operand(value); });
    load_block<Kind, Kind::depth, kTileColumns>(g_split, row, column, kColumnStride, b);
    __syncthreads();
    multiply_tiles<Kind, false>(a, b, int(end - row < Kind::depth ? end - row : Kind::depth), lane, product);
  }
  const int64_t offset = int64_t(blockIdx.y) * slots * O;
  product.for_each(lane, [&](int r, int c, float sum) {
    if (slot + r < slots && column + c < O) write(out, offset + (slot + r) * O + column + c, sum);
  });
}

}  // namespace fastkan
