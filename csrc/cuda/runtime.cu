// Whether kernels can be launched on this machine: the one file that asks the CUDA runtime about it.
#include <cuda_runtime.h>

#include "driver.h"
#include "operations.h"

namespace fastkan {

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
