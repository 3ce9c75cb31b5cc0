// Which kernel serves a call. Instantiated are forward, grad_input and grad_weight over all slots in 4 kinds
// of operand (12), the same by local support in 2 types (6), the three small kernels in 2 types (6) and those
// of two_four/ (12): 36 in all, which tests/emulated/test_resources.py counts.
#pragma once

#include "operands.h"
#include "operations.h"

namespace fastkan {

constexpr int kInstantiations = 36;

enum class Path { float16, bfloat16, tf32, float32, local_support };

// Slots from which local support beats multiplying by all of them, in float32 on CUDA cores: the product
// of all slots takes M multiply-adds an edge, and p + 2 with a load each are worth some 24 of them (a model;
// no figure measured yet).
constexpr int64_t kLocalSupportSlots = 24;
// Outputs up to which a tile of 128 would be nearly empty.
constexpr int64_t kFewOutputs = 8;

// values: how the weight, g and y are stored; expanded: whether slots are an operand (not in grad_input).
inline Path choose_path(const Problem& problem, Storage values, bool tf32, bool expanded) {
  if (values == Storage::float64 || problem.out_features <= kFewOutputs) return Path::local_support;
  if (values == Storage::bfloat16) return Path::bfloat16;
  // Derivatives leave float16's range on fine grids; TF32 has as many bits, and float32's range.
  if (values == Storage::float16) return expanded && problem.nu > 0 ? Path::tf32 : Path::float16;
  if (tf32) return Path::tf32;
  return problem.slots() >= kLocalSupportSlots ? Path::local_support : Path::float32;
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
