// The knots of one input as the kernels read them, the intervals of its x, and the sort of its rows by
// interval.
#pragma once

#include <math.h>

#include "../../../core/splines.h"
#include "../common/vector.h"

namespace fastkan {
namespace FASTKAN_ISA {

// knots[q] = t_q for q = 1 - p .. K + p - 2, the ends repeated; inverse(k)[s] = 1 / (t_{s+1} - t_{s+1-k})
template <class T>
struct Grid {
  const T *knots, *inverses;
  int64_t stride;
  int intervals;

  FASTKAN_INLINE const T* inverse(int k) const { return inverses + (k - 1) * stride; }
};

template <class T>
FASTKAN_HD int64_t grid_stride(const Problem& problem) {
  return problem.num_knots + 2 * problem.degree + kLanes<T>;
}

// values: (degree + 1) grid_stride numbers
template <class T>
FASTKAN_HD Grid<T> make_grid(const Problem& problem, const T* knots, T* values) {
  const int p = problem.degree;
  const int64_t K = problem.num_knots, stride = grid_stride<T>(problem);
  T* const own = values + p - 1;
  for (int64_t q = 1 - p; q < K + p - 1; ++q) own[q] = knots[q < 0 ? 0 : q < K ? q : K - 1];
  for (int k = 1; k <= p; ++k)
    for (int64_t s = 0; s < K + k - 2; ++s) values[k * stride + s] = T(1) / (own[s + 1] - own[s + 1 - k]);
  return {own, values + stride, stride, int(K - 1)};
}

constexpr int kCompared = 40;  // intervals up to which comparing x with every knot beats a search
constexpr int kCells = 4;      // cells of the search's table per interval

// The cell of x in a table over [t_0, t_m): never decreasing in x, whatever the rounding
template <class T>
FASTKAN_HD int cell_of(T x, T first, T scale, int cells) {
  const T place = (x - first) * scale;
  return place < T(cells) ? int(place) : cells - 1;
}

// interval[b] = the j with t_j <= x[b] < t_{j+1}, or the number of intervals if x[b] is outside or NaN. Only
// stored knots are compared with x, so every operation and order agrees on every knot.
template <class T>
static void find_by_comparing(const Grid<T>& grid, const T* x, int rows, uint16_t* interval) {
  const Mask<T> outside = Mask<T>{} + grid.intervals, one = Mask<T>{} + 1;
  const T first = grid.knots[0], last = grid.knots[grid.intervals];
  for (int b = 0; b < rows; b += kLanes<T>) {
    const Lanes<T> v = load(x + b);
    Mask<T> j{};
    for (int q = 1; q < grid.intervals; ++q) j = v >= broadcast(grid.knots[q]) ? j + one : j;
    j = v >= broadcast(first) ? j : outside;
    store_intervals<T>(interval + b, v < broadcast(last) ? j : outside);
  }
}

// scratch: kCells intervals + 1 numbers of `table`, and `next` as long as the grid has intervals, and one
// more
template <class T>
static void find_by_table(const Grid<T>& grid, const T* x, int rows, uint16_t* table, T* next,
                          uint16_t* interval) {
  const int m = grid.intervals, cells = kCells * m;
  const T first = grid.knots[0], last = grid.knots[m];
  T scale = T(cells) / (last - first);
  if (!(scale <= T(1e30))) scale = 0;  // a range too small to divide by: the walk below finds every interval
  int c = 0;                           // table[c] = the knots after the first whose cell lies before c
  for (int j = 0; j < m; ++j) {
    const int end = j + 1 < m ? cell_of(grid.knots[j + 1], first, scale, cells) : cells - 1;
    while (c <= end) table[c++] = uint16_t(j);
    next[j] = grid.knots[j + 1];
  }
  table[cells] = uint16_t(m);
  next[m - 1] = next[m] = T(NAN);  // no step from the last interval, nor from outside, not even for infinity
  for (int b = 0; b < rows; ++b) {
    const bool inside = x[b] >= first && x[b] < last;
    int j = table[inside ? cell_of(x[b], first, scale, cells) : cells];
    j += x[b] >= next[j];  // most often the last step, and no branch to guess
    while (x[b] >= next[j]) ++j;
    interval[b] = uint16_t(j);
  }
}

template <class T>
FASTKAN_HD void find_intervals(const Grid<T>& grid, const T* x, int rows, uint16_t* table, T* next,
                               uint16_t* interval) {
  if (grid.intervals <= kCompared)
    find_by_comparing(grid, x, rows, interval);
  else
    find_by_table(grid, x, rows, table, next, interval);
}

// Counting sort of the rows of one input by interval. order: the rows; starts[j]: where interval j begins,
// with one more for the rows outside and the end; sorted: x in that order, and sorted_factors likewise unless
// null. counts: room for 2 (intervals + 1) numbers. Two histograms, of two halves of the rows, so that runs
// of equal intervals do not wait for one counter.
template <class T>
static void sort_rows(const uint16_t* interval, int rows, int intervals, const T* x, const T* factors,
                      uint16_t* counts, uint16_t* order, uint16_t* starts, T* sorted, T* sorted_factors) {
  const int buckets = intervals + 1, half = rows / 2;
  uint16_t *const first = counts, *const second = counts + buckets;
  memset(counts, 0, 2 * size_t(buckets) * sizeof *counts);
  for (int b = 0; b < half; ++b) {
    ++first[interval[b]];
    ++second[interval[half + b]];
  }
  if (rows % 2) ++second[interval[rows - 1]];
  int start = 0;
  for (int j = 0; j < buckets; ++j) {
    starts[j] = uint16_t(start);
    const int in_first = first[j], in_second = second[j];
    first[j] = uint16_t(start);
    second[j] = uint16_t(start + in_first);
    start += in_first + in_second;
  }
  starts[buckets] = uint16_t(start);
  const auto put = [&](uint16_t* place, int b) FASTKAN_INLINE_LAMBDA {
    const int q = place[interval[b]]++;
    order[q] = uint16_t(b);
    sorted[q] = x[b];
    if (factors) sorted_factors[q] = factors[b];
  };
  for (int b = 0; b < half; ++b) {
    put(first, b);
    put(second, half + b);
  }
  if (rows % 2) put(second, rows - 1);
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
