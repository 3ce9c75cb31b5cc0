#include "../basis.h"
#include "clones.h"
#include "cpu.h"
#include "parallel.h"

namespace fastkan {
namespace {

constexpr int64_t kRows = 32;    // rows that share an input's weights while they are in the cache
constexpr int64_t kInputs = 32;  // columns of one task

// sum_o g[o] sum_k values[k] rows[k][o] over N spline rows, `stride` apart, and the base row.
// The reduction clause allows one partial sum a vector lane, which only -ffast-math would otherwise.
template <class T, int N>
FASTKAN_CLONES T dot_rows(const T* spline_rows, const T* base_row, int64_t stride, const T* values,
                          const T* g, int64_t outputs) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t o = 0; o < outputs; ++o) {
    T sum = values[N] * base_row[o];
    for (int k = 0; k < N; ++k) sum += values[k] * spline_rows[k * stride + o];
    total += sum * g[o];
  }
  return total;
}

template <class T>
constexpr decltype(&dot_rows<T, 0>) kDotRows[] = {
    dot_rows<T, 0>, dot_rows<T, 1>, dot_rows<T, 2>, dot_rows<T, 3>, dot_rows<T, 4>,
    dot_rows<T, 5>, dot_rows<T, 6>, dot_rows<T, 7>, dot_rows<T, 8>, dot_rows<T, 9>};

}  // namespace

template <class T>
void Cpu::grad_input(const Problem& problem, const T* x, const T* weight, const T* g, const T* knots,
                     T* out) const {
  const int64_t I = problem.in_features, O = problem.out_features, M = problem.slots();
  const int64_t chunks = block_count(I, kInputs);

  parallel_for(block_count(problem.batch, kRows) * chunks, threads_for(problem), [&](int64_t task) {
    const Range rows = block_at(task / chunks, problem.batch, kRows),
                inputs = block_at(task % chunks, I, kInputs);
    for (int64_t i = inputs.begin; i < inputs.end; ++i) {
      const T* const slots = weight + i * M * O;
      for (int64_t b = rows.begin; b < rows.end; ++b) {
        const Active<T> active =
            active_slots(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i]);
        out[b * I + i] = kDotRows<T>[active.splines](slots + active.first* O, slots + (M - 1)* O, O,
                                                     active.values, g + b* O, O);
      }
    }
  });
}

template void Cpu::grad_input(const Problem&, const float*, const float*, const float*, const float*,
                              float*) const;
template void Cpu::grad_input(const Problem&, const double*, const double*, const double*, const double*,
                              double*) const;

}  // namespace fastkan
