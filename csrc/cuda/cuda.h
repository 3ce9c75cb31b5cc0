// The five operations on an NVIDIA GPU; what they compute is written down in cpu/cpu.h. Pointers are device
// pointers, calls return once the kernel is in the stream. Deterministic: one thread an output element, fixed
// order of summation, no atomics.
#pragma once

#include <string>

#include "../problem.h"

namespace fastkan {

struct Cuda {
  int device = 0;
  void* stream = nullptr;  // a cudaStream_t of that device

  template <class T>
  void forward(const Problem& problem, const T* x, const T* weight, const T* row_weight, const T* knots,
               T* y) const;

  template <class T>
  void grad_input(const Problem& problem, const T* x, const T* weight, const T* g, const T* knots,
                  T* out) const;

  template <class T>
  void grad_weight(const Problem& problem, const T* x, const T* g, const T* row_weight, const T* knots,
                   T* out) const;

  template <class T>
  void gram(const Problem& problem, const T* x, const T* row_weight, const T* knots, T* out) const;

  template <class T>
  void quadratic(const Problem& problem, const T* x, const T* form, const T* knots, T* out) const;

  // Empty if kernels can be launched here, else why not.
  static std::string unavailable_reason();
};

}  // namespace fastkan
