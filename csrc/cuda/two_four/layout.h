// The layout of the packed weight. A unit holds 16 inputs by 16 outputs: the base slots, then the spline
// slots in blocks of 8. Units lie in order of (outputs / 16, inputs / 16). Inputs, outputs and slots that do
// not exist are 0.
#pragma once

#include <stdint.h>

#include "../../core/problem.h"

namespace fastkan::two_four {

constexpr int kInputs = 16;   // of a unit
constexpr int kOutputs = 16;  // of a unit
constexpr int kSlots = 8;     // of a block
constexpr int kPiece = 16;    // bytes that a lane takes at once, and a copy moves
constexpr int kFragment = 32 * kPiece;
constexpr int kBaseBytes = kFragment;       // one operand b of m16n8k16 for either half of the outputs
constexpr int kBlockBytes = 8 * kFragment;  // operands b of m16n8k32: 4 chunks of 4 inputs, either half

// Slots of one input in the order of an operand's rows: even ones first, then odd ones. Four rows are a
// group, and 4 neighbouring slots put two neighbours into either group: the expanded row is 2:4 sparse.
FASTKAN_INLINE constexpr int64_t slot_blocks(int64_t splines) { return (splines + kSlots - 1) / kSlots; }
FASTKAN_INLINE constexpr int64_t units(int64_t features, int each) { return (features + each - 1) / each; }
FASTKAN_INLINE constexpr int64_t unit_bytes(int64_t blocks) { return kBaseBytes + blocks * kBlockBytes; }

FASTKAN_INLINE constexpr int64_t packed_bytes(int64_t in_features, int64_t splines, int64_t out_features) {
  return units(out_features, kOutputs) * units(in_features, kInputs) * unit_bytes(slot_blocks(splines));
}

}  // namespace fastkan::two_four
