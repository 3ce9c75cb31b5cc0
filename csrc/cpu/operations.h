// The operations on the CPU. Tensors are contiguous. Outputs are written in full, for empty batches too.
// Results do not depend on the number of threads, bit for bit. Every thread keeps a workspace until it ends:
// at most kWorkspace bytes, or what one input needs if that is more. Fused gradients of more than 256 rows
// and a small weight also take memory for parts of grad_weight: at most 2^20 numbers in all.
#pragma once

#include "kernels.h"

namespace fastkan {

constexpr size_t kWorkspace = size_t(1) << 20;

// Where a call of fused_gradients writes; null: not wanted.
struct FusedGradients {
  Target input, weight, row_weight, y;
};

struct Cpu {
  int threads = 1;

  // y[b,o] = sum_i r[b,i] sum_m f_m^(nu)(x[b,i]) weight[i,m,o]. row_weight r may be null, here and below: r
  // = 1.
  template <class T>
  void forward(const Problem& problem, Source x, Source weight, Source row_weight, const T* knots,
               Target y) const;

  // The gradients of forward and of grad_input, and forward:
  // input[b,i] = sum_m f_m^(input_nu)(x[b,i]) sum_o weight[i,m,o] g[b,o],
  // weight[i,m,o] = sum_b r[b,i] f_m^(nu)(x[b,i]) g[b,o],
  // row_weight[b,i] = sum_m f_m^(nu)(x[b,i]) sum_o weight[i,m,o] g[b,o], which needs a row_weight,
  // y as in forward.
  template <class T>
  void fused_gradients(const Problem& problem, int64_t input_nu, Source x, Source weight, Source g,
                       Source row_weight, const T* knots, const FusedGradients& out) const;

  // out[i,m,n] = sum_b r[b,i] f_m^(nu)(x[b,i]) f_n^(mu)(x[b,i])
  template <class T>
  void gram(const Problem& problem, Source x, Source row_weight, const T* knots, T* out) const;

  // out[b,i] = sum_{m,n} f_m^(nu)(x[b,i]) f_n^(mu)(x[b,i]) form[i,m,n]
  template <class T>
  void quadratic(const Problem& problem, Source x, const T* form, const T* knots, T* out) const;
};

}  // namespace fastkan
