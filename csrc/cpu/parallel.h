// Threads and blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace fastkan {

// Calls task(0) .. task(count - 1) in any order on up to `threads` threads. An exception of a task is
// rethrown here. Serial, without a parallel region, for one thread, without OpenMP, and in a forked child.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task);

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

inline int64_t block_count(int64_t total, int64_t block) { return (total + block - 1) / block; }

inline Range block_at(int64_t index, int64_t total, int64_t block) {
  return {index * block, std::min(total, (index + 1) * block)};
}

}  // namespace fastkan
