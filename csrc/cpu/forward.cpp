#include <vector>

#include "../basis.h"
#include "clones.h"
#include "cpu.h"
#include "parallel.h"

namespace fastkan {
namespace {

constexpr int64_t kRows = 32;      // rows that share a weight row while it is in the cache
constexpr int64_t kInputs = 32;    // inputs summed before they join y: the rounding error of a blocked GEMM
constexpr int64_t kOutputs = 512;  // bounds the scratch block

// y[o] += sum_k values[k] rows[k][o] over N spline rows, `stride` apart, and the base row
template <class T, int N>
FASTKAN_CLONES void add_rows(T* y, const T* spline_rows, const T* base_row, int64_t stride, const T* values,
                             int64_t outputs) {
#pragma omp simd
  for (int64_t o = 0; o < outputs; ++o) {
    T sum = values[N] * base_row[o];
    for (int k = 0; k < N; ++k) sum += values[k] * spline_rows[k * stride + o];
    y[o] += sum;
  }
}

template <class T>
constexpr decltype(&add_rows<T, 0>) kAddRows[] = {
    add_rows<T, 0>, add_rows<T, 1>, add_rows<T, 2>, add_rows<T, 3>, add_rows<T, 4>,
    add_rows<T, 5>, add_rows<T, 6>, add_rows<T, 7>, add_rows<T, 8>, add_rows<T, 9>};

}  // namespace

template <class T>
void Cpu::forward(const Problem& problem, const T* x, const T* weight, const T* row_weight, const T* knots,
                  T* y) const {
  const int64_t I = problem.in_features, O = problem.out_features, M = problem.slots();
  const int64_t tiles = block_count(O, kOutputs);

  parallel_for(block_count(problem.batch, kRows) * tiles, threads_for(problem), [&](int64_t task) {
    const Range rows = block_at(task / tiles, problem.batch, kRows),
                outputs = block_at(task % tiles, O, kOutputs);
    std::vector<T> block(rows.size() * outputs.size());
    for (int64_t b = rows.begin; b < rows.end; ++b)
      std::fill(y + b * O + outputs.begin, y + b * O + outputs.end, T(0));

    for (int64_t chunk = 0; chunk < I; chunk += kInputs) {
      std::fill(block.begin(), block.end(), T(0));
      for (int64_t i = chunk; i < std::min(I, chunk + kInputs); ++i) {
        const T* const slots = weight + i * M * O + outputs.begin;
        for (int64_t b = rows.begin; b < rows.end; ++b) {
          Active<T> active = active_slots(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i]);
          if (row_weight)
            for (int k = 0; k < active.count(); ++k) active.values[k] *= row_weight[b * I + i];
          kAddRows<T>[active.splines](block.data() + (b - rows.begin)* outputs.size(),
                                      slots + active.first* O, slots + (M - 1)* O, O, active.values,
                                      outputs.size());
        }
      }
      for (int64_t b = rows.begin; b < rows.end; ++b)
        for (int64_t o = outputs.begin; o < outputs.end; ++o)
          y[b * O + o] += block[(b - rows.begin) * outputs.size() + o - outputs.begin];
    }
  });
}

template void Cpu::forward(const Problem&, const float*, const float*, const float*, const float*,
                           float*) const;
template void Cpu::forward(const Problem&, const double*, const double*, const double*, const double*,
                           double*) const;

}  // namespace fastkan
