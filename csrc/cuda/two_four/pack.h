// The weight in the order in which mma.sp and mma take their operands b: what layout.h says, once per weight.
#pragma once

#include "layout.h"
#include "window.h"

namespace fastkan::two_four {

struct alignas(kPiece) Piece {
  uint32_t word[4];
};

// weight [in_features, splines + 1, out_features]
struct Sizes {
  int64_t in_features, splines, out_features;

  FASTKAN_INLINE int64_t pieces() const { return packed_bytes(in_features, splines, out_features) / kPiece; }
};

// Where a number of the packed weight comes from.
struct Origin {
  int64_t input, slot, output;
};

// Half `high` of a word of a lane's piece: row 8 r + 2 (lane mod 4) + high of an operand, column lane / 4.
// The base fragment has the two registers of m16n8k16 for either 8 outputs; rows 2 t, 2 t + 1, 2 t + 8, 2 t +
// 9 are inputs 4 t .. 4 t + 3. A spline fragment has the four registers of m16n8k32 for 8 outputs; chunk c
// has inputs c, c + 4, c + 8, c + 12, rows 4 k .. 4 k + 3 the even slots of input k, 16 + 4 k .. the odd
// ones.
FASTKAN_DEVICE Origin origin(const Sizes& sizes, int64_t unit, int fragment, int lane, int word, int high) {
  const int64_t input_units = units(sizes.in_features, kInputs);
  const int column = lane / 4, t = lane % 4;
  Origin at = {unit % input_units * kInputs, 0, unit / input_units * kOutputs + column};
  if (fragment == 0) {
    at.input += 4 * t + 2 * (word % 2) + high;
    at.slot = sizes.splines;
    at.output += 8 * (word / 2);
    return at;
  }
  const int block = (fragment - 1) / 8, chunk = (fragment - 1) / 2 % 4, half = (fragment - 1) % 2;
  const int row = 8 * word + 2 * t + high;
  at.input += 4 * (row / 4 % 4) + chunk;
  at.slot = kSlots * block + 2 * (row % 4) + row / 16;
  at.output += 8 * half;
  if (at.slot >= sizes.splines) at.input = sizes.in_features;  // not the base slot behind them
  return at;
}

// One thread a piece.
template <class From, class Operand>
FASTKAN_KERNEL(256)
pack_weight(const From* weight, Piece* packed, const Sizes sizes) {
  const int64_t index = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (index >= sizes.pieces()) return;
  const int64_t pieces = unit_bytes(slot_blocks(sizes.splines)) / kPiece, unit = index / pieces;
  const int fragment = int(index % pieces / 32), lane = int(index % 32);
  Piece piece;
  for (int word = 0; word < 4; ++word) {
    Operand pair[2];
    for (int high = 0; high < 2; ++high) {
      const Origin at = origin(sizes, unit, fragment, lane, word, high);
      const bool there = at.input < sizes.in_features && at.output < sizes.out_features;
      const int64_t row = at.input * (sizes.splines + 1) + at.slot;
      narrow(there ? widen(weight[row * sizes.out_features + at.output]) : 0.0f, &pair[high]);
    }
    piece.word[word] = pair[0].bits | uint32_t(pair[1].bits) << 16;
  }
  packed[index] = piece;
}

}  // namespace fastkan::two_four
