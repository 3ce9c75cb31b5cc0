#include <limits>
#include <vector>

#include "../basis.h"
#include "clones.h"
#include "cpu.h"
#include "parallel.h"

namespace fastkan {
namespace {

constexpr int64_t kRows =
    256;  // rows summed before they join the output: the rounding error of a blocked GEMM
constexpr int64_t kOutputs = 256;  // bounds the scratch tile, M x kOutputs

// rows[k][o] += values[k] g[o] over N spline rows, `stride` apart, and the base row
template <class T, int N>
FASTKAN_CLONES void add_outer(T* spline_rows, T* base_row, int64_t stride, const T* values, const T* g,
                              int64_t outputs) {
#pragma omp simd
  for (int64_t o = 0; o < outputs; ++o) {
    base_row[o] += values[N] * g[o];
    for (int k = 0; k < N; ++k) spline_rows[k * stride + o] += values[k] * g[o];
  }
}

template <class T>
constexpr decltype(&add_outer<T, 0>) kAddOuter[] = {
    add_outer<T, 0>, add_outer<T, 1>, add_outer<T, 2>, add_outer<T, 3>, add_outer<T, 4>,
    add_outer<T, 5>, add_outer<T, 6>, add_outer<T, 7>, add_outer<T, 8>, add_outer<T, 9>};

// out[m,o] += sum over the rows of active[b] times g[b,o], for one input and a block of rows
template <class T>
void add_block(int64_t M, int64_t O, const std::vector<Active<T>>& active, const T* g, std::vector<T>& tile,
               T* out) {
  for (int64_t start = 0; start < O; start += kOutputs) {
    const int64_t width = std::min(kOutputs, O - start);
    T* const base_row = tile.data() + (M - 1) * width;
    std::fill_n(tile.begin(), M * width, T(0));
    for (size_t b = 0; b < active.size(); ++b) {
      const Active<T>& row = active[b];
      if (row.values[row.splines] !=
          row.values[row.splines])  // only a NaN x has a NaN base: every slot is NaN
        std::fill_n(tile.begin(), M * width, std::numeric_limits<T>::quiet_NaN());
      kAddOuter<T>[row.splines](tile.data() + row.first* width, base_row, width, row.values, g + b* O + start,
                                width);
    }
    for (int64_t m = 0; m < M; ++m)
      for (int64_t o = 0; o < width; ++o) out[m * O + start + o] += tile[m * width + o];
  }
}

}  // namespace

template <class T>
void Cpu::grad_weight(const Problem& problem, const T* x, const T* g, const T* row_weight, const T* knots,
                      T* out) const {
  const int64_t I = problem.in_features, O = problem.out_features, M = problem.slots();

  parallel_for(I, threads_for(problem), [&](int64_t i) {
    std::vector<T> tile(M * std::min(O, kOutputs));
    std::vector<Active<T>> active;
    T* const slots = out + i * M * O;
    std::fill_n(slots, M * O, T(0));

    for (int64_t start = 0; start < problem.batch; start += kRows) {
      active.clear();
      for (int64_t b = start; b < std::min(problem.batch, start + kRows); ++b) {
        active.push_back(active_slots(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i]));
        if (row_weight)
          for (int k = 0; k < active.back().count(); ++k) active.back().values[k] *= row_weight[b * I + i];
      }
      add_block(M, O, active, g + start * O, tile, slots);
    }
  });
}

template void Cpu::grad_weight(const Problem&, const float*, const float*, const float*, const float*,
                               float*) const;
template void Cpu::grad_weight(const Problem&, const double*, const double*, const double*, const double*,
                               double*) const;

}  // namespace fastkan
