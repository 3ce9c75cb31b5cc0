// What one call is about: the sizes and choices that all operations share. Plain data: kernels take it by
// value.
#pragma once

#include <cstdint>

#include "activations.h"

namespace fastkan {

constexpr int kMaxDegree = 8;

// Letters as in docs/design.md: x [B, I], weight [I, M, O], knots [I, K]. Slots 0 .. S - 1 are the splines,
// slot S is the base slot.
struct Problem {
  int64_t batch = 0;         // B
  int64_t in_features = 0;   // I
  int64_t out_features = 0;  // O
  int64_t num_knots = 0;     // K = G + 2 p + 1, per input
  int degree = 3;            // p
  Activation activation = Activation::silu;
  int64_t nu = 0;  // derivative order of f_m
  int64_t mu = 0;  // derivative order of f_n, for gram and quadratic only

  FASTKAN_INLINE int64_t splines() const { return num_knots - degree - 1; }  // S
  FASTKAN_INLINE int64_t slots() const { return num_knots - degree; }        // M
};

}  // namespace fastkan
