#include "launches.h"

namespace fastkan {
namespace {

template <class T>
void launch_local_support(const Cuda& cuda, const LocalInputs<T>& inputs, Source g, const Splits& splits,
                          Target out) {
  const Problem& problem = inputs.problem;
  const int columns = threads_side_by_side(problem.out_features, kThreads);
  const int64_t blocks =
      problem.in_features * blocks_of(problem.slots(), kWindow) * blocks_of(problem.out_features, columns);
  const size_t bytes =
      2 * kWindow * kThreads * sizeof(T) + kRowsAtOnce * (value_count(problem) * sizeof(T) + sizeof(int64_t));
  launch(grad_weight_local_support<T>, "grad_weight", cuda.device, cuda.stream,
         {checked_blocks("grad_weight", blocks), unsigned(splits.count)}, kThreads, bytes, inputs, g, columns,
         splits.rows, out);
}

}  // namespace

Splits Cuda::grad_weight_splits(const Problem& problem) {
  const int64_t slots = problem.in_features * problem.slots();
  return split_rows(problem.batch,
                    blocks_of(slots, kTileRows) * blocks_of(problem.out_features, kTileColumns), 640);
}

template <class T>
void Cuda::grad_weight(const Problem& problem, Source x, Source g, Source row_weight, const T* knots,
                       T* parts, Target out) const {
  const int64_t slots = problem.in_features * problem.slots(), O = problem.out_features;
  if (!slots || !O) return;
  const Splits splits = grad_weight_splits(problem);
  const Target target = splits.count == 1 ? out : Target{parts, kStorage<T>};
  const Path path = choose_path(problem, g.storage, tf32, true);
  bool done = false;
  if constexpr (sizeof(T) == 4) {
    if (path != Path::local_support) {
      with_kind(path, [&](auto kind) {
        const int64_t blocks = blocks_of(slots, kTileRows) * blocks_of(O, kTileColumns);
        launch(grad_weight_all_slots<decltype(kind)>, "grad_weight", device, stream,
               {checked_blocks("grad_weight", blocks), unsigned(splits.count)}, kThreads,
               kOperandBytes + scratch_bytes(problem, sizeof(T)), Inputs{problem, x, row_weight, knots},
               Matrix{g, problem.batch, O}, splits.rows, target);
      });
      done = true;
    }
  }
  if (!done) launch_local_support(*this, LocalInputs<T>{problem, x, row_weight, knots}, g, splits, target);
  if (splits.count > 1) add_up(*this, "grad_weight", static_cast<const T*>(parts), slots * O, splits, out);
}

template void Cuda::grad_weight(const Problem&, Source, Source, Source, const float*, float*, Target) const;
template void Cuda::grad_weight(const Problem&, Source, Source, Source, const double*, double*, Target) const;

}  // namespace fastkan
