// csrc/bind_cuda.cpp and bind_sparse.cpp as a Python module of its own, their kernels on the emulated device.
#include "bind.h"
#include "cuda/cuda.h"

namespace fastkan {

std::string Cuda::unavailable_reason() { return ""; }

}  // namespace fastkan

PYBIND11_MODULE(_emulated, module) {
  fastkan::bind_cuda(module);
  fastkan::bind_sparse(module);
}
