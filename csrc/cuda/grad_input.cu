#include "launches.h"

namespace fastkan {

template <class T>
void Cuda::grad_input(const Problem& problem, Source x, Source weight, Source g, const T* knots,
                      Target out) const {
  const int64_t B = problem.batch, I = problem.in_features, O = problem.out_features;
  if (!B || !I) return;
  const Path path = choose_path(problem, g.storage, tf32, false);
  if constexpr (sizeof(T) == 4) {
    if (path != Path::local_support)
      return with_kind(path, [&](auto kind) {
        const int inputs = inputs_of_tile(problem);
        const int64_t blocks = blocks_of(B, kTileRows) * blocks_of(I, inputs);
        const size_t sums = size_t(kTileRows) * inputs * sizeof(T);
        launch(grad_input_all_slots<decltype(kind)>, "grad_input", device, stream,
               {checked_blocks("grad_input", blocks)}, kThreads,
               kOperandBytes + scratch_bytes(problem, sizeof(T)) + sums, Inputs{problem, x, {}, knots},
               Matrix{weight, I * problem.slots(), O}, Matrix{g, B, O}, out);
      });
  }
  const size_t bytes = kThreads * (value_count(problem) * sizeof(T) + sizeof(int64_t));
  launch(grad_input_local_support<T>, "grad_input", device, stream,
         {checked_blocks("grad_input", blocks_of(B * I, kThreads))}, kThreads, bytes,
         LocalInputs<T>{problem, x, {}, knots}, weight, g, threads_side_by_side(O, 32), out);
}

template void Cuda::grad_input(const Problem&, Source, Source, Source, const float*, Target) const;
template void Cuda::grad_input(const Problem&, Source, Source, Source, const double*, Target) const;

}  // namespace fastkan
