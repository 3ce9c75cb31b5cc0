// Tensor cores: 32 lanes bring their fragments, the last one to come multiplies. The fragments are those of
// the PTX manual, the sums are in float32.
#pragma once

#include <cmath>
#include <cstdint>

#include "emulated_block.h"

namespace fastkan {
namespace emulated {

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

struct BFloat16 {
  static float decode(uint32_t bits) { return float_of(bits << 16); }
  static uint32_t encode(float value) {  // to nearest, ties to even
    const uint32_t bits = bits_of(value);
    return value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }
};

struct Float16 {
  static float decode(uint32_t bits) {
    const uint32_t sign = (bits & 0x8000) << 16, magnitude = (bits & 0x7fff) << 13;
    if (magnitude >= 0x1f << 23) return float_of(sign | magnitude | 0xff << 23);
    return float_of(sign | bits_of(float_of(magnitude) * 0x1p112f));
  }
  static uint32_t encode(float value) {  // to nearest, ties to even
    if (value != value) return 0x7fff;
    const uint32_t sign = bits_of(value) >> 16 & 0x8000, bits = bits_of(value) & 0x7fffffff;
    const float magnitude = float_of(bits);
    if (magnitude >= 65520) return sign | 0x7c00;
    // below 2^-14 float32's own addition rounds to multiples of 2^-24
    if (magnitude < 0x1p-14f) return sign | (bits_of(magnitude + 0.5f) - bits_of(0.5f));
    return sign | (bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13;
  }
};

template <class Half>
uint32_t pack(float low, float high) {
  return Half::encode(low) | Half::encode(high) << 16;
}

// a [16, K] keeps 16 (or 8) columns a row, and which ones of K they are; b [K, 8].
struct Operands {
  int kept;
  float a[16][16];
  unsigned char column[16][16];
  float b[32][8];

