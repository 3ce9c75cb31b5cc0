#include <limits>
#include <vector>

#include "../basis.h"
#include "cpu.h"
#include "parallel.h"

namespace fastkan {
namespace {

constexpr int64_t kGramRows =
    256;  // rows summed before they join the output: the rounding error of a blocked GEMM
constexpr int64_t kRows = 32, kInputs = 32;

}  // namespace

template <class T>
void Cpu::gram(const Problem& problem, const T* x, const T* row_weight, const T* knots, T* out) const {
  const int64_t I = problem.in_features, M = problem.slots();

  parallel_for(I, threads_for(problem), [&](int64_t i) {
    std::vector<T> tile(M * M);
    T* const target = out + i * M * M;
    std::fill_n(target, M * M, T(0));

    for (int64_t start = 0; start < problem.batch; start += kGramRows) {
      std::fill(tile.begin(), tile.end(), T(0));
      for (int64_t b = start; b < std::min(problem.batch, start + kGramRows); ++b) {
        const T value = x[b * I + i], factor = row_weight ? row_weight[b * I + i] : T(1);
        if (value != value) std::fill(tile.begin(), tile.end(), std::numeric_limits<T>::quiet_NaN());
        const Active<T> left = active_slots(problem, knots + i * problem.num_knots, problem.nu, value);
        const Active<T> right = problem.mu == problem.nu
                                    ? left
                                    : active_slots(problem, knots + i * problem.num_knots, problem.mu, value);
        for (int k = 0; k < left.count(); ++k)
          for (int l = 0; l < right.count(); ++l)
            tile[left.slot(k, problem) * M + right.slot(l, problem)] +=
                factor * left.values[k] * right.values[l];
      }
      for (int64_t entry = 0; entry < M * M; ++entry) target[entry] += tile[entry];
    }
  });
}

template <class T>
void Cpu::quadratic(const Problem& problem, const T* x, const T* form, const T* knots, T* out) const {
  const int64_t I = problem.in_features, M = problem.slots();
  const int64_t chunks = block_count(I, kInputs);

  parallel_for(block_count(problem.batch, kRows) * chunks, threads_for(problem), [&](int64_t task) {
    const Range rows = block_at(task / chunks, problem.batch, kRows),
                inputs = block_at(task % chunks, I, kInputs);
    for (int64_t i = inputs.begin; i < inputs.end; ++i) {
      for (int64_t b = rows.begin; b < rows.end; ++b) {
        const Active<T> left = active_slots(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i]);
        const Active<T> right =
            problem.mu == problem.nu
                ? left
                : active_slots(problem, knots + i * problem.num_knots, problem.mu, x[b * I + i]);
        T total = 0;
        for (int k = 0; k < left.count(); ++k) {
          const T* const row = form + (i * M + left.slot(k, problem)) * M;
          T sum = 0;
          for (int l = 0; l < right.count(); ++l) sum += right.values[l] * row[right.slot(l, problem)];
          total += left.values[k] * sum;
        }
        out[b * I + i] = total;
      }
    }
  });
}

template void Cpu::gram(const Problem&, const float*, const float*, const float*, float*) const;
template void Cpu::gram(const Problem&, const double*, const double*, const double*, double*) const;
template void Cpu::quadratic(const Problem&, const float*, const float*, const float*, float*) const;
template void Cpu::quadratic(const Problem&, const double*, const double*, const double*, double*) const;

}  // namespace fastkan
