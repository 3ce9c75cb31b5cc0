// How tensors are stored, which need not be the type that computes: 16-bit numbers are widened to float32
// when they are read, and rounded to nearest even when they are written.
#pragma once

#include <stdint.h>
#include <string.h>

#include "inline.h"

namespace fastkan {

enum class Storage { float32, float64, bfloat16, float16 };

FASTKAN_HD int bytes_of(Storage storage) {
  return storage == Storage::float64 ? 8 : storage == Storage::float32 ? 4 : 2;
}

struct Source {
  const void* data = nullptr;
  Storage storage = Storage::float32;
};

struct Target {
  void* data = nullptr;
  Storage storage = Storage::float32;
};

// The storage of a type that computes.
template <class T>
constexpr Storage kStorage = sizeof(T) == 8 ? Storage::float64 : Storage::float32;

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

FASTKAN_HD float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

FASTKAN_HD uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

FASTKAN_HD float widen(float value) { return value; }
FASTKAN_HD double widen(double value) { return value; }
FASTKAN_HD float widen(Bfloat16 value) { return float_of_bits(uint32_t(value.bits) << 16); }
FASTKAN_HD float widen(Float16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000) << 16, rest = value.bits & 0x7fff;
  // exponents move by 112; the product does it, for subnormals too
  const float size = float_of_bits(rest << 13) * float_of_bits(0x77800000);  // 2^112
  const uint32_t bits = bits_of_float(size) | (rest >= 0x7c00 ? 0x7f800000 : 0);
  return float_of_bits(bits | sign);
}

FASTKAN_HD void narrow(float value, float* out) { *out = value; }
FASTKAN_HD void narrow(double value, double* out) { *out = value; }
FASTKAN_HD void narrow(float value, Bfloat16* out) {
  const uint32_t bits = bits_of_float(value);
  out->bits =
      value != value ? uint16_t(bits >> 16 | 0x40) : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
FASTKAN_HD void narrow(float value, Float16* out) {
  const uint32_t bits = bits_of_float(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size >= 0x47800000) {  // 65536 and more, infinity, NaN
    out->bits = uint16_t(sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00));
  } else if (size <
             0x38800000) {  // below 2^-14: adding 1/2 leaves multiples of 2^-24, rounded, in the low bits
    out->bits = uint16_t(sign | (bits_of_float(float_of_bits(size) + 0.5f) - 0x3f000000));
  } else {
    out->bits = uint16_t(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
  }
}

// Calls body with a pointer to the elements. T is the type that computes, and one of the element types.
template <class T, class Body>
FASTKAN_HD void with_elements(const Source& source, const Body& body) {
  if constexpr (sizeof(T) == 4) {
    if (source.storage == Storage::bfloat16) return body(static_cast<const Bfloat16*>(source.data));
    if (source.storage == Storage::float16) return body(static_cast<const Float16*>(source.data));
  }
  body(static_cast<const T*>(source.data));
}

template <class T, class Body>
FASTKAN_HD void with_elements(const Target& target, const Body& body) {
  if constexpr (sizeof(T) == 4) {
    if (target.storage == Storage::bfloat16) return body(static_cast<Bfloat16*>(target.data));
    if (target.storage == Storage::float16) return body(static_cast<Float16*>(target.data));
  }
  body(static_cast<T*>(target.data));
}

}  // namespace fastkan
