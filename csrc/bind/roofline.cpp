// What `python -m fastkan profile` asks fastkan._C: cpu/roofline.h.
#include "../cpu/roofline.h"

#include "bind.h"
#include "check_cpu.h"

namespace fastkan {
namespace {

// Result, work and work a second
template <class Result>
py::tuple as_tuple(const Measured<Result>& measured) {
  return py::make_tuple(measured.result, measured.work, measured.per_second);
}

py::tuple multiply_add(int64_t steps, double factor, double term, Name dtype, int64_t threads) {
  checked("steps", steps, 0, std::numeric_limits<int64_t>::max());
  const int count = int(checked("threads", threads, 1, 1024));
  Measured<double> done{};
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const py::gil_scoped_release without_gil;
    done = multiply_add_loop(steps, T(factor), T(term), count);
  });
  return as_tuple(done);
}

py::tuple read(Address words, int64_t count, int64_t passes, int64_t threads) {
  checked("count", count, 0, std::numeric_limits<int64_t>::max());
  checked("passes", passes, 0, std::numeric_limits<int64_t>::max());
  const uint32_t* const data = checked_pointer<const uint32_t>("words", words, {count});
  const int own_threads = int(checked("threads", threads, 1, 1024));
  Measured<uint32_t> done{};
  {
    const py::gil_scoped_release without_gil;
    done = read_loop(data, count, passes, own_threads);
  }
  return as_tuple(done);
}

int64_t multiplications(Name operation, int64_t B, int64_t I, int64_t O, int64_t K, int64_t degree,
                        Name dtype) {
  const Problem problem = checked_cpu_problem(B, I, O, K, degree, "silu", 0, 0);
  const bool forward = operation == "forward";
  if (!forward && operation != "fused_gradients")
    refuse("operation", "forward or fused_gradients", "'" + operation + "'");
  int64_t count = 0;
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    count = forward ? forward_multiplications<T>(problem) : fused_gradients_multiplications<T>(problem);
  });
  return count;
}

}  // namespace

void bind_roofline(py::module_& module) {
  module.def("cpu_multiply_add", multiply_add);
  module.def("cpu_read", read);
  module.def("cpu_multiplications", multiplications);
}

}  // namespace fastkan
