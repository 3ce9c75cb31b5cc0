// The three inner kernels: a chunk against a block of NV vectors of outputs. While the rows of an interval
// run past, the interval's weight rows (or the sums for them) stay in registers. A row takes R multiply-adds
// a vector (the splines but for the pivot, and the base slot) and one addition.
#pragma once

#include "rows.h"

namespace fastkan {
namespace FASTKAN_ISA {

// tile[b] += sum_r B_r C_r + base C_base for every row b, NV vectors wide
template <class T, int R, int NV, bool WEIGHTED>
FASTKAN_NOINLINE void forward_block(const Problem& problem, const Chunk<T>& chunk,
                                    const Slots<const T>& weight, T* tile) {
  constexpr int w = kLanes<T>, P = kPivot<R>, N = R > 0 ? R : 1;
  const Values& set = chunk.sets.first;
  const int64_t stride = chunk.stride;
  for (int i = 0; i < chunk.inputs; ++i) {
    const T* const slots = weight.data + i * weight.input_stride;
    const T* const next = slots + (i + 1 < chunk.inputs ? weight.input_stride : 0);
    const uint16_t *const starts = chunk.starts_of(i), *const order = chunk.order_of(i);
    const T *const values = chunk.values_of(i, set), *const base_values = values + set.base() * stride;
    Lanes<T> base[NV];
    for (int v = 0; v < NV; ++v) base[v] = load(slots + problem.splines() * weight.slot_stride + v * w);
    for (int j = 0; j <= chunk.intervals; ++j) {
      if (j < problem.slots()) prefetch_row<T, NV>(next + j * weight.slot_stride);
      if (starts[j] == starts[j + 1]) continue;
      Lanes<T> rows[N][NV] = {};
      const bool inside = R > 0 && j < chunk.intervals;
      if constexpr (R > 0) {
        if (inside) load_differences<T, R, NV>(problem, set, j, slots, weight.slot_stride, rows);
      }
      if (!inside) {  // only the base slot counts: the other values may be NaN
        for (int q = starts[j]; q < starts[j + 1]; ++q) {
          T* const y = tile + int64_t(order[q]) * (NV * w);
          for (int v = 0; v < NV; ++v) store(y + v * w, load(y + v * w) + base_values[q] * base[v]);
        }
        continue;
      }
      for (int q = starts[j]; q < starts[j + 1]; ++q) {
        T* const y = tile + int64_t(order[q]) * (NV * w);
        Lanes<T> sum[NV];
        for (int v = 0; v < NV; ++v)
          sum[v] = WEIGHTED ? load(y + v * w) + base_values[stride + q] * rows[P][v]
                            : load(y + v * w) + rows[P][v];
        for (int r = 0, array = 0; r < R; ++r)
          if (r != P) {
            const T value = values[stride * array++ + q];
            for (int v = 0; v < NV; ++v) sum[v] += value * rows[r][v];
          }
        for (int v = 0; v < NV; ++v) store(y + v * w, sum[v] + base_values[q] * base[v]);
      }
    }
  }
}

// grads[i][q] += sum_o (sum_r B_r C_r + base C_base)[o] g[order[q]][o] over the outputs of the block
template <class T, int R, int NV>
FASTKAN_NOINLINE void grad_input_block(const Problem& problem, const Chunk<T>& chunk, const Values& set,
                                       const Slots<const T>& weight, const T* g, T* grads) {
  constexpr int w = kLanes<T>, P = kPivot<R>, N = R > 0 ? R : 1;
  const int64_t stride = chunk.stride;
  for (int i = 0; i < chunk.inputs; ++i) {
    const T* const slots = weight.data + i * weight.input_stride;
    const T* const next = slots + (i + 1 < chunk.inputs ? weight.input_stride : 0);
    const uint16_t *const starts = chunk.starts_of(i), *const order = chunk.order_of(i);
    const T *const values = chunk.values_of(i, set), *const base_values = values + set.base() * stride;
    T* const grad = grads + i * stride;
    Lanes<T> base[NV];
    for (int v = 0; v < NV; ++v) base[v] = load(slots + problem.splines() * weight.slot_stride + v * w);
    for (int j = 0; j <= chunk.intervals; ++j) {
      if (j < problem.slots()) prefetch_row<T, NV>(next + j * weight.slot_stride);
      if (starts[j] == starts[j + 1]) continue;
      Lanes<T> rows[N][NV] = {};
      const bool inside = R > 0 && j < chunk.intervals;
      if constexpr (R > 0) {
        if (inside) load_differences<T, R, NV>(problem, set, j, slots, weight.slot_stride, rows);
      }
      // `inside` is a type, not a variable, so that a row has the same arithmetic, multiply-adds included, as
      // one of four rows or as one of the last.
      const auto product = [&](int q, auto inside) FASTKAN_INLINE_LAMBDA {
        const T* const row = g + int64_t(order[q]) * (NV * w);
        Lanes<T> total{};
        for (int v = 0; v < NV; ++v) {
          Lanes<T> sum = base_values[q] * base[v];
          if constexpr (inside) {
            sum += rows[P][v];
            for (int r = 0, array = 0; r < R; ++r)
              if (r != P) sum += values[stride * array++ + q] * rows[r][v];
          }
          total = v == 0 ? sum * load(row) : total + sum * load(row + v * w);
        }
        return total;
      };
      const auto add_interval = [&](auto inside) FASTKAN_INLINE_LAMBDA {
        const int end = starts[j + 1];
        int q = starts[j];
        for (; q + 4 <= end; q += 4) {
          const Lanes<T> products[4] = {product(q, inside), product(q + 1, inside), product(q + 2, inside),
                                        product(q + 3, inside)};
          add_sums<T>(products, grad + q);
        }
        if (q < end) {
          Lanes<T> products[4] = {};
          for (int k = 0; q + k < end; ++k) products[k] = product(q + k, inside);
          add_sums<T>(products, grad + q);  // adds 0 to the rows after these
        }
      };
      if constexpr (R > 0) {
        if (inside) {
          add_interval(std::true_type{});
          continue;
        }
      }
      add_interval(std::false_type{});
    }
  }
}

// grad_weight of the splines += the sum over the rows b of B_r g[b]; of the base slot, of base g[b]
template <class T, int R, int NV, bool WEIGHTED>
FASTKAN_NOINLINE void grad_weight_block(const Problem& problem, const Chunk<T>& chunk, const T* g,
                                        const Slots<T>& grads) {
  constexpr int w = kLanes<T>, P = kPivot<R>, N = R > 0 ? R : 1;
  const Values& set = chunk.sets.first;
  const int64_t stride = chunk.stride;
  for (int i = 0; i < chunk.inputs; ++i) {
    T* const slots = grads.data + i * grads.input_stride;
    const T* const next = slots + (i + 1 < chunk.inputs ? grads.input_stride : 0);
    const uint16_t *const starts = chunk.starts_of(i), *const order = chunk.order_of(i);
    const T *const values = chunk.values_of(i, set), *const base_values = values + set.base() * stride;
    Lanes<T> base[NV] = {};
    for (int j = 0; j <= chunk.intervals; ++j) {
      if (j < problem.slots()) prefetch_row<T, NV>(next + j * grads.slot_stride);
      if (starts[j] == starts[j + 1]) continue;
      if (R == 0 || j == chunk.intervals) {
        for (int q = starts[j]; q < starts[j + 1]; ++q) {
          const T* const row = g + int64_t(order[q]) * (NV * w);
          for (int v = 0; v < NV; ++v) base[v] += base_values[q] * load(row + v * w);
        }
        continue;
      }
      Lanes<T> sums[N][NV] = {};
      for (int q = starts[j]; q < starts[j + 1]; ++q) {
        const T* const row = g + int64_t(order[q]) * (NV * w);
        Lanes<T> g_row[NV];
        for (int v = 0; v < NV; ++v) g_row[v] = load(row + v * w);
        for (int r = 0, array = 0; r < R; ++r)
          if (r != P) {
            const T value = values[stride * array++ + q];
            for (int v = 0; v < NV; ++v) sums[r][v] += value * g_row[v];
          }
        for (int v = 0; v < NV; ++v) {
          sums[P][v] = WEIGHTED ? sums[P][v] + base_values[stride + q] * g_row[v] : sums[P][v] + g_row[v];
          base[v] += base_values[q] * g_row[v];
        }
      }
      if constexpr (R > 0) add_to_rows<T, R, NV>(problem, set, j, sums, slots, grads.slot_stride);
    }
    T* const base_row = slots + problem.splines() * grads.slot_stride;
    for (int v = 0; v < NV; ++v) store(base_row + v * w, load(base_row + v * w) + base[v]);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
