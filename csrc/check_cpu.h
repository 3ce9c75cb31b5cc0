// What the bindings of backend cpu check alike.
#pragma once

#include "check.h"
#include "cpu/cpu.h"

namespace fastkan {

inline Cpu make_backend(int64_t threads) { return {int(checked("threads", threads, 1, 1024))}; }

// Intervals, and one number more for the rows outside, are kept in 16 bit while rows are sorted.
constexpr int64_t kMostKnots = 65536;

inline Problem checked_cpu_problem(int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree, Name base,
                                   int64_t nu, int64_t mu) {
  if (K > kMostKnots)
    refuse("num_knots", "at most " + std::to_string(kMostKnots) + " for backend cpu", std::to_string(K));
  return checked_problem(B, I, O, K, degree, base, nu, mu);
}

}  // namespace fastkan
