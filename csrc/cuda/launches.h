// What the launches of all operations share.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "all_slots.h"
#include "choice.h"
#include "gram.h"

namespace fastkan {

// Blocks along the grid's first axis; a layer that needs more than it holds is refused.
inline unsigned checked_blocks(const char* operation, int64_t blocks) {
  if (blocks > 2147483647)
    throw std::invalid_argument("fastkan: " + std::string(operation) +
                                " on backend cuda takes at most 2^31 - 1 blocks, got " +
                                std::to_string(blocks) + "; call it with fewer rows at a time");
  return unsigned(blocks);
}

// Threads side by side for `count` outputs: a power of two, at most `most`.
inline int threads_side_by_side(int64_t count, int most) {
  int threads = 1;
  while (threads < most && threads < count) threads *= 2;
  return threads;
}

// Enough blocks for a GPU of some 130 multiprocessors, two or three each; the rows of a split are whole
// tiles. By the shapes alone, for sums depend on it.
constexpr int64_t kBlocksWanted = 320;

inline Splits split_rows(int64_t rows, int64_t blocks, int64_t least_rows) {
  const int64_t wanted = blocks_of(kBlocksWanted, std::max<int64_t>(blocks, 1));
  const int64_t most = std::clamp<int64_t>(rows / least_rows, 1, 64);
  const int64_t of_split = blocks_of(blocks_of(std::max<int64_t>(rows, 1), std::min(wanted, most)), 80) * 80;
  return {int(blocks_of(std::max<int64_t>(rows, 1), of_split)), of_split};
}

// The second stage of sums in splits (gram.cu).
template <class T>
void add_up(const Cuda& cuda, const char* operation, const T* parts, int64_t count, const Splits& splits,
            Target out);

}  // namespace fastkan
