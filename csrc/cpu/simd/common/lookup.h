// With AVX-512 a table lies in registers, and every lane reads its own entry.
#pragma once

#include "vector.h"

#if FASTKAN_VECTOR_BYTES == 64 && defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace fastkan {
namespace FASTKAN_ISA {

#if FASTKAN_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define FASTKAN_LOOKUP 1
template <class T>
constexpr int kEntries = 2 * kLanes<T>;

// N registers; entries are counted modulo their number, so -1 is the last one.
template <class T, int N>
struct Table {
  static constexpr int size = N * kLanes<T>;
  Lanes<T> parts[N];

  FASTKAN_INLINE explicit Table(const T* entries) {
    for (int n = 0; n < N; ++n) parts[n] = load(entries + n * kLanes<T>);
  }
  FASTKAN_INLINE Lanes<T> at(Mask<T> entry) const {
    const __m512i at = __m512i(entry);
    if constexpr (N == 2) {
      if constexpr (sizeof(T) == 4)
        return Lanes<T>(_mm512_permutex2var_ps(__m512(parts[0]), at, __m512(parts[1])));
      else
        return Lanes<T>(_mm512_permutex2var_pd(__m512d(parts[0]), at, __m512d(parts[1])));
    } else if constexpr (sizeof(T) == 4) {
      return Lanes<T>(_mm512_permutexvar_ps(at, __m512(parts[0])));
    } else {
      return Lanes<T>(_mm512_permutexvar_pd(at, __m512d(parts[0])));
    }
  }
};

template <class T>
FASTKAN_HD Mask<T> lane_numbers() {
  Mask<T> numbers{};
  for (int k = 0; k < kLanes<T>; ++k) numbers[k] = k;
  return numbers;
}

// Every lane from one of up to 8 vectors, an entry of it.
template <class T>
class Pick {
 public:
  Pick(Mask<T> vector, Mask<T> entry, int vectors) : entry_(entry), vectors_(vectors) {
    for (int v = 0; v < vectors; ++v) {
      const Mask<T> here = vector == v;
      if constexpr (sizeof(T) == 4)
        lanes_[v] = _mm512_movepi32_mask(__m512i(here));
      else
        lanes_[v] = _mm512_movepi64_mask(__m512i(here));
    }
  }
  FASTKAN_INLINE Lanes<T> operator()(const T* from, int64_t stride) const {
    Lanes<T> picked{};
    for (int v = 0; v < vectors_; ++v) {
      const Lanes<T> own = load(from + v * stride);
      if constexpr (sizeof(T) == 4)
        picked = Lanes<T>(
            _mm512_mask_permutexvar_ps(__m512(picked), __mmask16(lanes_[v]), __m512i(entry_), __m512(own)));
      else
        picked = Lanes<T>(
            _mm512_mask_permutexvar_pd(__m512d(picked), __mmask8(lanes_[v]), __m512i(entry_), __m512d(own)));
    }
    return picked;
  }

 private:
  Mask<T> entry_;
  int vectors_;
  uint16_t lanes_[8];
};
#else
template <class T>
constexpr int kEntries = 0;
#endif

}  // namespace FASTKAN_ISA
}  // namespace fastkan
