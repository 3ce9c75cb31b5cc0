// The Python module fastkan._C: addresses and sizes in, nothing of torch. Arguments are positional; what each
// operation computes is written down in cpu/cpu.h.
#include <pybind11/pybind11.h>

#include "check.h"
#include "cpu/cpu.h"
#ifdef FASTKAN_CUDA_ARCHITECTURES
#include "cuda/cuda.h"
#endif

namespace py = pybind11;

namespace fastkan {
namespace {

using Address = std::uintptr_t;
using Name = const std::string&;

// The two kinds of trailing arguments, each made into the object that holds the operations.
Cpu make_backend(int64_t threads) { return {int(checked("threads", threads, 1, 1024))}; }
#ifdef FASTKAN_CUDA_ARCHITECTURES
Cuda make_backend(int64_t device, Address stream) {
  return {int(checked("device", device, 0, std::numeric_limits<int32_t>::max())),
          reinterpret_cast<void*>(stream)};
}
#endif

// Calls body(T()) with the type that dtype names.
template <class Body>
void with_type(Name dtype, const Body& body) {
  if (dtype == "float32") return body(float());
  if (dtype == "float64") return body(double());
  refuse("dtype", "float32 or float64", "'" + dtype + "'");
}

template <class... Where>
void bind_weight_operations(py::module_& module, const std::string& prefix) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def((prefix + "forward").c_str(),
             [](Address x, Address weight, Address row_weight, Address knots, Address y, int64_t B, int64_t I,
                int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, Where... where) {
               const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
               with_type(dtype, [&](auto zero) {
                 using T = decltype(zero);
                 make_backend(where...).forward(
                     problem, checked_pointer<const T>("x", x, {B, I}),
                     checked_pointer<const T>("weight", weight, {I, problem.slots(), O}),
                     checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                     checked_pointer<const T>("knots", knots, {I, K}), checked_pointer<T>("y", y, {B, O}));
               });
             },
             without_gil);

  module.def((prefix + "grad_input").c_str(),
             [](Address x, Address weight, Address g, Address knots, Address out, int64_t B, int64_t I,
                int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, Where... where) {
               const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
               with_type(dtype, [&](auto zero) {
                 using T = decltype(zero);
                 make_backend(where...).grad_input(
                     problem, checked_pointer<const T>("x", x, {B, I}),
                     checked_pointer<const T>("weight", weight, {I, problem.slots(), O}),
                     checked_pointer<const T>("g", g, {B, O}),
                     checked_pointer<const T>("knots", knots, {I, K}),
                     checked_pointer<T>("out", out, {B, I}));
               });
             },
             without_gil);

  module.def((prefix + "grad_weight").c_str(),
             [](Address x, Address g, Address row_weight, Address knots, Address out, int64_t B, int64_t I,
                int64_t O, int64_t K, int64_t degree, Name base, int64_t nu, Name dtype, Where... where) {
               const Problem problem = checked_problem(B, I, O, K, degree, base, nu, 0);
               with_type(dtype, [&](auto zero) {
                 using T = decltype(zero);
                 make_backend(where...).grad_weight(
                     problem, checked_pointer<const T>("x", x, {B, I}),
                     checked_pointer<const T>("g", g, {B, O}),
                     checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                     checked_pointer<const T>("knots", knots, {I, K}),
                     checked_pointer<T>("out", out, {I, problem.slots(), O}));
               });
             },
             without_gil);
}

template <class... Where>
void bind_slot_operations(py::module_& module, const std::string& prefix) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def((prefix + "gram").c_str(),
             [](Address x, Address row_weight, Address knots, Address out, int64_t B, int64_t I, int64_t K,
                int64_t degree, Name base, int64_t nu, int64_t mu, Name dtype, Where... where) {
               const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
               with_type(dtype, [&](auto zero) {
                 using T = decltype(zero);
                 make_backend(where...).gram(
                     problem, checked_pointer<const T>("x", x, {B, I}),
                     checked_pointer<const T>("row_weight", row_weight, {B, I}, true),
                     checked_pointer<const T>("knots", knots, {I, K}),
                     checked_pointer<T>("out", out, {I, problem.slots(), problem.slots()}));
               });
             },
             without_gil);

  module.def((prefix + "quadratic").c_str(),
             [](Address x, Address form, Address knots, Address out, int64_t B, int64_t I, int64_t K,
                int64_t degree, Name base, int64_t nu, int64_t mu, Name dtype, Where... where) {
               const Problem problem = checked_problem(B, I, 0, K, degree, base, nu, mu);
               with_type(dtype, [&](auto zero) {
                 using T = decltype(zero);
                 make_backend(where...).quadratic(
                     problem, checked_pointer<const T>("x", x, {B, I}),
                     checked_pointer<const T>("form", form, {I, problem.slots(), problem.slots()}),
                     checked_pointer<const T>("knots", knots, {I, K}),
                     checked_pointer<T>("out", out, {B, I}));
               });
             },
             without_gil);
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "Clang " __clang_version__;
#elif defined(__GNUC__)
  info["compiler"] = "GCC " __VERSION__;
#else
  info["compiler"] = "unknown";
#endif
#if defined(_OPENMP)
  info["openmp"] = std::to_string(_OPENMP);  // year and month of the specification
#else
  info["openmp"] = false;
#endif
#ifdef FASTKAN_CUDA_ARCHITECTURES
  info["cuda_architectures"] = FASTKAN_CUDA_ARCHITECTURES;
#else
  info["cuda_architectures"] = py::none();
#endif
  return info;
}

}  // namespace
}  // namespace fastkan

PYBIND11_MODULE(_C, module) {
  module.doc() =
      "fastkan's compiled core: cpu_* and, if built, cuda_* operations on the addresses of contiguous "
      "tensors";
  module.def("build_info", fastkan::build_info);
  fastkan::bind_weight_operations<int64_t>(module, "cpu_");
  fastkan::bind_slot_operations<int64_t>(module, "cpu_");
#ifdef FASTKAN_CUDA_ARCHITECTURES
  fastkan::bind_weight_operations<int64_t, fastkan::Address>(module, "cuda_");
  fastkan::bind_slot_operations<int64_t, fastkan::Address>(module, "cuda_");
  module.def("cuda_unavailable_reason", []() -> py::object {
    const std::string reason = fastkan::Cuda::unavailable_reason();
    return reason.empty() ? py::object(py::none()) : py::str(reason);
  });
#endif
}
