// What the host test programs share: a failing check, knots, and the definition of a B-spline to compare
// with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "basis.h"

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

// The definition, Cox-de Boor with 0/0 := 0, and its derivative; slow and without any idea of an interval.
template <class T>
double spline_by_definition(const std::vector<T>& knots, int degree, int nu, int m, double x) {
  if (nu > degree) return 0;
  if (degree == 0) return knots[m] <= x && x < knots[m + 1] ? 1 : 0;
  const double left = double(knots[m + degree]) - knots[m],
               right = double(knots[m + degree + 1]) - knots[m + 1];
  const int lower = nu > 0 ? nu - 1 : 0;
  const double first = left > 0 ? spline_by_definition(knots, degree - 1, lower, m, x) / left : 0;
  const double second = right > 0 ? spline_by_definition(knots, degree - 1, lower, m + 1, x) / right : 0;
  return nu > 0 ? degree * (first - second) : (x - knots[m]) * first + (knots[m + degree + 1] - x) * second;
}

}  // namespace fastkan::test
