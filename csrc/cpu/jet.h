// A layer's value, first derivatives and sum of second derivatives from those of its inputs (docs/design.md,
// section 3), and the gradients of all of it: the intervals are found and the splines evaluated once.
#pragma once

#include "operations.h"

namespace fastkan {

// y = F_0(x), y_first[k] = F_1(x; first[k]),
// y_second = F_2(x; sum_k coefficients[k] first[k]^2) + F_1(x; second).
template <class T>
void jet_forward(const Cpu& cpu, JetCall<T> jet);

template <class T>
void jet_gradients(const Cpu& cpu, JetCall<T> jet);

}  // namespace fastkan
