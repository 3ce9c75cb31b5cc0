// The base slot of an operand.
#pragma once

#include "../../activations.h"
#include "../device.h"

namespace fastkan::sparse {

template <Base constant>
struct Constant {
  static constexpr Base value = constant;
};

// Calls body(base as a constant): one choice for many values.
template <class Body>
FASTKAN_DEVICE void with_base(Base base, const Body& body) {
  switch (base) {
    case Base::silu:
      return body(Constant<Base::silu>());
    case Base::gelu:
      return body(Constant<Base::gelu>());
    case Base::tanh:
      return body(Constant<Base::tanh>());
    case Base::identity:
      return body(Constant<Base::identity>());
    case Base::relu:
      return body(Constant<Base::relu>());
    case Base::zero:
      return body(Constant<Base::zero>());
  }
}

// base_value at nu = 0, to the precision of a 16-bit operand: the division of SiLU calls a subroutine, and
// costs 26 instructions more a value. NaN comes through the exponential, and -infinity gives -1000 * 0.
template <Base base>
FASTKAN_DEVICE float base_slot(float x) {
  if (base != Base::silu) return base_value(base, 0, x);
  constexpr float kLog2E = 1.4426950408889634f;
  return fmaxf(x, -1000.0f) * reciprocal_approximate(1.0f + exp2_approximate(-kLog2E * x));
}

}  // namespace fastkan::sparse
