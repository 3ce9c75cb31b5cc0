// The operations of backend cuda in fastkan._C. cpu/operations.h says what they compute, and
// cuda/operations.h what `parts` are. Their last arguments: device, stream, whether TF32 is allowed.
#include "../cuda/driver.h"
#include "../cuda/operations.h"
#include "bind.h"
#include "check.h"

namespace fastkan {
namespace {

Cuda make_backend(int64_t device, Address stream, bool tf32) {
  return {int(checked("device", device, 0, std::numeric_limits<int32_t>::max())),
          reinterpret_cast<void*>(stream), tf32};
}

// What forward, grad_input and grad_weight all take: a problem, and two kinds of storage.
struct Layer {
  Problem problem;
  Storage rows, values;  // of x, row_weight and grad_input; of weight, g, y and grad_weight

  Layer(int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu, Name dtype,
        Name value_dtype)
      : problem(checked_problem(B, I, O, K, degree, activation, nu, 0)),
        rows(parse_storage("dtype", dtype)),
        values(parse_storage("value_dtype", value_dtype)) {}

  Source of_rows(const char* argument, Address address, bool optional = false) const {
    return checked_source(argument, address, rows, {problem.batch, problem.in_features}, optional);
  }
  Source of_outputs(const char* argument, Address address) const {
    return checked_source(argument, address, values, {problem.batch, problem.out_features});
  }
  Source weight(Address address) const {
    return checked_source("weight", address, values,
                          {problem.in_features, problem.slots(), problem.out_features});
  }
  template <class T>
  const T* knots(Address address) const {
    return checked_pointer<const T>("knots", address, {problem.in_features, problem.num_knots});
  }
};

void forward(Address x, Address weight, Address row_weight, Address knots, Address y, int64_t B, int64_t I,
             int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu, Name dtype, Name value_dtype,
             int64_t device, Address stream, bool tf32) {
  const Layer layer(B, I, O, K, degree, activation, nu, dtype, value_dtype);
  with_compute_type(layer.rows, layer.values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .forward(layer.problem, layer.of_rows("x", x), layer.weight(weight),
                 layer.of_rows("row_weight", row_weight, true), layer.knots<T>(knots),
                 checked_target("y", y, layer.values, {B, O}));
  });
}

void grad_input(Address x, Address weight, Address g, Address knots, Address out, int64_t B, int64_t I,
                int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu, Name dtype,
                Name value_dtype, int64_t device, Address stream, bool tf32) {
  const Layer layer(B, I, O, K, degree, activation, nu, dtype, value_dtype);
  with_compute_type(layer.rows, layer.values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .grad_input(layer.problem, layer.of_rows("x", x), layer.weight(weight), layer.of_outputs("g", g),
                    layer.knots<T>(knots), checked_target("out", out, layer.rows, {B, I}));
  });
}

void grad_weight(Address x, Address g, Address row_weight, Address knots, Address parts, Address out,
                 int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree, Name activation, int64_t nu,
                 Name dtype, Name value_dtype, int64_t device, Address stream, bool tf32) {
  const Layer layer(B, I, O, K, degree, activation, nu, dtype, value_dtype);
  const int64_t M = layer.problem.slots(), splits = Cuda::grad_weight_splits(layer.problem).count;
  with_compute_type(layer.rows, layer.values, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, tf32)
        .grad_weight(layer.problem, layer.of_rows("x", x), layer.of_outputs("g", g),
                     layer.of_rows("row_weight", row_weight, true), layer.knots<T>(knots),
                     checked_pointer<T>("parts", parts, {splits, I, M, O}, splits == 1),
                     checked_target("out", out, layer.values, {I, M, O}));
  });
}

void gram(Address x, Address row_weight, Address knots, Address parts, Address out, int64_t B, int64_t I,
          int64_t K, int64_t degree, Name activation, int64_t nu, int64_t mu, Name dtype, int64_t device,
          Address stream) {
  const Problem problem = checked_problem(B, I, 0, K, degree, activation, nu, mu);
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
               int64_t degree, Name activation, int64_t nu, int64_t mu, Name dtype, int64_t device,
               Address stream) {
  const Problem problem = checked_problem(B, I, 0, K, degree, activation, nu, mu);
  const Storage rows = parse_storage("dtype", dtype);
  with_compute_type(rows, rows, [&](auto zero) {
    using T = decltype(zero);
    make_backend(device, stream, false)
        .quadratic(problem, checked_source("x", x, rows, {B, I}),
                   checked_pointer<const T>("form", form, {I, problem.slots(), problem.slots()}),
                   checked_pointer<const T>("knots", knots, {I, K}), checked_pointer<T>("out", out, {B, I}));
  });
}

// How many results `parts` holds for grad_weight and for gram; 1: no parts are needed.
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
