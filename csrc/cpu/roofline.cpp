#include "roofline.h"

#include <chrono>
#include <vector>

#include "parallel.h"

namespace fastkan {
namespace {

constexpr int64_t kLineWords = 16;  // threads do not share a cache line

int64_t whole_vectors(int64_t count, int lanes) { return block_count(count, lanes) * lanes; }

// Cox-de Boor (core/splines.h): step k makes three multiplications for each of k splines, but for one by 1.
int64_t spline_multiplications(int degree) { return 3 * degree * (degree + 1) / 2 - 1; }

// Calls part(t) for every thread t, which does its share of the work, and adds up what the parts return.
template <class Result, class Work, class Part>
Measured<Result> measured(int threads, const Work& work_of, const Part& part) {
  std::vector<Measured<Result>> parts(static_cast<size_t>(threads));
  parallel_for(threads, threads, [&](int64_t t) {
    const int64_t work = work_of(t);
    const auto start = std::chrono::steady_clock::now();
    const Result result = part(t);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    parts[size_t(t)] = {result, work, seconds > 0 ? double(work) / seconds : 0};
  });
  Measured<Result> all{};
  for (const Measured<Result>& own : parts) {
    all.result += own.result;
    all.work += own.work;
    all.per_second += own.per_second;
  }
  return all;
}

}  // namespace

template <class T>
Measured<double> multiply_add_loop(int64_t steps, T factor, T term, int threads) {
  const Kernels<T>& isa = kernels<T>();
  return measured<double>(
      threads, [&](int64_t) { return 2 * steps * isa.sums * isa.lanes; },
      [&](int64_t) { return double(isa.multiply_add_steps(steps, factor, term)); });
}

Measured<uint32_t> read_loop(const uint32_t* words, int64_t count, int64_t passes, int threads) {
  const Kernels<float>& isa = kernels<float>();
  const int64_t part = whole_vectors(block_count(count, threads), kLineWords);
  const auto begin = [&](int64_t t) { return std::min(count, t * part); };
  return measured<uint32_t>(
      threads, [&](int64_t t) { return (begin(t + 1) - begin(t)) * int64_t(sizeof(uint32_t)) * passes; },
      [&](int64_t t) { return isa.read_words(words + begin(t), begin(t + 1) - begin(t), passes); });
}

template <class T>
int64_t forward_multiplications(const Problem& problem) {
  const Kernels<T>& isa = kernels<T>();
  const int64_t B = problem.batch, I = problem.in_features, O = problem.out_features, p = problem.degree;
  const int64_t evaluation = B * I * spline_multiplications(problem.degree);
  switch (forward_way(problem, isa.entries)) {
    case Way::few_outputs:
      return evaluation + whole_vectors(B, isa.lanes) * I * (p + 2) * O;
    case Way::direct:
      return evaluation + B * I * (p + 2) * whole_vectors(O, isa.lanes);
    case Way::sorted:
      break;
  }
  return evaluation + B * I * (p + 1) * whole_vectors(O, isa.lanes);  // the pivot is added
}

template <class T>
int64_t fused_gradients_multiplications(const Problem& problem) {
  const Kernels<T>& isa = kernels<T>();
  const int64_t B = problem.batch, I = problem.in_features, O = problem.out_features, p = problem.degree;
  // The derivatives share all steps but the last, and have a factor.
  const int64_t evaluation = B * I * (spline_multiplications(problem.degree) + p + 1);
  if (fused_gradients_way(problem, isa.entries, true, true) == Way::few_outputs)
    return evaluation + whole_vectors(B, isa.lanes) * I * O * (p + 3 + problem.slots());
  return evaluation + B * I * (p + 2 + p + 1) * whole_vectors(O, isa.lanes);
}

#define FASTKAN_INSTANTIATE(T)                                        \
  template Measured<double> multiply_add_loop<T>(int64_t, T, T, int); \
  template int64_t forward_multiplications<T>(const Problem&);        \
  template int64_t fused_gradients_multiplications<T>(const Problem&);
FASTKAN_INSTANTIATE(float)
FASTKAN_INSTANTIATE(double)

}  // namespace fastkan
