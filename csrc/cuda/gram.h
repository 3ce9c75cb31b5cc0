// gram and its adjoint quadratic, and the second stage of sums that were split over the rows.
#pragma once

#include "local_support.h"

namespace fastkan {

// out[n] = sum_s parts[s, n], split after split
template <class T>
FASTKAN_KERNEL(kThreads)
add_parts(const T* parts, int64_t count, int splits, Target out) {
  const int64_t n = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= count) return;
  T sum = 0;
  for (int s = 0; s < splits; ++s) sum += parts[s * count + n];
  write(out, n, sum);
}

// The value of slot m among those of one x; NaN where x is.
template <class T>
FASTKAN_DEVICE T value_of_slot(const Problem& problem, const T* values, int64_t first, int64_t m) {
  const T base = values[problem.degree + 1];
  const int64_t r = m - first;
  if (m == problem.splines() || base != base) return base;
  return r >= 0 && r <= problem.degree ? values[r] : T(0);
}

// out[i, m, n] of one split of the rows, an element a thread; row weights count for the left slots.
template <class T>
FASTKAN_KERNEL(kThreads)
gram_kernel(LocalInputs<T> inputs, int64_t split_rows, T* out) {
  const Problem& problem = inputs.problem;
  const int count = value_count(problem), thread = int(threadIdx.x), row_of_thread = thread % kRowsAtOnce;
  auto* const left = reinterpret_cast<T*>(shared_memory());
  T* const right = left + kRowsAtOnce * count;
  auto* const firsts = reinterpret_cast<int64_t*>(right + kRowsAtOnce * count);
  const int64_t I = problem.in_features, M = problem.slots();
  const TileIndex tile = TileIndex::here(blocks_of(M * M, kThreads));
  const int64_t i = tile.row, element = tile.column * kThreads + thread, m = element / M, n = element % M;
  const int64_t begin = blockIdx.y * split_rows;
  const int64_t end = begin + split_rows < problem.batch ? begin + split_rows : problem.batch;
  BlockedSum<T> sum;
  for (int64_t row = begin; row < end; row += kRowsAtOnce) {
    const int rows = int(end - row < kRowsAtOnce ? end - row : kRowsAtOnce);
    __syncthreads();
    const bool is_left = thread < kRowsAtOnce;
    if (row_of_thread < rows)
      firsts[thread] = inputs.values_at(row + row_of_thread, i, is_left ? problem.nu : problem.mu,
                                        left + thread * count, is_left);
    __syncthreads();
    for (int r = 0; r < rows && element < M * M; ++r) {
      const T a = value_of_slot(problem, left + r * count, firsts[r], m);
      if (a != 0) sum.block += a * value_of_slot(problem, right + r * count, firsts[kRowsAtOnce + r], n);
    }
    sum.end_block();
  }
  if (element < M * M) out[(int64_t(blockIdx.y) * I + i) * M * M + element] = sum.total;
}

// out[b, i], an x a thread
template <class T>
FASTKAN_KERNEL(kThreads)
quadratic_kernel(LocalInputs<T> inputs, const T* form, T* out) {
  const Problem& problem = inputs.problem;
  const int count = value_count(problem);
  T* const left = reinterpret_cast<T*>(shared_memory()) + int(threadIdx.x) * 2 * count;
  T* const right = left + count;
  const int64_t I = problem.in_features, M = problem.slots();
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x, i = index % I;
  if (index >= problem.batch * I) return;
  const int64_t b = index / I;
  const int64_t first = inputs.values_at(b, i, problem.nu, left),
                second = inputs.values_at(b, i, problem.mu, right);
  T total = 0;
  for (int k = 0; k < count; ++k) {
    T sum = 0;
    for (int l = 0; l < count; ++l)
      sum += right[l] * form[inputs.slot(i, first, k) * M + inputs.slot(0, second, l)];
    total += left[k] * sum;
  }
  out[index] = total;
}

}  // namespace fastkan
