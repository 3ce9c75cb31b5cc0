#include "launches.h"

namespace fastkan {

template <class T>
void add_up(const Cuda& cuda, const char* operation, const T* parts, int64_t count, const Splits& splits,
            Target out) {
  launch(add_parts<T>, operation, cuda.device, cuda.stream,
         {checked_blocks(operation, blocks_of(count, kThreads))}, kThreads, 0, parts, count, splits.count,
         out);
}

Splits Cuda::gram_splits(const Problem& problem) {
  const int64_t M = problem.slots();
  return split_rows(problem.batch, problem.in_features * blocks_of(M * M, kThreads), 640);
}

template <class T>
void Cuda::gram(const Problem& problem, Source x, Source row_weight, const T* knots, T* parts, T* out) const {
  const int64_t M = problem.slots(), I = problem.in_features;
  if (!I) return;
  const Splits splits = gram_splits(problem);
  const size_t bytes = kThreads * (value_count(problem) * sizeof(T) + sizeof(int64_t));
  launch(gram_kernel<T>, "gram", device, stream,
         {checked_blocks("gram", I * blocks_of(M * M, kThreads)), unsigned(splits.count)}, kThreads, bytes,
         LocalInputs<T>{problem, x, row_weight, knots}, splits.rows, splits.count == 1 ? out : parts);
  if (splits.count > 1)
    add_up(*this, "gram", static_cast<const T*>(parts), I * M * M, splits, Target{out, kStorage<T>});
}

template <class T>
void Cuda::quadratic(const Problem& problem, Source x, const T* form, const T* knots, T* out) const {
  const int64_t all = problem.batch * problem.in_features;
  if (!all) return;
  launch(quadratic_kernel<T>, "quadratic", device, stream,
         {checked_blocks("quadratic", blocks_of(all, kThreads))}, kThreads,
         2 * scratch_bytes(problem, sizeof(T)), LocalInputs<T>{problem, x, {}, knots}, form, out);
}

#define FASTKAN_INSTANTIATE(T)                                                              \
  template void add_up(const Cuda&, const char*, const T*, int64_t, const Splits&, Target); \
  template void Cuda::gram(const Problem&, Source, Source, const T*, T*, T*) const;         \
  template void Cuda::quadratic(const Problem&, Source, const T*, const T*, T*) const;
FASTKAN_INSTANTIATE(float)
FASTKAN_INSTANTIATE(double)

}  // namespace fastkan
