// A stack of layers in one call: the output of each is the input of the next. For small networks, where a
// call from Python costs more than its work. Tensors are contiguous and of type T; derivative orders are 0.
// The sums are those of single layers, bit for bit.
#pragma once

#include <vector>

#include "operations.h"

namespace fastkan {

template <class T>
struct StackLayer {
  Problem problem;
  const T *x, *weight, *knots;
  const T* bias;  // or null
  T* y;
};

template <class T>
struct StackLayerGradients {
  Problem problem;
  const T *x, *weight, *knots;
  const T* g;      // gradient of this layer's output: the next layer's grad_input
  const T* added;  // joins grad_input, from other uses of x; or null
  T* grad_input;   // null where not wanted, as grad_weight
  T* grad_weight;
};

template <class T>
void stack_forward(const Cpu& cpu, const std::vector<StackLayer<T>>& layers);

// From the last layer to the first.
template <class T>
void stack_gradients(const Cpu& cpu, const std::vector<StackLayerGradients<T>>& layers);

}  // namespace fastkan
