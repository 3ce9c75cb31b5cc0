// How work is cut into tasks: what the operations share.
#pragma once

#include "operations.h"
#include "parallel.h"

namespace fastkan {

inline bool is_empty(const Problem& problem) {
  return !problem.batch || !problem.in_features || !problem.out_features;
}

// One thread where all the work takes some 0.05 ms: waking others would cost a good part of it.
inline int threads_for(const Problem& problem, int threads) {
  const double work = double(problem.batch) * double(problem.in_features) * double(problem.out_features + 32);
  return work < 4e5 ? 1 : threads;
}

// The most inputs, at most 64, with which a task's workspace stays within its bound.
template <class T, class Bytes>
void choose_inputs(Call<T>& call, const Bytes& bytes) {
  call.chunk_inputs = int(std::clamp<int64_t>(call.problem.in_features, 1, 64));
  while (call.chunk_inputs > 1 && bytes(call) > kWorkspace) call.chunk_inputs = (call.chunk_inputs + 1) / 2;
}

inline Range block_at(int64_t index, int64_t total, int64_t block) {
  return {index * block, std::min(total, (index + 1) * block)};
}

inline int64_t weight_size(const Problem& problem) {
  return problem.in_features * problem.slots() * problem.out_features;
}

inline bool is_small(const Problem& problem) { return weight_size(problem) <= 1 << 18; }

// Parts of the rows whose sums of grad_weight are kept apart, each of some `least_rows`
inline int64_t cut_rows(const Problem& problem, int64_t least_rows) {
  const int64_t splits = is_small(problem) ? std::clamp<int64_t>((1 << 20) / weight_size(problem), 1, 16) : 1;
  return std::min(splits, block_count(problem.batch, least_rows));
}

}  // namespace fastkan
