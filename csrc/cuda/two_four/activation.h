// The base slot of an operand.
#pragma once

#include "../../core/activations.h"
#include "../device.h"

namespace fastkan::two_four {

template <Activation constant>
struct Constant {
  static constexpr Activation value = constant;
};

// Calls body(activation as a constant): one choice for many values.
template <class Body>
FASTKAN_DEVICE void with_activation(Activation activation, const Body& body) {
  switch (activation) {
#define FASTKAN_CASE(name) \
  case Activation::name:   \
    return body(Constant<Activation::name>());
    FASTKAN_ACTIVATIONS(FASTKAN_CASE)
#undef FASTKAN_CASE
  }
}

// The activation itself, to the precision of a 16-bit operand: SiLU's division would call a subroutine, 26
// instructions more a value. NaN comes through the exponential, and -infinity gives -1000 * 0.
template <Activation activation>
FASTKAN_DEVICE float base_slot(float x) {
  if (activation != Activation::silu) return activation_derivative(activation, 0, x);
  constexpr float kLog2E = 1.4426950408889634f;
  return fmaxf(x, -1000.0f) * reciprocal_approximate(1.0f + exp2_approximate(-kLog2E * x));
}

}  // namespace fastkan::two_four
