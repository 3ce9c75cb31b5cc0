// For the roofline of `python -m fastkan profile`: what this machine does at most, and what the kernels do.
#pragma once

#include "kernels.h"

namespace fastkan {

// Work is in FLOPs (a multiply-add is two) or in bytes. Every thread times its own part, for on a busy
// machine one waits milliseconds for the other; per_second is the sum of their rates.
template <class Result>
struct Measured {
  Result result;
  int64_t work;
  double per_second;
};

// Every thread takes `steps` steps of simd/peaks.h. The result is the total of all their sums.
template <class T>
Measured<double> multiply_add_loop(int64_t steps, T factor, T term, int threads);

// Every thread reads its part of the words `passes` times. The result is the sum of all words read, modulo
// 2^32.
Measured<uint32_t> read_loop(const uint32_t* words, int64_t count, int64_t passes, int threads);

// The multiplications that a call makes with x on the grid, multiply-adds included: both keep a multiplier
// busy, an addition alone does not. Of the evaluation those of the splines; neither the activation nor
// vectors that only rows of one interval fill are counted, so the kernels make a few more.
template <class T>
int64_t forward_multiplications(const Problem& problem);
// Of the gradients of input and weight together
template <class T>
int64_t fused_gradients_multiplications(const Problem& problem);

}  // namespace fastkan
