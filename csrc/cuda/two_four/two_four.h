// The forward for cubic splines on uniform grids on 2:4 sparse tensor cores
// (docs/explanation/cuda.md). Pointers are device pointers; calls return once the kernel is in the stream.
#pragma once

#include "../../core/storage.h"
#include "layout.h"

namespace fastkan {

enum class Tile { small, large };

struct TwoFour {
  int device = 0;
  void* stream = nullptr;               // a cudaStream_t of that device
  Storage operand = Storage::bfloat16;  // or float16: what the tensor cores multiply

  // weight [I, M, O], M = splines + 1, in float32 or the operand type, into packed_bytes(I, splines, O).
  void pack(const Source& weight, void* packed, int64_t in_features, int64_t splines,
            int64_t out_features) const;

  // y [B, O] of x [B, I], I > 0. nu = 0, degree 3. grid [I, 2]: the first extended knot of every input, and
  // 1 / h, padded by zeros to 16 inputs; (last knot - first knot) / h must not be below the number of
  // intervals, so that nothing is found inside from the last knot on. x and y in float32 or the operand type.
  void forward(const Problem& problem, const Source& x, const void* grid, const void* packed, const Target& y,
               Tile tile) const;
};

}  // namespace fastkan
