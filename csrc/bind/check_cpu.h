// Checks that the bindings of backend cpu share.
#pragma once

#include "../cpu/operations.h"
#include "check.h"

namespace fastkan {

inline Cpu make_backend(int64_t threads) { return {int(checked("threads", threads, 1, 1024))}; }

// While rows are sorted, their intervals are numbers of 16 bit; one number more stands for rows outside.
constexpr int64_t kMostKnots = 65536;

inline Problem checked_cpu_problem(int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree,
                                   Name activation, int64_t nu, int64_t mu) {
  if (K > kMostKnots)
    refuse("num_knots", "at most " + std::to_string(kMostKnots) + " for backend cpu", std::to_string(K));
  return checked_problem(B, I, O, K, degree, activation, nu, mu);
}

}  // namespace fastkan