  float sum(int row, int n, float start) const {
    for (int j = 0; j < kept; ++j) start += a[row][j] * b[column[row][j]][n];  // products are exact
    return start;
  }
};

struct Fragments {
  float* d;
  const uint32_t *a, *b;
  uint32_t metadata;
};

// Two numbers a register: register r of a holds row g + 8 (r % 2), columns 8 (r / 2) + 2t and the next; that
// of b rows 8r + 2t and the next, column g.
template <class Half>
void take_halves(Operands& all, const Fragments& own, int lane, int b_registers) {
  const int g = lane / 4, t = lane % 4;
  for (int r = 0; r < 4; ++r)
    for (int half = 0; half < 2; ++half)
      all.a[g + 8 * (r % 2)][8 * (r / 2) + 2 * t + half] = Half::decode(own.a[r] >> 16 * half & 0xffff);
  for (int r = 0; r < b_registers; ++r)
    for (int half = 0; half < 2; ++half)
      all.b[8 * r + 2 * t + half][g] = Half::decode(own.b[r] >> 16 * half & 0xffff);
}

// One TF32 a register: a's holds row g + 8 (r % 2), column t + 4 (r / 2); b's row t + 4r, column g.
inline void take_tf32(Operands& all, const Fragments& own, int lane) {
  const int g = lane / 4, t = lane % 4;
  for (int r = 0; r < 4; ++r) all.a[g + 8 * (r % 2)][t + 4 * (r / 2)] = float_of(own.a[r]);
  for (int r = 0; r < 2; ++r) all.b[t + 4 * r][g] = float_of(own.b[r]);
}

// Of a number that is NaN (as memory is that nobody has written) or has been rounded to TF32.
inline uint32_t tf32_bits(float value, Site site) {
  const uint32_t bits = bits_of(value);
  if (value == value && bits & 0x1fff)
    current().block->fail("mma_tf32: an operand is not TF32 at " + site.text());
  return bits;
}

inline void all_columns(Operands& all) {
  for (auto& row : all.column)
    for (int j = 0; j < 16; ++j) row[j] = (unsigned char)(j);
}

// Lane 4g + t with t < 2 says which columns of 16t .. 16t + 15 the rows g (low half) and g + 8 keep: two of
// every four, two bits each, the first one low and the lesser.
inline bool take_metadata(Operands& all, uint32_t metadata, int lane) {
  const int g = lane / 4, t = lane % 4;
  for (int group = 0; t < 2 && group < 8; ++group) {
    const uint32_t pair = metadata >> 4 * group & 15;
    if ((pair & 3) >= pair >> 2) return false;
    for (int k = 0; k < 2; ++k)
      all.column[g + 8 * (group / 4)][8 * t + 2 * (group % 4) + k] =
          (unsigned char)(16 * t + 4 * (group % 4) + (pair >> 2 * k & 3));
  }
  return true;
}

// d += a b, with take(all, own, lane) for each lane first.
template <class Take>
void multiply(const char* what, Site site, int kept, Fragments own, const Take& take) {
  current().block->meet(false, ~0u, what, site, false, &own, [&](const std::vector<void*>& brought) {
    Operands all;
    all.kept = kept;
    all_columns(all);
    for (int lane = 0; lane < 32; ++lane)
      take(all, *static_cast<const Fragments*>(brought[size_t(lane)]), lane);
    for (int lane = 0; lane < 32; ++lane)
      for (int q = 0; q < 4; ++q) {
        float& d = static_cast<const Fragments*>(brought[size_t(lane)])->d[q];
        d = all.sum(lane / 4 + 8 * (q / 2), 2 * (lane % 4) + q % 2, d);
      }
  });
}

template <class Half>
void multiply_contiguous(const char* what, Site site, float (&d)[4], const uint32_t (&a)[4],
                         const uint32_t (&b)[2]) {
  multiply(what, site, 16, {d, a, b, 0},
           [](Operands& all, const Fragments& own, int lane) { take_halves<Half>(all, own, lane, 2); });
}

template <class Half>
void multiply_two_four(const char* what, Site site, float (&d)[4], const uint32_t (&a)[4],
                       const uint32_t (&b)[4], uint32_t metadata) {
  multiply(what, site, 16, {d, a, b, metadata}, [&](Operands& all, const Fragments& own, int lane) {
    take_halves<Half>(all, own, lane, 4);
    if (!take_metadata(all, own.metadata, lane))
      current().block->fail(std::string(what) + ": metadata of lane " + std::to_string(lane) +
                            " not in order at " + site.text());
  });
}

}  // namespace emulated

inline uint32_t pack_float16(float low, float high) { return emulated::pack<emulated::Float16>(low, high); }
inline uint32_t pack_bfloat16(float low, float high) { return emulated::pack<emulated::BFloat16>(low, high); }
inline float float16_value(uint16_t bits) { return emulated::Float16::decode(bits); }
inline float tf32(float value) {  // to nearest, ties away from zero
  const uint32_t bits = emulated::bits_of(value);
  if (value != value) return emulated::float_of(0x7fffe000);
  return std::isinf(value) ? value : emulated::float_of((bits + 0x1000) & ~0x1fffu);
}

inline void mma_float16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        emulated::Site site = emulated::Site::here()) {
  emulated::multiply_contiguous<emulated::Float16>("mma_float16", site, d, a, b);
}
inline void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         emulated::Site site = emulated::Site::here()) {
  emulated::multiply_contiguous<emulated::BFloat16>("mma_bfloat16", site, d, a, b);
}
inline void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2],
                     emulated::Site site = emulated::Site::here()) {
  uint32_t a_bits[4], b_bits[2];
  for (int r = 0; r < 4; ++r) a_bits[r] = emulated::tf32_bits(a[r], site);
  for (int r = 0; r < 2; ++r) b_bits[r] = emulated::tf32_bits(b[r], site);
  emulated::multiply("mma_tf32", site, 8, {d, a_bits, b_bits, 0}, emulated::take_tf32);
}
inline void mma_two_four_float16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                 uint32_t metadata, emulated::Site site = emulated::Site::here()) {
  emulated::multiply_two_four<emulated::Float16>("mma_two_four_float16", site, d, a, b, metadata);
}
inline void mma_two_four_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                  uint32_t metadata, emulated::Site site = emulated::Site::here()) {
  emulated::multiply_two_four<emulated::BFloat16>("mma_two_four_bfloat16", site, d, a, b, metadata);
}

}  // namespace fastkan
