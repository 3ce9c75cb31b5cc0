// What the host test programs share: a failing check, random numbers, knots, and the definition of a B-spline
// to compare with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "core/splines.h"

namespace fastkan::test {

#define CHECK(condition, ...)                                              \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::printf("%s:%d: %s is false: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                            \
      std::printf("\n");                                                   \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)

inline std::mt19937& generator() {
  static std::mt19937 engine(0);
  return engine;
}

inline double uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator());
}

// One of low .. high
inline int64_t whole(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator());
}

constexpr Activation kActivations[] = {
#define FASTKAN_NAME(name) Activation::name,
    FASTKAN_ACTIVATIONS(FASTKAN_NAME)
#undef FASTKAN_NAME
};

// How large the derivatives of an activation grow. The largest are those of tanh, about nu! / (pi / 2)^nu:
// its poles lie pi / 2 from 0.
inline double derivative_size(Activation activation, int64_t nu) {
  if (activation == Activation::zero) return 0;
  return highest_order(activation) < 0
             ? 1
             : std::max(1.0, std::tgamma(double(nu) + 1) / std::pow(1.5, double(nu)));
}

enum class Spacing { uniform, random, repeated };

// Extended knots over about [-1, 1]; `repeated` has zero-width intervals inside and at both ends.
template <class T>
std::vector<T> make_knots(Spacing spacing, int grid, int degree) {
  const int count = grid + 2 * degree + 1;
  std::vector<T> knots(count);
  for (int k = 0; k < count; ++k) {
    const double even = 2.0 * (k - degree) / grid - 1;
    if (spacing == Spacing::uniform) knots[k] = T(even);
    if (spacing == Spacing::random) knots[k] = T(even + uniform(-0.45, 0.45) * 2 / grid);
    if (spacing == Spacing::repeated) knots[k] = T(std::floor(std::clamp(even, -1.0, 1.0) * 2) / 2);
  }
  return knots;
}

// A number by definition, and the magnitude of the terms it is the sum of: rounding errors are relative to
// that.
struct Definition {
  long double value, magnitude;
};

// Cox-de Boor with 0/0 := 0, and its derivative; slow and without any idea of an interval, but for the
// support outside of which there is nothing to add. `knots` are those from the spline's first on.
template <class T>
Definition spline_by_definition(const T* knots, int degree, int nu, T x) {
  if (nu > degree || !(knots[0] <= x && x < knots[degree + 1])) return {0, 0};
  if (degree == 0) return {1, 1};
  const int lower = nu > 0 ? nu - 1 : 0;
  const auto share = [&](const T* from) {
    const long double width = (long double)(from[degree]) - from[0];
    if (!(width > 0)) return Definition{0, 0};
    const Definition part = spline_by_definition(from, degree - 1, lower, x);
    return Definition{part.value / width, part.magnitude / width};
  };
  const Definition left = share(knots), right = share(knots + 1);
  if (nu > 0) return {degree * (left.value - right.value), degree * (left.magnitude + right.magnitude)};
  const long double rise = (long double)(x)-knots[0], fall = (long double)(knots[degree + 1]) - x;
  return {rise * left.value + fall * right.value,
          std::abs(rise) * left.magnitude + std::abs(fall) * right.magnitude};
}

}  // namespace fastkan::test
