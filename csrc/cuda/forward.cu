#include "launches.h"

namespace fastkan {
namespace {

template <class T>
void launch_local_support(const Cuda& cuda, const LocalInputs<T>& inputs, Source weight, Target y) {
  const Problem& problem = inputs.problem;
  const int columns = threads_side_by_side(problem.out_features, kThreads);
  const int64_t rows = kRowsOfThread * kThreads / columns;
  const int64_t blocks = blocks_of(problem.batch, rows) * blocks_of(problem.out_features, columns);
  const size_t bytes = kPairs * (value_count(problem) * sizeof(T) + sizeof(int64_t));
  launch(forward_local_support<T>, "forward", cuda.device, cuda.stream, {checked_blocks("forward", blocks)},
         kThreads, bytes, inputs, weight, columns, y);
}

}  // namespace

template <class T>
void Cuda::forward(const Problem& problem, Source x, Source weight, Source row_weight, const T* knots,
                   Target y) const {
  if (!problem.batch || !problem.out_features) return;
  const Path path = choose_path(problem, y.storage, tf32, true);
  if constexpr (sizeof(T) == 4) {
    if (path != Path::local_support)
      return with_kind(path, [&](auto kind) {
        const int64_t blocks =
            blocks_of(problem.batch, kTileRows) * blocks_of(problem.out_features, kTileColumns);
        const Matrix matrix{weight, problem.in_features * problem.slots(), problem.out_features};
        launch(forward_all_slots<decltype(kind)>, "forward", device, stream,
               {checked_blocks("forward", blocks)}, kThreads,
               kOperandBytes + scratch_bytes(problem, sizeof(T)), Inputs{problem, x, row_weight, knots},
               matrix, y);
      });
  }
  launch_local_support(*this, LocalInputs<T>{problem, x, row_weight, knots}, weight, y);
}

template void Cuda::forward(const Problem&, Source, Source, Source, const float*, Target) const;
template void Cuda::forward(const Problem&, Source, Source, Source, const double*, Target) const;

}  // namespace fastkan
