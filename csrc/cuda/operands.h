// What tensor cores (or CUDA cores, in float32) multiply: how operands lie in shared memory, their fragments
// in registers, and the product of two tiles. A tile's product is [64, 128]: 4 warps, each [32, 64].
#pragma once

#include "blocks.h"
#include "evaluate.h"

namespace fastkan {

constexpr int kTileRows = 64, kTileColumns = 128;
constexpr int kWarpRows = 32, kWarpColumns = 64;                              // of a warp's part
constexpr int kRowBlocks = kWarpRows / 16, kColumnBlocks = kWarpColumns / 8;  // products of an instruction

// depth: of a tile, along the contraction; step: of an instruction. Rows of a tile are padded so that the
// lanes of a warp meet different banks.
struct InFloat16 {
  using Operand = uint16_t;
  static constexpr int step = 16, depth = 80;
  static constexpr Storage storage = Storage::float16;
  FASTKAN_DEVICE static Operand operand(float value) { return Operand(pack_float16(value, 0)); }
  FASTKAN_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_float16(d, a, b);
  }
};

struct InBfloat16 {
  using Operand = uint16_t;
  static constexpr int step = 16, depth = 80;
  static constexpr Storage storage = Storage::bfloat16;
  FASTKAN_DEVICE static Operand operand(float value) { return Operand(pack_bfloat16(value, 0)); }
  FASTKAN_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bfloat16(d, a, b);
  }
};

struct InTf32 {
  using Operand = float;
  static constexpr int step = 8, depth = 40;
  static constexpr Storage storage = Storage::float32;
  FASTKAN_DEVICE static Operand operand(float value) { return tf32(value); }
  FASTKAN_DEVICE static void multiply(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
    mma_tf32(d, a, b);
  }
};

// On CUDA cores; the sums of a tile are added up apart, so that float32 rounds like a blocked GEMM and not
// like one long chain.
struct InFloat32 {
  using Operand = float;
  static constexpr int step = 1, depth = 40;
  static constexpr Storage storage = Storage::float32;
  FASTKAN_DEVICE static Operand operand(float value) { return value; }
  FASTKAN_DEVICE static void multiply(float (&d)[4], const float (&a)[2], const float (&b)[2]) {
    d[0] += a[0] * b[0];
    d[1] += a[0] * b[1];
    d[2] += a[1] * b[0];
    d[3] += a[1] * b[1];
  }
};

template <class Kind>
constexpr int kDepthStride = Kind::depth + 32 / int(sizeof(typename Kind::Operand)) / 2;  // 88 or 44
constexpr int kColumnStride = kTileColumns + 8;

// Shared memory of the operands, whatever the type: [64, depth] and [depth, 128] or [128, depth].
constexpr size_t kOperandBytes = 192 * 88 * 2;
static_assert(kOperandBytes >= 64 * 88 * 2 + 80 * kColumnStride * 2, "the wider of the two layouts fits");

struct Lane {
  int group, member;  // g and t of the fragments
  int row, column;    // where its warp's part of the product begins
  FASTKAN_DEVICE static Lane here() {
    const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    return {lane / 4, lane % 4, warp % 2 * kWarpRows, warp / 2 * kWarpColumns};
  }
};

template <class Operand>
FASTKAN_DEVICE uint32_t pair_at(const Operand* two) {
  return *reinterpret_cast<const uint32_t*>(two);
}

// Fragments of `a`, whose rows run along the contraction, from row and depth on
template <class Kind>
FASTKAN_DEVICE void load_left(const uint16_t* a, int row, int k, const Lane& lane, uint32_t (&out)[4]) {
  const uint16_t* const first = a + (row + lane.group) * kDepthStride<Kind> + k + 2 * lane.member;
  const uint16_t* const second = first + 8 * kDepthStride<Kind>;
  out[0] = pair_at(first);
  out[1] = pair_at(second);
  out[2] = pair_at(first + 8);
  out[3] = pair_at(second + 8);
}
template <class Kind>
FASTKAN_DEVICE void load_left(const float* a, int row, int k, const Lane& lane, float (&out)[4]) {
  const float* const first = a + (row + lane.group) * kDepthStride<Kind> + k + lane.member;
  const float* const second = first + 8 * kDepthStride<Kind>;
  out[0] = first[0];
  out[1] = second[0];
  out[2] = first[4];
  out[3] = second[4];
}
template <class Kind>
FASTKAN_DEVICE void load_left(const float* a, int row, int k, const Lane& lane, float (&out)[2]) {
  const float* const first = a + (row + lane.group) * kDepthStride<Kind> + k;
  out[0] = first[0];
  out[1] = first[8 * kDepthStride<Kind>];
}

