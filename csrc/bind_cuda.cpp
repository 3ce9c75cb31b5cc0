// The CUDA half of fastkan._C; what each operation computes is written down in cuda/cuda.h.
#include "bind.h"
#include "check.h"
#include "cuda/cuda.h"

namespace fastkan {
namespace {

Cuda make_backend(int64_t device, Address stream) {
  return {int(checked("device", device, 0, std::numeric_limits<int32_t>::max())),
          reinterpret_cast<void*>(stream)};
}

void bind_weight_operations(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def(
      "cuda_forward",
      [](Address x, Address weight, Address row_weight, Address knots, Address y, int64_t B, int64_t I,
         int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, int64_t device,
         Address stream) {
        const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
        with_type(dtype, [&](auto zero) {
          using T = decltype(zero);
          make_backend(device, stream)
              .forward(problem, checked_pointer<const T>("x", x, {B, I}),
                       checked_pointer<const T>("weight", weight, {I, problem.slots(), O}),
                       checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                       checked_pointer<const T>("knots", knots, {I, K}), checked_pointer<T>("y", y, {B, O}));
        });
      },
      without_gil);

  module.def(
      "cuda_grad_input",
      [](Address x, Address weight, Address g, Address knots, Address out, int64_t B, int64_t I, int64_t O,
         int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, int64_t device, Address stream) {
        const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
        with_type(dtype, [&](auto zero) {
          using T = decltype(zero);
          make_backend(device, stream)
              .grad_input(problem, checked_pointer<const T>("x", x, {B, I}),
                          checked_pointer<const T>("weight", weight, {I, problem.slots(), O}),
                          checked_pointer<const T>("g", g, {B, O}),
                          checked_pointer<const T>("knots", knots, {I, K}),
                          checked_pointer<T>("out", out, {B, I}));
        });
      },
      without_gil);

  module.def(
      "cuda_grad_weight",
      [](Address x, Address g, Address row_weight, Address knots, Address out, int64_t B, int64_t I,
         int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, int64_t device,
         Address stream) {
        const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
        with_type(dtype, [&](auto zero) {
          using T = decltype(zero);
          make_backend(device, stream)
              .grad_weight(problem, checked_pointer<const T>("x", x, {B, I}),
                           checked_pointer<const T>("g", g, {B, O}),
                           checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                           checked_pointer<const T>("knots", knots, {I, K}),
                           checked_pointer<T>("out", out, {I, problem.slots(), O}));
        });
      },
      without_gil);
}

void bind_slot_operations(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def(
      "cuda_gram",
      [](Address x, Address row_weight, Address knots, Address out, int64_t B, int64_t I, int64_t K,
         int64_t degree, Name base, int64_t nu, int64_t mu, Name dtype, int64_t device, Address stream) {
        const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
        with_type(dtype, [&](auto zero) {
          using T = decltype(zero);
          make_backend(device, stream)
              .gram(problem, checked_pointer<const T>("x", x, {B, I}),
                    checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                    checked_pointer<const T>("knots", knots, {I, K}),
                    checked_pointer<T>("out", out, {I, problem.slots(), problem.slots()}));
        });
      },
      without_gil);

  module.def(
      "cuda_quadratic",
      [](Address x, Address form, Address knots, Address out, int64_t B, int64_t I, int64_t K, int64_t degree,
         Name base, int64_t nu, int64_t mu, Name dtype, int64_t device, Address stream) {
        const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
        with_type(dtype, [&](auto zero) {
          using T = decltype(zero);
          make_backend(device, stream)
              .quadratic(problem, checked_pointer<const T>("x", x, {B, I}),
                         checked_pointer<const T>("form", form, {I, problem.slots(), problem.slots()}),
                         checked_pointer<const T>("knots", knots, {I, K}),
                         checked_pointer<T>("out", out, {B, I}));
        });
      },
      without_gil);
}

}  // namespace

void bind_cuda(py::module_& module) {
  bind_weight_operations(module);
  bind_slot_operations(module);
  module.def("cuda_unavailable_reason", []() -> py::object {
    const std::string reason = Cuda::unavailable_reason();
    return reason.empty() ? py::object(py::none()) : py::str(reason);
  });
}

}  // namespace fastkan
