// What one call is about: sizes and choices shared by every operation. Plain data, so that a kernel takes it
// by value.
#pragma once

#include <cstdint>

// FASTKAN_HD marks the formulas that CUDA shares, and FASTKAN_INLINE members of shared types. On the host
// both are local to their object file: csrc/cpu/isa is compiled for several instruction sets, and an inline
// function that the linker merged across them could run AVX-512 on a machine without it.
// FASTKAN_INLINE_LAMBDA stands after a lambda's parameters.
#if defined(__GNUC__)
#define FASTKAN_INLINE_LAMBDA __attribute__((always_inline))
#else
#define FASTKAN_INLINE_LAMBDA
#endif
#if defined(__CUDACC__)
#define FASTKAN_INLINE __host__ __device__
#define FASTKAN_HD inline FASTKAN_INLINE
#elif defined(__GNUC__)
#define FASTKAN_INLINE inline __attribute__((always_inline))
#define FASTKAN_HD static FASTKAN_INLINE
#else
#define FASTKAN_INLINE __forceinline
#define FASTKAN_HD static FASTKAN_INLINE
#endif

namespace fastkan {

constexpr int kMaxDegree = 8;

enum class Base { silu, gelu, tanh, identity, zero, relu };

// Letters as in docs/design.md: x [B, I], weight [I, M, O], knots [I, K]; slots 0..S-1 are splines, slot S is
// the base.
struct Problem {
  int64_t batch = 0;         // B
  int64_t in_features = 0;   // I
  int64_t out_features = 0;  // O
  int64_t num_knots = 0;     // K = G + 2 p + 1, per input
  int degree = 3;            // p
  Base base = Base::silu;
  int64_t nu = 0;  // derivative order of f_m
  int64_t mu = 0;  // derivative order of f_n, for gram and quadratic only

  FASTKAN_INLINE int64_t splines() const { return num_knots - degree - 1; }  // S
  FASTKAN_INLINE int64_t slots() const { return num_knots - degree; }        // M
};

}  // namespace fastkan
