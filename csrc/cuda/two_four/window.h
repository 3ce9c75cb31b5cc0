// The four cubic B-splines alive at x as a 2:4 sparse operand: the values of one group of even and one of odd
// slots, and where in their groups they stand.
#pragma once

#include <cmath>

#include "../../core/storage.h"
#include "../device.h"

namespace fastkan::two_four {

FASTKAN_DEVICE uint32_t pack(float low, float high, Float16) { return pack_float16(low, high); }
FASTKAN_DEVICE uint32_t pack(float low, float high, Bfloat16) { return pack_bfloat16(low, high); }
FASTKAN_DEVICE float value_of(float value) { return value; }
FASTKAN_DEVICE float value_of(Bfloat16 value) { return widen(value); }
FASTKAN_DEVICE float value_of(Float16 value) { return float16_value(value.bits); }

// A window is the 4 neighbouring slots first .. first + 3 of which a block has those within 0 .. 7. Its even
// slots are 2 e, 2 e + 2 with e = (first + 1) / 2, its odd ones 2 o + 1, 2 o + 3 with o = first / 2, both
// clamped to 0 .. 2: past the ends of the block, slots that are not in the window hold 0.
struct Window {
  uint32_t even, odd;  // pairs of values
  uint32_t place;      // first, clamped to 0 .. 4, in the low 16 bits
};

// Which bytes of (w0, w2) and (w1, w3) make the pairs `even` (low half) and `odd` of the window that begins
// at `lane` or `lane` - 32. Nibble 0xb repeats the sign of w2, which is positive: a byte of 0.
FASTKAN_DEVICE uint32_t window_bytes(int lane) {
  const int first = lane < 16 ? lane : lane - 32;
  const int place = first < 0 ? 0 : first > 4 ? 4 : first, e = (place + 1) / 2, o = place / 2;
  const int slots[4] = {2 * e, 2 * e + 2, 2 * o + 1, 2 * o + 3};
  uint32_t selector = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const auto w = uint32_t(slots[k] - first);  // 0 .. 3 within the window
    selector |= (w < 4 ? 0x10 + 0x22 * (w / 2) + 0x44 * (w % 2) : 0xbb) << 8 * k;
  }
  return selector;
}

// position = (x - start of the grid) / h - 3.5 - the block's first slot; `bytes` = window_bytes(lane) of
// every lane. A NaN has some window here, and its base slot is NaN.
template <class Operand>
FASTKAN_DEVICE Window window_at(float position, uint32_t bytes) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  position = fminf(fmaxf(position, -3.75f), 8.25f);
  const float rounded = position + kRound, first = rounded - kRound;
  const float t = (position + 0.5f) - first, q = 1.0f - t;  // both in [0, 1]: a tie may give 1 for 0
  const float t2 = t * t, q2 = q * q;
  const float w0 = q2 * (q * (1.0f / 6)), w3 = t2 * (t * (1.0f / 6));
  const float w1 = fmaf(t2, fmaf(0.5f, t, -1.0f), 2.0f / 3), w2 = fmaf(q2, fmaf(0.5f, q, -1.0f), 2.0f / 3);
  const uint32_t outer = pack(w0, w2, Operand()), inner = pack(w1, w3, Operand());
  const uint32_t selector = __shfl_sync(0xffffffffu, bytes, int(bits_of_float(rounded) & 31));
  Window window;
  window.even = permute_bytes(outer, inner, selector);
  window.odd = permute_bytes(outer, inner, selector >> 16);
  window.place = bits_of_float(fminf(fmaxf(first, 0.0f), 4.0f) + kRound);
  return window;
}

// Metadata of mma.sp with selector 0: lane 4 g + 0 has groups 0 .. 3, lane 4 g + 1 groups 4 .. 7 of rows g
// (low half) and g + 8, a nibble a group: 5 e + 4 for elements e and e + 1. Group t is even slots of lane t's
// input, group 4 + t its odd ones.
class Metadata {
 public:
  FASTKAN_DEVICE explicit Metadata(int lane) : shift_(4 * (lane & 3)) {
    const uint32_t one = 0x00010001u << shift_;
    kept_ = lane & 1 ? 0 : one;  // even lanes keep e = (first + 1) / 2, odd ones first / 2, ...
    sent_ = one - kept_;         // ... and send the other to their neighbour
    mask_ = 6 * one;             // 2 e
  }

  FASTKAN_DEVICE uint32_t word(const Window& low, const Window& high) const {
    const uint32_t place = permute_bytes(low.place, high.place, 0x5410) << shift_;
    uint32_t doubled = (place + kept_) & mask_;
    doubled |= __shfl_xor_sync(0xffffffffu, (place + sent_) & mask_, 1);
    doubled |= __shfl_xor_sync(0xffffffffu, doubled, 2);
    return (doubled >> 1) * 5 + 0x44444444u;
  }

 private:
  uint32_t shift_, kept_, sent_, mask_;
};

}  // namespace fastkan::two_four
