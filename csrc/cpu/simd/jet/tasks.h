// Jets and their gradients for the rows and inputs of one task.
#pragma once

#include "gradient_lanes.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class Space, class T>
size_t bytes_of_space(const JetCall<T>& jet) {
  Arena arena(nullptr);
  Space(jet, arena);
  return arena.used();
}

template <class T>
bool in_lanes(const JetCall<T>& jet) {
  return jet.layer.way == Way::few_outputs;
}

template <class T>
size_t jet_bytes(const JetCall<T>& jet) {
  return in_lanes(jet) ? bytes_of_space<JetForwardLanes<T>>(jet) : bytes_of_space<JetRows<T>>(jet);
}

template <class T>
void jet(const JetCall<T>& call, Range rows, char* workspace) {
  in_lanes(call) ? jet_lanes(call, rows, workspace) : jet_rows(call, rows, workspace);
}

template <class T>
size_t jet_gradients_bytes(const JetCall<T>& jet) {
  return in_lanes(jet) ? bytes_of_space<JetGradientLanes<T>>(jet) : bytes_of_space<JetGradientRows<T>>(jet);
}

template <class T>
void jet_gradients(const JetCall<T>& call, Range rows, Range inputs, char* workspace) {
  in_lanes(call) ? jet_gradient_lanes(call, rows, inputs, workspace)
                 : jet_gradient_rows(call, rows, inputs, workspace);
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
