// The five operations on an NVIDIA GPU. cpu/operations.h says what they compute. Pointers are device
// pointers; calls return once the kernels are in the stream. Deterministic: every sum has one fixed order,
// without atomics.
#pragma once

#include <string>

#include "../core/problem.h"
#include "../core/storage.h"

namespace fastkan {

// A sum over rows that would keep few threads busy is split: each split has a result of its own in `parts`,
// and these are added up.
struct Splits {
  int count = 1;
  int64_t rows = 0;  // of each, but perhaps the last
};

struct Cuda {
  int device = 0;
  void* stream = nullptr;  // a cudaStream_t of that device
  bool tf32 = false;       // whether float32 may be multiplied as TF32

  template <class T>
  void forward(const Problem& problem, Source x, Source weight, Source row_weight, const T* knots,
               Target y) const;

  template <class T>
  void grad_input(const Problem& problem, Source x, Source weight, Source g, const T* knots,
                  Target out) const;

  // parts: as many numbers as grad_weight_splits() says results, where that is more than one
  template <class T>
  void grad_weight(const Problem& problem, Source x, Source g, Source row_weight, const T* knots, T* parts,
                   Target out) const;

  template <class T>
  void gram(const Problem& problem, Source x, Source row_weight, const T* knots, T* parts, T* out) const;

  template <class T>
  void quadratic(const Problem& problem, Source x, const T* form, const T* knots, T* out) const;

  static Splits grad_weight_splits(const Problem& problem);
  static Splits gram_splits(const Problem& problem);

  // Empty if kernels can be launched here, else why not (runtime.cu).
  static std::string unavailable_reason();
};

}  // namespace fastkan
