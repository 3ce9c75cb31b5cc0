// The weight rows that an interval's splines need, in registers.
#pragma once

#include "chunk.h"

#if defined(__GNUC__)
// Inlined into the loops around them, the block functions lose their rows from the registers (measured with
// GCC 12: 8.8 cycles a vector instead of 5.4).
#define FASTKAN_NOINLINE __attribute__((noinline))
#define FASTKAN_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define FASTKAN_NOINLINE __declspec(noinline)
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

// rows[r] = the R = p - nu + 1 coefficient rows that the splines of order nu alive in interval j multiply:
// for nu > 0, p (C_{r+1} - C_r) / (t_{j+r+1} - t_{j+r+1-p}) and so on, nu times. Splines that do not exist
// have rows of 0.
template <class T, int R, int NV>
FASTKAN_HD void load_rows(const Problem& problem, int nu, const Grid<T>& grid, int j, const T* slots,
                          int64_t stride, Lanes<T> (&rows)[R][NV]) {
  constexpr int w = kLanes<T>;
  const int p = R - 1 + nu, first = j - p, splines = int(problem.splines());
  if (nu == 0 && first >= 0 && j < splines) {
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < NV; ++v) rows[r][v] = load(slots + (first + r) * stride + v * w);
    return;
  }
  const auto row = [&](int r, int v) __attribute__((always_inline)) {
    return first + r >= 0 && first + r < splines ? load(slots + (first + r) * stride + v * w) : Lanes<T>{};
  };
  if (nu == 1) {  // without the detour through memory
    Lanes<T> lower[NV];
    for (int v = 0; v < NV; ++v) lower[v] = row(0, v);
    for (int r = 0; r < R; ++r) {
      const T factor = T(R) / (grid.knots[j + r + 1] - grid.knots[j + r + 1 - R]);
      for (int v = 0; v < NV; ++v) {
        const Lanes<T> upper = row(r + 1, v);
        rows[r][v] = (upper - lower[v]) * factor;
        lower[v] = upper;
      }
    }
    return;
  }
  Lanes<T> all[kMaxDegree + 1][NV];
  for (int r = 0; r <= p; ++r)
    for (int v = 0; v < NV; ++v) all[r][v] = row(r, v);
  for (int k = p; k > p - nu; --k)
    for (int r = 0; r < k; ++r) {
      const T factor = T(k) / (grid.knots[j + r + 1] - grid.knots[j + r + 1 - k]);
      for (int v = 0; v < NV; ++v) all[r][v] = (all[r + 1][v] - all[r][v]) * factor;
    }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < NV; ++v) rows[r][v] = all[r][v];
}

// The same, made ready to be multiplied: the pivot stays, or is 0 where the values' sum is, and the others
// become differences from it.
template <class T, int R, int NV>
FASTKAN_HD void load_differences(const Problem& problem, const Values& set, const Grid<T>& grid, int j,
                                 const T* slots, int64_t stride, Lanes<T> (&rows)[R][NV]) {
  load_rows<T, R, NV>(problem, set.row_nu, grid, j, slots, stride, rows);
  for (int r = 0; r < R; ++r)
    if (r != kPivot<R>)
      for (int v = 0; v < NV; ++v) rows[r][v] -= rows[kPivot<R>][v];
  if (set.sum_is_zero())
    for (int v = 0; v < NV; ++v) rows[kPivot<R>][v] = Lanes<T>{};
}

// Adds sums of interval j, taken with splines of order nu, to the rows of a gradient: load_rows' adjoint.
template <class T, int R, int NV>
FASTKAN_HD void add_to_rows(const Problem& problem, int nu, const Grid<T>& grid, int j,
                            const Lanes<T> (&sums)[R][NV], T* slots, int64_t stride) {
  constexpr int w = kLanes<T>;
  const int p = R - 1 + nu, first = j - p, splines = int(problem.splines());
  const auto add = [&](int r, const Lanes<T>* sum) __attribute__((always_inline)) {
    T* const row = slots + (first + r) * stride;
    for (int v = 0; v < NV; ++v) store(row + v * w, load(row + v * w) + sum[v]);
  };
  if (nu == 0) {
    for (int r = 0; r < R; ++r)
      if (first + r >= 0 && first + r < splines) add(r, sums[r]);
    return;
  }
  Lanes<T> all[kMaxDegree + 1][NV] = {};
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < NV; ++v) all[r][v] = sums[r][v];
  for (int k = p - nu + 1; k <= p; ++k)
    for (int r = k - 1; r >= 0; --r) {
      const T factor = T(k) / (grid.knots[j + r + 1] - grid.knots[j + r + 1 - k]);
      for (int v = 0; v < NV; ++v) {
        const Lanes<T> share = all[r][v] * factor;
        all[r + 1][v] += share;
        all[r][v] = -share;
      }
    }
  for (int r = 0; r <= p; ++r)
    if (first + r >= 0 && first + r < splines) add(r, all[r]);
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
