// Vectors of FASTKAN_VECTOR_BYTES in the compiler's own vector extension (GCC, Clang), and single values
// where that is 0: the same kernels then serve any compiler. Everything here and in the files beside it lives
// in a namespace of the instruction set it is compiled for.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../../../core/problem.h"

namespace fastkan {
namespace FASTKAN_ISA {

#if FASTKAN_VECTOR_BYTES > 0
template <class T>
constexpr int kLanes = FASTKAN_VECTOR_BYTES / int(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef uint32_t Bits __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
  typedef float Type __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
  typedef int32_t Mask __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef uint64_t Bits __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
  typedef double Type __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
  typedef int64_t Mask __attribute__((vector_size(FASTKAN_VECTOR_BYTES)));
};
template <class T>
using Lanes = typename VectorOf<T>::Type;
template <class T>
using Mask = typename VectorOf<T>::Mask;  // -1 or 0 a lane; also lanes of whole numbers

template <class T>
FASTKAN_HD T lane(Lanes<T> v, int k) {
  return v[k];
}
template <class T>
FASTKAN_HD void set_lane(Lanes<T>& v, int k, T value) {
  v[k] = value;
}
template <class T>
FASTKAN_HD void store_intervals(uint16_t* p, Mask<T> v) {
  typedef uint16_t Short __attribute__((vector_size(2 * kLanes<T>)));
  const Short narrow = __builtin_convertvector(v, Short);
  memcpy(p, &narrow, sizeof narrow);
}
#else
template <class T>
constexpr int kLanes = 1;
template <class T>
using Lanes = T;
template <class T>
using Mask = int64_t;

template <class T>
FASTKAN_HD T lane(T v, int) {
  return v;
}
template <class T>
FASTKAN_HD void set_lane(T& v, int, T value) {
  v = value;
}
template <class T>
FASTKAN_HD void store_intervals(uint16_t* p, int64_t v) {
  *p = uint16_t(v);
}
#endif

template <class T>
FASTKAN_HD Lanes<T> load(const T* p) {
  Lanes<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
FASTKAN_HD void store(T* p, Lanes<T> v) {
  memcpy(p, &v, sizeof v);
}

template <class T>
FASTKAN_HD Lanes<T> broadcast(T value) {
  return value - Lanes<T>{};  // x - 0 is x, for -0 too
}

// sums[k] += the sum of the lanes of v[k], k = 0..3: halves are added to halves until one lane is left.
#if FASTKAN_VECTOR_BYTES > 0 && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTKAN_SHUFFLES 1
#endif
#endif
#ifdef FASTKAN_SHUFFLES
template <class T>
FASTKAN_HD void add_sums(const Lanes<T>* v, T* sums) {
  Lanes<T> total;
  constexpr int n = kLanes<T>;
  if constexpr (n == 16) {
#define FASTKAN_FOLD(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    const Lanes<T> low =
        FASTKAN_FOLD(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        FASTKAN_FOLD(v[0], v[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    const Lanes<T> high =
        FASTKAN_FOLD(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        FASTKAN_FOLD(v[2], v[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    total = FASTKAN_FOLD(low, high, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
            FASTKAN_FOLD(low, high, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    total += FASTKAN_FOLD(total, total, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    total += FASTKAN_FOLD(total, total, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  } else if constexpr (n == 8) {
    const Lanes<T> low = FASTKAN_FOLD(v[0], v[1], 0, 1, 2, 3, 8, 9, 10, 11) +
                         FASTKAN_FOLD(v[0], v[1], 4, 5, 6, 7, 12, 13, 14, 15);
    const Lanes<T> high = FASTKAN_FOLD(v[2], v[3], 0, 1, 2, 3, 8, 9, 10, 11) +
                          FASTKAN_FOLD(v[2], v[3], 4, 5, 6, 7, 12, 13, 14, 15);
    total = FASTKAN_FOLD(low, high, 0, 1, 4, 5, 8, 9, 12, 13) +
            FASTKAN_FOLD(low, high, 2, 3, 6, 7, 10, 11, 14, 15);
    total += FASTKAN_FOLD(total, total, 1, 0, 3, 2, 5, 4, 7, 6);
  } else if constexpr (n == 4) {
    const Lanes<T> low = FASTKAN_FOLD(v[0], v[1], 0, 1, 4, 5) + FASTKAN_FOLD(v[0], v[1], 2, 3, 6, 7);
    const Lanes<T> high = FASTKAN_FOLD(v[2], v[3], 0, 1, 4, 5) + FASTKAN_FOLD(v[2], v[3], 2, 3, 6, 7);
    total = FASTKAN_FOLD(low, high, 0, 2, 4, 6) + FASTKAN_FOLD(low, high, 1, 3, 5, 7);
  } else {
    for (int k = 0; k < 4; ++k) sums[k] += v[k][0] + v[k][1];
    return;
#undef FASTKAN_FOLD
  }
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));
  constexpr int step = n > 4 ? n / 4 : 1;
  Four four;
  memcpy(&four, sums, sizeof four);
  if constexpr (n >= 4) four += __builtin_shufflevector(total, total, 0, step, 2 * step, 3 * step);
  memcpy(sums, &four, sizeof four);
}
#else
template <class T>
FASTKAN_HD void add_sums(const Lanes<T>* v, T* sums) {
  for (int k = 0; k < 4; ++k) {
    T sum = lane<T>(v[k], 0);
    for (int q = 1; q < kLanes<T>; ++q) sum += lane<T>(v[k], q);
    sums[k] += sum;
  }
}
#endif

#if defined(FASTKAN_SHUFFLES) && FASTKAN_VECTOR_BYTES == 64
// Lane c of vector r becomes lane r of vector c.
template <class T>
FASTKAN_HD void transpose_lanes(Lanes<T> (&a)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
  Lanes<T> b[n];
  if constexpr (n == 16) {
    for (int r = 0; r < 8; ++r) {
      b[r] = __builtin_shufflevector(a[r], a[r + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
      b[r + 8] = __builtin_shufflevector(a[r], a[r + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29,
                                         30, 31);
    }
    for (int g = 0; g < 16; g += 8)
      for (int r = g; r < g + 4; ++r) {
        a[r] =
            __builtin_shufflevector(b[r], b[r + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        a[r + 4] = __builtin_shufflevector(b[r], b[r + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29,
                                           30, 31);
      }
    for (int g = 0; g < 16; g += 4)
      for (int r = g; r < g + 2; ++r) {
        b[r] =
            __builtin_shufflevector(a[r], a[r + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        b[r + 2] = __builtin_shufflevector(a[r], a[r + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15,
                                           30, 31);
      }
    for (int g = 0; g < 16; g += 2) {
      a[g] =
          __builtin_shufflevector(b[g], b[g + 1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
      a[g + 1] =
          __builtin_shufflevector(b[g], b[g + 1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
  } else {
    for (int r = 0; r < 4; ++r) {
      b[r] = __builtin_shufflevector(a[r], a[r + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      b[r + 4] = __builtin_shufflevector(a[r], a[r + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int g = 0; g < 8; g += 4)
      for (int r = g; r < g + 2; ++r) {
        a[r] = __builtin_shufflevector(b[r], b[r + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        a[r + 2] = __builtin_shufflevector(b[r], b[r + 2], 2, 3, 10, 11, 6, 7, 14, 15);
      }
    for (int g = 0; g < 8; g += 2) {
      b[g] = __builtin_shufflevector(a[g], a[g + 1], 0, 8, 2, 10, 4, 12, 6, 14);
      b[g + 1] = __builtin_shufflevector(a[g], a[g + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int r = 0; r < n; ++r) a[r] = b[r];
  }
}
#endif

// dst[c * dst_stride + r] = src[r * src_stride + c] for a square of kLanes rows and columns.
template <class T>
FASTKAN_HD void transpose_square(const T* src, int64_t src_stride, T* dst, int64_t dst_stride) {
  constexpr int n = kLanes<T>;
#if defined(FASTKAN_SHUFFLES) && FASTKAN_VECTOR_BYTES == 64
  Lanes<T> a[n];
  for (int r = 0; r < n; ++r) a[r] = load<T>(src + r * src_stride);
  transpose_lanes<T>(a);
  for (int r = 0; r < n; ++r) store<T>(dst + r * dst_stride, a[r]);
#else
  for (int r = 0; r < n; ++r)
    for (int c = 0; c < n; ++c) dst[c * dst_stride + r] = src[r * src_stride + c];
#endif
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
