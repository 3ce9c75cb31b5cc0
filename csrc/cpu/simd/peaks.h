// Loops that only multiply and add in registers, or only read: what the instruction set reaches on this
// machine at most.
#pragma once

#include <atomic>

#include "common/blocks.h"

namespace fastkan {
namespace FASTKAN_ISA {

// As many independent sums as fill the multipliers (4 cycles from start to end, up to 4 started in each) and
// leave registers for the operands.
constexpr int kSums = kRegisters == 32 ? 24 : 12;

// Sum k starts at k, and every step makes it sum * factor + term. Returns the total of all sums and lanes.
template <class T>
FASTKAN_NOINLINE T multiply_add_steps(int64_t steps, T factor, T term) {
  const Lanes<T> factors = broadcast(factor), terms = broadcast(term);
  Lanes<T> sums[kSums];
#pragma GCC unroll 24
  for (int k = 0; k < kSums; ++k) sums[k] = broadcast(T(k));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int k = 0; k < kSums; ++k) sums[k] = sums[k] * factors + terms;
  }
  T total = 0;
  for (int k = 0; k < kSums; ++k)
    for (int q = 0; q < kLanes<T>; ++q) total += lane<T>(sums[k], q);
  return total;
}

#if FASTKAN_VECTOR_BYTES > 0
using Words = VectorOf<float>::Bits;
#else
using Words = uint32_t;
#endif

// Reads the words `passes` times, and returns their sum modulo 2^32.
static FASTKAN_NOINLINE uint32_t read_words(const uint32_t* words, int64_t count, int64_t passes) {
  constexpr int w = int(sizeof(Words) / sizeof(uint32_t)), n = 8;  // loads at once
  Words sums[n] = {};
  uint32_t total = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    int64_t k = 0;
    for (; k + n * w <= count; k += n * w) {
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) {
        Words own;
        memcpy(&own, words + k + i * w, sizeof own);
        sums[i] += own;
      }
    }
    for (; k < count; ++k) total += words[k];
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler may not reuse what it has read
  }
  for (const Words& sum : sums) {
    uint32_t parts[w];
    memcpy(parts, &sum, sizeof parts);
    for (const uint32_t part : parts) total += part;
  }
  return total;
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
