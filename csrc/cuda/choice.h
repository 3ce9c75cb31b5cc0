// Which kernel serves a call. Everything that is instantiated: 4 ways to multiply by F, X and A, F, X and A
// by local support and the three small kernels in two types: 24, and 12 of sparse/: 36 in all
// (tests/cuda/test_compiled.py).
#pragma once

#include "cuda.h"
#include "operands.h"

namespace fastkan {

constexpr int kInstantiations = 36;

enum class Path { float16, bfloat16, tf32, float32, local };

// Slots from which local support beats multiplying by all of them, in float32 on CUDA cores: the dense
// product takes M multiply-adds an edge, and p + 2 with a load each are worth some 24 of them (a model; no
// figure measured yet).
constexpr int64_t kLocalSlots = 24;
// Outputs up to which a tile of 128 would be nearly empty.
constexpr int64_t kNarrow = 8;

// values: how the weight, g and y are stored; expanded: whether slots are an operand (in X they are not).
inline Path choose_path(const Problem& problem, Storage values, bool tf32, bool expanded) {
  if (values == Storage::float64 || problem.out_features <= kNarrow) return Path::local;
  if (values == Storage::bfloat16) return Path::bfloat16;
  // Derivatives leave float16's range on fine grids; TF32 has as many bits, and float32's range.
  if (values == Storage::float16) return expanded && problem.nu > 0 ? Path::tf32 : Path::float16;
  if (tf32) return Path::tf32;
  return problem.slots() >= kLocalSlots ? Path::local : Path::float32;
}

// Calls body(Kind()) with what tensor cores multiply.
template <class Body>
void with_kind(Path path, const Body& body) {
  switch (path) {
    case Path::float16:
      return body(InFloat16());
    case Path::bfloat16:
      return body(InBfloat16());
    case Path::tf32:
      return body(InTf32());
    default:
      return body(InFloat32());
  }
}

}  // namespace fastkan
