// How many vectors of outputs a block has: as many as leave its weight rows in registers.
#pragma once

#include "values.h"
#include "vector.h"

#if defined(__GNUC__)
// Inlined into the loops around them, the block functions lose their rows from the registers (measured with
// GCC 12: 8.8 cycles a vector instead of 5.4).
#define FASTKAN_NOINLINE __attribute__((noinline))
#else
#define FASTKAN_NOINLINE __declspec(noinline)
#endif

namespace fastkan {
namespace FASTKAN_ISA {

#if FASTKAN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kRegisters = 32;
#elif FASTKAN_VECTOR_BYTES > 0
constexpr int kRegisters = 16;
#else
constexpr int kRegisters = 64;  // single values: as wide as the widest vectors above
#endif

// Whether the R weight rows of the splines, the row of the base slot, a row of y or g, a broadcast and a load
// fit into the registers.
constexpr bool fits(int splines, int vectors) {
  return vectors == 1 || vectors * (splines + 2) + 2 <= kRegisters;
}

FASTKAN_HD int widest(int splines) { return fits(splines, 4) ? 4 : fits(splines, 2) ? 2 : 1; }

// The vectors of the next block: 4, 2 or 1. The last one may hold padding.
FASTKAN_HD int block_vectors(int most, int64_t left, int lanes) {
  while (most > 1 && (most - 1) * lanes >= left) most /= 2;
  return most;
}

// Calls body(Size<R>, Size<NV>) for the pair given at run time.
template <class Body>
FASTKAN_HD void with_sizes(int splines, int vectors, const Body& body) {
  with_splines(splines, [&](auto r) {
    if constexpr (fits(r.value, 4))
      if (vectors == 4) return body(r, Size<4>{});
    if constexpr (fits(r.value, 2))
      if (vectors == 2) return body(r, Size<2>{});
    body(r, Size<1>{});
  });
}

template <class T>
int64_t padded(int64_t outputs) {
  return (outputs + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
