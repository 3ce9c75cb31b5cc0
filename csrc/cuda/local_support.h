// forward, grad_input and grad_weight on CUDA cores, in float32 or float64, from the p + 2 slots of each x
// that are not zero: for float64, for few outputs and for fine grids.
#pragma once

#include "blocks.h"
#include "evaluate.h"

namespace fastkan {

// A sum in two levels, so that float32 rounds like a blocked GEMM and not like one long chain.
template <class T>
struct BlockedSum {
  T total = 0, block = 0;

  FASTKAN_DEVICE void end_block() {
    total += block;
    block = 0;
  }
};
constexpr int kBlock = 64;  // terms of a block

// x and its slots' values, of the type that computes.
template <class T>
struct LocalInputs {
  Problem problem;
  Source x, row_weight;
  const T* knots;

  // The values of order nu at x[b, i], times its row weight, into shared memory; returns the first spline.
  FASTKAN_DEVICE int64_t values_at(int64_t b, int64_t i, int64_t nu, T* values, bool weighted = true) const {
    const int64_t index = b * problem.in_features + i;
    const int64_t first = evaluate(problem, knots + i * problem.num_knots, nu, read<T>(x, index), values);
    const T factor = weighted ? row_factor<T>(row_weight, index) : T(1);
    for (int k = 0; k < value_count(problem); ++k) values[k] *= factor;
    return first;
  }
  // Of the k-th value, for x of input i.
  FASTKAN_DEVICE int64_t slot(int64_t i, int64_t first, int k) const {
    return i * problem.slots() + (k <= problem.degree ? first + k : problem.slots() - 1);
  }
};

// sum_k values[k] weight[i, slot k, o]
template <class T>
FASTKAN_DEVICE T edge(const LocalInputs<T>& inputs, const Source& weight, int64_t i, int64_t first,
                      const T* values, int64_t o) {
  const int64_t O = inputs.problem.out_features;
  T sum = 0;
  for (int k = 0; k < value_count(inputs.problem); ++k)
    sum += values[k] * read<T>(weight, inputs.slot(i, first, k) * O + o);
  return sum;
}

// ---- forward: a block has kThreads / columns x 4 rows, and evaluates 4 x of them and some inputs a thread.

constexpr int kRowsOfThread = 4, kPairs = kRowsOfThread * kThreads;

template <class T>
FASTKAN_KERNEL(kThreads)
forward_local_support(LocalInputs<T> inputs, Source weight, int columns, Target y) {
  const Problem& problem = inputs.problem;
  const int count = value_count(problem), thread = int(threadIdx.x);
  auto* const values = reinterpret_cast<T*>(shared_memory());
  auto* const firsts = reinterpret_cast<int64_t*>(values + kPairs * count);
  const int64_t I = problem.in_features, O = problem.out_features;
  const TileIndex tile = TileIndex::here(blocks_of(O, columns));
  const int row_step = kThreads / columns, rows = kRowsOfThread * row_step, inputs_at_once = kPairs / rows;
  const int64_t row = tile.row * rows, o = tile.column * columns + thread % columns;
  BlockedSum<T> sums[kRowsOfThread];
  int terms = 0;
  for (int64_t i = 0; i < I; i += inputs_at_once) {
    const int at_once = int(I - i < inputs_at_once ? I - i : inputs_at_once);
    __syncthreads();
    for (int pair = thread; pair < rows * at_once; pair += kThreads) {
      const int64_t b = row + pair / at_once;
      if (b < problem.batch)
        firsts[pair] = inputs.values_at(b, i + pair % at_once, problem.nu, values + pair * count);
    }
    __syncthreads();
    for (int n = 0; n < at_once; ++n) {
#pragma unroll
      for (int q = 0; q < kRowsOfThread; ++q) {
        const int r = thread / columns + q * row_step, pair = r * at_once + n;
        if (row + r < problem.batch && o < O)
          sums[q].block += edge(inputs, weight, i + n, firsts[pair], values + pair * count, o);
      }
      if (++terms % kBlock == 0)
        for (auto& sum : sums) sum.end_block();
    }
  }
#pragma unroll
  for (int q = 0; q < kRowsOfThread; ++q) {
    const int64_t b = row + thread / columns + q * row_step;
    if (b < problem.batch && o < O) write(y, b * O + o, sums[q].total + sums[q].block);
  }
}

// ---- grad_input: `lanes` neighbouring threads share the outputs of an x, and 128 x are evaluated at once.

template <class T>
FASTKAN_KERNEL(kThreads)
grad_input_local_support(LocalInputs<T> inputs, Source weight, Source g, int lanes, Target out) {
  const Problem& problem = inputs.problem;
  const int count = value_count(problem), thread = int(threadIdx.x);
  auto* const values = reinterpret_cast<T*>(shared_memory());
  auto* const firsts = reinterpret_cast<int64_t*>(values + kThreads * count);
  const int64_t I = problem.in_features, O = problem.out_features, all = problem.batch * I;
  const int64_t begin = int64_t(blockIdx.x) * kThreads;
  if (begin + thread < all)
    firsts[thread] =
        inputs.values_at((begin + thread) / I, (begin + thread) % I, problem.nu, values + thread * count);
  __syncthreads();
  for (int pair = thread / lanes; pair < kThreads; pair += kThreads / lanes) {
    const int64_t index = begin + pair, b = index / I, i = index % I;
    BlockedSum<T> sum;
    if (index < all) {
      int terms = 0;
      for (int64_t o = thread % lanes; o < O; o += lanes) {
        sum.block += edge(inputs, weight, i, firsts[pair], values + pair * count, o) * read<T>(g, b * O + o);
        if (++terms % kBlock == 0) sum.end_block();
      }
    }
    sum.end_block();
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum.total += __shfl_xor_sync(0xffffffffu, sum.total, distance);
    if (index < all && thread % lanes == 0) write(out, index, sum.total);
  }
}

// ---- grad_weight: a block has one input, a window of its slots and `columns` outputs; 128 / columns groups
// of threads take the rows in turn, each with sums of its own in shared memory.

constexpr int kWindow = 32, kRowsAtOnce = 64;

template <class T>
FASTKAN_KERNEL(kThreads)
grad_weight_local_support(LocalInputs<T> inputs, Source g, int columns, int64_t split_rows, Target out) {
  const Problem& problem = inputs.problem;
  const int count = value_count(problem), thread = int(threadIdx.x);
  auto* const totals = reinterpret_cast<T*>(shared_memory());
  T *const blocks = totals + kWindow * kThreads, *const values = blocks + kWindow * kThreads;
  auto* const firsts = reinterpret_cast<int64_t*>(values + kRowsAtOnce * count);
  const int64_t I = problem.in_features, O = problem.out_features, M = problem.slots();
  const int64_t windows = blocks_of(M, kWindow);
  const TileIndex tile = TileIndex::here(blocks_of(O, columns));
  const int64_t i = unsigned(tile.row) / unsigned(windows), slot = (tile.row - i * windows) * kWindow;
  const int64_t o = tile.column * columns + thread % columns;
  const int64_t begin = blockIdx.y * split_rows;
  const int64_t end = begin + split_rows < problem.batch ? begin + split_rows : problem.batch;
  for (int m = 0; m < kWindow; ++m) totals[m * kThreads + thread] = blocks[m * kThreads + thread] = 0;

  for (int64_t row = begin; row < end; row += kRowsAtOnce) {
    const int rows = int(end - row < kRowsAtOnce ? end - row : kRowsAtOnce);
    __syncthreads();
    if (thread < rows)
      firsts[thread] = inputs.values_at(row + thread, i, problem.nu, values + thread * count);
    __syncthreads();
    for (int r = thread / columns; r < rows && o < O; r += kThreads / columns) {
      const T* const own = values + r * count;
      const T g_here = read<T>(g, (row + r) * O + o), nan = own[count - 1];
      if (nan != nan) {  // x is NaN: so is every slot
        for (int m = 0; m < kWindow; ++m) blocks[m * kThreads + thread] += nan;
        continue;
      }
      for (int k = 0; k < count; ++k) {
        const int64_t m = inputs.slot(0, firsts[r], k) - slot;
        if (m >= 0 && m < kWindow) blocks[m * kThreads + thread] += own[k] * g_here;
      }
    }
    for (int m = 0; m < kWindow; ++m) {
      totals[m * kThreads + thread] += blocks[m * kThreads + thread];
      blocks[m * kThreads + thread] = 0;
    }
  }
  __syncthreads();
  const int64_t offset = (int64_t(blockIdx.y) * I + i) * M;
  for (int n = thread; n < kWindow * columns; n += kThreads) {
    const int m = n / columns, c = n % columns;
    const int64_t output = tile.column * columns + c;
    if (slot + m >= M || output >= O) continue;
    T sum = 0;
    for (int group = 0; group < kThreads / columns; ++group)
      sum += totals[m * kThreads + group * columns + c];
    write(out, (offset + slot + m) * O + output, sum);
  }
}

}  // namespace fastkan
