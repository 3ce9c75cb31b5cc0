// Whether kernels can be launched on this machine: the one file that asks the CUDA runtime about it.
#include <cuda_runtime.h>

#include "cuda.h"

namespace fastkan {
namespace {

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

std::string Cuda::driver_reason(int driver, int runtime) {
  if (driver == 0) return "no NVIDIA driver";
  if (driver / 1000 >= runtime / 1000) return "";  // minor versions serve each other
  return "the NVIDIA driver serves CUDA up to " + version(driver) + ", and the core was built with CUDA " +
         version(runtime) + ": a driver for CUDA " + std::to_string(runtime / 1000) + ".0 or later is needed";
}

std::string Cuda::unavailable_reason() {
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  const std::string reason = driver_reason(driver, CUDART_VERSION);
  if (!reason.empty()) return reason;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return devices == 0 ? "no CUDA device" : "";
}

}  // namespace fastkan
