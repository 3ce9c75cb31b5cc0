// The weight rows of the splines alive in an interval, in registers.
#pragma once

#include "../common/blocks.h"
#include "chunk.h"

#if defined(__GNUC__)
#define FASTKAN_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define FASTKAN_PREFETCH(address) (void)(address)
#endif

namespace fastkan {
namespace FASTKAN_ISA {

// A block of outputs of the weight rows (or their gradient) of a chunk: slot m of input i at data + i
// input_stride + m slot_stride.
template <class T>
struct Slots {
  T* data;
  int64_t input_stride, slot_stride;
};

template <class T, int NV>
FASTKAN_HD void prefetch_row(const T* row) {
  for (int v = 0; v < NV; ++v) FASTKAN_PREFETCH(row + v * kLanes<T>);
}

// rows[r] = the weight rows of the R splines alive in interval j, ready to be multiplied: the pivot as it is,
// or 0 where the values sum to 0; the others as differences from the pivot. Splines that do not exist have
// rows of 0.
template <class T, int R, int NV>
FASTKAN_HD void load_differences(const Problem& problem, const Values& set, int j, const T* slots,
                                 int64_t stride, Lanes<T> (&rows)[R][NV]) {
  const int first = j - (R - 1), splines = int(problem.splines());
  for (int r = 0; r < R; ++r) {
    const bool exists = first + r >= 0 && first + r < splines;
    for (int v = 0; v < NV; ++v)
      rows[r][v] = exists ? load(slots + (first + r) * stride + v * kLanes<T>) : Lanes<T>{};
  }
  for (int r = 0; r < R; ++r)
    if (r != kPivot<R>)
      for (int v = 0; v < NV; ++v) rows[r][v] -= rows[kPivot<R>][v];
  if (set.nu > 0)
    for (int v = 0; v < NV; ++v) rows[kPivot<R>][v] = Lanes<T>{};
}

// Adds the sums of interval j to the rows of grad_weight. The pivot's sum holds the sum of g, with row
// weights if there are any. Its own sum follows from that, because the values sum to 1, or to 0 in a
// derivative.
template <class T, int R, int NV>
FASTKAN_HD void add_to_rows(const Problem& problem, const Values& set, int j, Lanes<T> (&sums)[R][NV],
                            T* slots, int64_t stride) {
  const int first = j - (R - 1), splines = int(problem.splines());
  if (set.nu > 0)
    for (int v = 0; v < NV; ++v) sums[kPivot<R>][v] = Lanes<T>{};
  for (int r = 0; r < R; ++r)
    if (r != kPivot<R>)
      for (int v = 0; v < NV; ++v) sums[kPivot<R>][v] -= sums[r][v];
  for (int r = 0; r < R; ++r) {
    if (first + r < 0 || first + r >= splines) continue;
    T* const row = slots + (first + r) * stride;
    for (int v = 0; v < NV; ++v) store(row + v * kLanes<T>, load(row + v * kLanes<T>) + sums[r][v]);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
