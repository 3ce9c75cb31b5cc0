// The five operations on the CPU. Tensors are contiguous; outputs are written in full, for empty batches too.
// Results do not depend on the number of threads, bit for bit.
#pragma once

#include "../problem.h"

namespace fastkan {

struct Cpu {
  int threads = 1;

  // One thread where all the work takes about 0.1 ms (a basis costs as much as some 64 outputs): waking
  // others would cost a good part of it.
  int threads_for(const Problem& problem) const {
    const double work =
        double(problem.batch) * double(problem.in_features) * double(problem.out_features + 64);
    return work < 1e5 ? 1 : threads;
  }

  // y[b,o] = sum_i r[b,i] sum_m f_m^(nu)(x[b,i]) weight[i,m,o]; row_weight r may be null, here and below: r =
  // 1
  template <class T>
  void forward(const Problem& problem, const T* x, const T* weight, const T* row_weight, const T* knots,
               T* y) const;

  // out[b,i] = sum_m f_m^(nu)(x[b,i]) sum_o weight[i,m,o] g[b,o]
  template <class T>
  void grad_input(const Problem& problem, const T* x, const T* weight, const T* g, const T* knots,
                  T* out) const;

  // out[i,m,o] = sum_b r[b,i] f_m^(nu)(x[b,i]) g[b,o]
  template <class T>
  void grad_weight(const Problem& problem, const T* x, const T* g, const T* row_weight, const T* knots,
                   T* out) const;

  // out[i,m,n] = sum_b r[b,i] f_m^(nu)(x[b,i]) f_n^(mu)(x[b,i])
  template <class T>
  void gram(const Problem& problem, const T* x, const T* row_weight, const T* knots, T* out) const;

  // out[b,i] = sum_{m,n} f_m^(nu)(x[b,i]) f_n^(mu)(x[b,i]) form[i,m,n]
  template <class T>
  void quadratic(const Problem& problem, const T* x, const T* form, const T* knots, T* out) const;
};

}  // namespace fastkan
