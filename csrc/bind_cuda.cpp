// The CUDA half of fastkan._C; what each operation computes is written down in cpu/cpu.h, and what `parts`
// are in cuda/cuda.h. The last three arguments of every operation: device, stream, whether TF32 is allowed.
#include "bind.h"
#include "check.h"
#include "cuda/cuda.h"
#include "cuda/driver.h"

namespace fastkan {
namespace {

Cuda make_backend(int64_t device, Address stream, bool tf32) {
  return {int(checked("device", device, 0, std::numeric_limits<int32_t>::max())),
          reinterpret_cast<void*>(stream), tf32};
}

void forward(Address x, Address weight, Address row_weight, Address knots, Address y, int64_t B, int64_t I,
             int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, Name value_dtype,
             int64_t device, Address stream, bool tf32) {
  const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
  const Storage rows = parse_storage("dtype", dtype), values = parse_storage("value_dtype", value_dtype);
  with_compute_type(rows, values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .forward(problem, checked_source("x", x, rows, {B, I}),
                 checked_source("weight", weight, values, {I, problem.slots(), O}),
                 checked_source("row_weight", row_weight, rows, {B, I}, true),
                 checked_pointer<const T>("knots", knots, {I, K}), checked_target("y", y, values, {B, O}));
  });
}

void grad_input(Address x, Address weight, Address g, Address knots, Address out, int64_t B, int64_t I,
                int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, Name value_dtype,
                int64_t device, Address stream, bool tf32) {
  const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
  const Storage rows = parse_storage("dtype", dtype), values = parse_storage("value_dtype", value_dtype);
  with_compute_type(rows, values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .grad_input(problem, checked_source("x", x, rows, {B, I}),
                    checked_source("weight", weight, values, {I, problem.slots(), O}),
                    checked_source("g", g, values, {B, O}), checked_pointer<const T>("knots", knots, {I, K}),
                    checked_target("out", out, rows, {B, I}));
  });
}

void grad_weight(Address x, Address g, Address row_weight, Address knots, Address parts, Address out,
                 int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree, Name base, int64_t nu,
                 Name dtype, Name value_dtype, int64_t device, Address stream, bool tf32) {
  const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
  const Storage rows = parse_storage("dtype", dtype), values = parse_storage("value_dtype", value_dtype);
  const int64_t M = problem.slots(), splits = Cuda::grad_weight_splits(problem).count;
  with_compute_type(rows, values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .grad_weight(problem, checked_source("x", x, rows, {B, I}), checked_source("g", g, values, {B, O}),
                     checked_source("row_weight", row_weight, rows, {B, I}, true),
                     checked_pointer<const T>("knots", knots, {I, K}),
                     checked_pointer<T>("parts", parts, {splits, I, M, O}, splits == 1),
                     checked_target("out", out, values, {I, M, O}));
  });
}

void gram(Address x, Address row_weight, Address knots, Address parts, Address out, int64_t B, int64_t I,
          int64_t K, int64_t degree, Name base, int64_t nu, int64_t mu, Name dtype, int64_t device,
          Address stream) {
  const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
  const Storage rows = parse_storage("dtype", dtype);
  const int64_t M = problem.slots(), splits = Cuda::gram_splits(problem).count;
  with_compute_type(rows, rows, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, false)
        .gram(problem, checked_source("x", x, rows, {B, I}),
              checked_source("row_weight", row_weight, rows, {B, I}, true),
              checked_pointer<const T>("knots", knots, {I, K}),
              checked_pointer<T>("parts", parts, {splits, I, M, M}, splits == 1),
              checked_pointer<T>("out", out, {I, M, M}));
  });
}

void quadratic(Address x, Address form, Address knots, Address out, int64_t B, int64_t I, int64_t K,
               int64_t degree, Name base, int64_t nu, int64_t mu, Name dtype, int64_t device,
               Address stream) {
  const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
  const Storage rows = parse_storage("dtype", dtype);
  with_compute_type(rows, rows, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, false)
        .quadratic(problem, checked_source("x", x, rows, {B, I}),
                   checked_pointer<const T>("form", form, {I, problem.slots(), problem.slots()}),
                   checked_pointer<const T>("knots", knots, {I, K}), checked_pointer<T>("out", out, {B, I}));
  });
}

// The number of results in `parts` for A and for gram; 1: no parts are needed.
int grad_weight_splits(int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree) {
  return Cuda::grad_weight_splits(checked_problem(B, I, O, K, degree, "zero", 0, 0)).count;
}
int gram_splits(int64_t B, int64_t I, int64_t K, int64_t degree) {
  return Cuda::gram_splits(checked_problem(B, I, 0, K, degree, "zero", 0, 0)).count;
}

py::object or_none(const std::string& reason) {
  return reason.empty() ? py::object(py::none()) : py::str(reason);
}

}  // namespace

void bind_cuda(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;
  module.def("cuda_forward", forward, without_gil);
  module.def("cuda_grad_input", grad_input, without_gil);
  module.def("cuda_grad_weight", grad_weight, without_gil);
  module.def("cuda_gram", gram, without_gil);
  module.def("cuda_quadratic", quadratic, without_gil);
  module.def("cuda_grad_weight_splits", grad_weight_splits);
  module.def("cuda_gram_splits", gram_splits);
  module.def("cuda_unavailable_reason", [] { return or_none(Cuda::unavailable_reason()); });
  module.def("cuda_driver_reason",
             [](int driver, int runtime) { return or_none(driver_reason(driver, runtime)); });
}

}  // namespace fastkan
