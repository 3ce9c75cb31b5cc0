// The operations of backend cpu in fastkan._C. cpu/operations.h says what they compute.
#include "bind.h"
#include "check_cpu.h"

namespace fastkan {
namespace {

void forward(Address x, Address weight, Address row_weight, Address knots, Address y, int64_t B, int64_t I,
             int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu, Name dtype, Name value_dtype,
             int64_t threads) {
  const Problem problem = checked_cpu_problem(B, I, O, K, degree, activation, nu, 0);
  const Storage rows = parse_storage("dtype", dtype), values = parse_storage("value_dtype", value_dtype);
  with_compute_type(rows, values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(threads).forward(problem, checked_source("x", x, rows, {B, I}),
                                  checked_source("weight", weight, values, {I, problem.slots(), O}),
                                  checked_source("row_weight", row_weight, rows, {B, I}, true),
                                  checked_pointer<const T>("knots", knots, {I, K}),
                                  checked_target("y", y, values, {B, O}));
  });
}

void fused_gradients(Address x, Address weight, Address g, Address row_weight, Address knots,
                     Address grad_input, Address grad_weight, Address grad_row_weight, Address y, int64_t B,
                     int64_t I, int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu,
                     int64_t grad_input_nu, Name dtype, Name value_dtype, int64_t threads) {
  const Problem problem =
      checked_cpu_problem(B, I, O, K, degree, activation, nu, grad_input ? grad_input_nu : 0);
  const Storage rows = parse_storage("dtype", dtype), values = parse_storage("value_dtype", value_dtype);
  with_compute_type(rows, values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(threads).fused_gradients(
        problem, grad_input_nu, checked_source("x", x, rows, {B, I}),
        checked_source("weight", weight, values, {I, problem.slots(), O},
                       !grad_input && !grad_row_weight && !y),
        checked_source("g", g, values, {B, O}),
        checked_source("row_weight", row_weight, rows, {B, I}, !grad_row_weight),
        checked_pointer<const T>("knots", knots, {I, K}),
        {checked_target("grad_input", grad_input, rows, {B, I}, true),
         checked_target("grad_weight", grad_weight, values, {I, problem.slots(), O}, true),
         checked_target("grad_row_weight", grad_row_weight, rows, {B, I}, true),
         checked_target("y", y, values, {B, O}, true)});
  });
}

void gram(Address x, Address row_weight, Address knots, Address out, int64_t B, int64_t I, int64_t K,
          int64_t degree, Name activation, int64_t nu, int64_t mu, Name dtype, int64_t threads) {
  const Problem problem = checked_cpu_problem(B, I, 0, K, degree, activation, nu, mu);
  const Storage rows = parse_storage("dtype", dtype);
  with_compute_type(rows, rows, [&](auto zero) {
    using T = decltype(zero);
    make_backend(threads).gram(problem, checked_source("x", x, rows, {B, I}),
                               checked_source("row_weight", row_weight, rows, {B, I}, true),
                               checked_pointer<const T>("knots", knots, {I, K}),
                               checked_pointer<T>("out", out, {I, problem.slots(), problem.slots()}));
  });
}

void quadratic(Address x, Address form, Address knots, Address out, int64_t B, int64_t I, int64_t K,
               int64_t degree, Name activation, int64_t nu, int64_t mu, Name dtype, int64_t threads) {
  const Problem problem = checked_cpu_problem(B, I, 0, K, degree, activation, nu, mu);
  const Storage rows = parse_storage("dtype", dtype);
  with_compute_type(rows, rows, [&](auto zero) {
    using T = decltype(zero);
    make_backend(threads).quadratic(
        problem, checked_source("x", x, rows, {B, I}),
        checked_pointer<const T>("form", form, {I, problem.slots(), problem.slots()}),
        checked_pointer<const T>("knots", knots, {I, K}), checked_pointer<T>("out", out, {B, I}));
  });
}

}  // namespace

void bind_cpu(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;
  module.def("cpu_forward", forward, without_gil);
  module.def("cpu_fused_gradients", fused_gradients, without_gil);
  module.def("cpu_gram", gram, without_gil);
  module.def("cpu_quadratic", quadratic, without_gil);
  module.def("cpu_isa", [] { return kernels<float>().isa; });
}

}  // namespace fastkan
