// The Python module fastkan._C: takes addresses and sizes, knows nothing of torch. Arguments are positional.
#include <string>

#include "bind.h"

namespace fastkan {
namespace {

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
      "fastkan's native module: cpu_* and, if built, cuda_* operations on the addresses of contiguous "
      "tensors";
  module.def("build_info", fastkan::build_info);
  fastkan::bind_cpu(module);
  fastkan::bind_jet(module);
  fastkan::bind_roofline(module);
  fastkan::bind_stack(module);
#ifdef FASTKAN_CUDA_ARCHITECTURES
  fastkan::bind_cuda(module);
  fastkan::bind_two_four(module);
#endif
}
