// csrc/bind/cuda.cpp and two_four.cpp as a Python module of its own, their kernels on the emulated device.
#include "bind/bind.h"
#include "cuda/operations.h"

namespace fastkan {

std::string Cuda::unavailable_reason() { return ""; }

}  // namespace fastkan

PYBIND11_MODULE(_emulated, module) {
  fastkan::bind_cuda(module);
  fastkan::bind_two_four(module);
}