// Fragments of `b` at (k, column): its rows run along the columns of the product, or (`deep`) along the
// contraction like those of `a`.
template <class Kind, bool deep>
FASTKAN_DEVICE void load_right(const uint16_t* b, int k, int column, const Lane& lane, uint32_t (&out)[2]) {
  if constexpr (deep) {
    const uint16_t* const first = b + (column + lane.group) * kDepthStride<Kind> + k + 2 * lane.member;
    out[0] = pair_at(first);
    out[1] = pair_at(first + 8);
  } else {
    load_transposed(out, b + (k + int(threadIdx.x) % 16) * kColumnStride + column);
  }
}
template <class Kind, bool deep>
FASTKAN_DEVICE void load_right(const float* b, int k, int column, const Lane& lane, float (&out)[2]) {
  if constexpr (Kind::step == 1) {
    const int n = column + 2 * lane.member;
    out[0] = deep ? b[n * kDepthStride<Kind> + k] : b[k * kColumnStride + n];
    out[1] = deep ? b[(n + 1) * kDepthStride<Kind> + k] : b[k * kColumnStride + n + 1];
  } else {
    const int n = column + lane.group, row = k + lane.member;
    out[0] = deep ? b[n * kDepthStride<Kind> + row] : b[row * kColumnStride + n];
    out[1] = deep ? b[n * kDepthStride<Kind> + row + 4] : b[(row + 4) * kColumnStride + n];
  }
}

// A thread's part of the product: of blocks [16, 8] of its warp's part, elements as device.h says.
struct Product {
  float sums[kRowBlocks][kColumnBlocks][4];

  FASTKAN_DEVICE void clear() {
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r)
#pragma unroll
      for (int c = 0; c < kColumnBlocks; ++c)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[r][c][e] = 0;
  }

  // body(row, column, sum) for each of its elements, within the tile
  template <class Body>
  FASTKAN_DEVICE void for_each(const Lane& lane, const Body& body) const {
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r)
#pragma unroll
      for (int c = 0; c < kColumnBlocks; ++c)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          body(lane.row + 16 * r + lane.group + e / 2 * 8, lane.column + 8 * c + 2 * lane.member + e % 2,
               sums[r][c][e]);
  }
};

// product += a b over the first `depth` numbers of the contraction; past them, up to a step, both are 0
template <class Kind, bool deep>
FASTKAN_DEVICE void multiply_tiles(const typename Kind::Operand* a, const typename Kind::Operand* b,
                                   int depth, const Lane& lane, Product& product) {
  constexpr bool on_tensor_cores = Kind::step > 1;
  using Register = std::conditional_t<sizeof(typename Kind::Operand) == 2, uint32_t, float>;
  Product apart;
  if constexpr (!on_tensor_cores) apart.clear();
  for (int k = 0; k < depth; k += Kind::step) {
    Register left[kRowBlocks][on_tensor_cores ? 4 : 2];
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) load_left<Kind>(a, lane.row + 16 * r, k, lane, left[r]);
#pragma unroll
    for (int c = 0; c < kColumnBlocks; ++c) {
      Register right[2];
      load_right<Kind, deep>(b, k, lane.column + 8 * c, lane, right);
#pragma unroll
      for (int r = 0; r < kRowBlocks; ++r) {
        if constexpr (on_tensor_cores)
          Kind::multiply(product.sums[r][c], left[r], right);
        else
          Kind::multiply(apart.sums[r][c], left[r], right);
      }
    }
  }
  if constexpr (!on_tensor_cores) {
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r)
#pragma unroll
      for (int c = 0; c < kColumnBlocks; ++c)
#pragma unroll
        for (int e = 0; e < 4; ++e) product.sums[r][c][e] += apart.sums[r][c][e];
  }
}

}  // namespace fastkan
