// The operations of a stack of layers (cpu/stack.h). Layer l takes widths[l] features to widths[l + 1] and
// has num_knots[l] knots per input; lists of addresses have one entry a layer, 0 where it is absent.
#include "../cpu/stack.h"

#include <pybind11/stl.h>

#include <vector>

#include "bind.h"
#include "check_cpu.h"

namespace fastkan {
namespace {

using Addresses = const std::vector<Address>&;
using Sizes = const std::vector<int64_t>&;

void check_count(const char* argument, size_t count, size_t expected) {
  if (count != expected)
    refuse("the length of " + std::string(argument), std::to_string(expected), std::to_string(count));
}

// One problem a layer. Empty tensors are refused: their address, 0, would say absent.
std::vector<Problem> checked_problems(int64_t B, Sizes widths, Sizes num_knots, int64_t degree,
                                      Name activation) {
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  check_count("widths", widths.size(), num_knots.size() + 1);
  checked("batch", B, 1, kAny);
  for (const int64_t width : widths) checked("widths", width, 1, kAny);
  std::vector<Problem> problems;
  for (size_t l = 0; l < num_knots.size(); ++l)
    problems.push_back(
        checked_cpu_problem(B, widths[l], widths[l + 1], num_knots[l], degree, activation, 0, 0));
  return problems;
}

void forward(Address x, Addresses weights, Addresses knots, Addresses biases, Addresses outputs, int64_t B,
             Sizes widths, Sizes num_knots, int64_t degree, Name activation, Name dtype, int64_t threads) {
  const auto problems = checked_problems(B, widths, num_knots, degree, activation);
  check_count("weights", weights.size(), problems.size());
  check_count("knots", knots.size(), problems.size());
  check_count("biases", biases.size(), problems.size());
  check_count("outputs", outputs.size(), problems.size());
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<StackLayer<T>> layers;
    for (size_t l = 0; l < problems.size(); ++l) {
      const int64_t I = widths[l], O = widths[l + 1];
      layers.push_back({problems[l], checked_pointer<const T>("x", l ? outputs[l - 1] : x, {B, I}),
                        checked_pointer<const T>("weights", weights[l], {I, problems[l].slots(), O}),
                        checked_pointer<const T>("knots", knots[l], {I, num_knots[l]}),
                        checked_pointer<const T>("biases", biases[l], {O}, true),
                        checked_pointer<T>("outputs", outputs[l], {B, O})});
    }
    stack_forward(make_backend(threads), layers);
  });
}

void gradients(Addresses inputs, Addresses weights, Addresses knots, Address g, Addresses added,
               Addresses grad_inputs, Addresses grad_weights, int64_t B, Sizes widths, Sizes num_knots,
               int64_t degree, Name activation, Name dtype, int64_t threads) {
  const auto problems = checked_problems(B, widths, num_knots, degree, activation);
  check_count("inputs", inputs.size(), problems.size());
  check_count("weights", weights.size(), problems.size());
  check_count("knots", knots.size(), problems.size());
  check_count("added", added.size(), problems.size());
  check_count("grad_inputs", grad_inputs.size(), problems.size());
  check_count("grad_weights", grad_weights.size(), problems.size());
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<StackLayerGradients<T>> layers;
    for (size_t l = 0; l < problems.size(); ++l) {
      const int64_t I = widths[l], O = widths[l + 1];
      const bool last = l + 1 == problems.size(), unused = !grad_inputs[l] && !grad_weights[l];
      layers.push_back(
          {problems[l], checked_pointer<const T>("inputs", inputs[l], {B, I}),
           checked_pointer<const T>("weights", weights[l], {I, problems[l].slots(), O}),
           checked_pointer<const T>("knots", knots[l], {I, num_knots[l]}),
           checked_pointer<const T>(last ? "g" : "grad_inputs", last ? g : grad_inputs[l + 1], {B, O},
                                    unused),
           checked_pointer<const T>("added", added[l], {B, I}, true),
           checked_pointer<T>("grad_inputs", grad_inputs[l], {B, I}, true),
           checked_pointer<T>("grad_weights", grad_weights[l], {I, problems[l].slots(), O}, true)});
    }
    stack_gradients(make_backend(threads), layers);
  });
}

}  // namespace

void bind_stack(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;
  module.def("cpu_stack_forward", forward, without_gil);
  module.def("cpu_stack_gradients", gradients, without_gil);
}

}  // namespace fastkan
