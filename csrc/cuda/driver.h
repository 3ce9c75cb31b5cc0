// What the versions of driver and runtime, such as 13000 and 12080, say about launching kernels.
#pragma once

#include <string>

namespace fastkan {

inline std::string version_name(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Empty if that driver serves that runtime, else why not.
inline std::string driver_reason(int driver, int runtime) {
  if (driver == 0) return "no NVIDIA driver";
  if (driver / 1000 >= runtime / 1000) return "";  // minor versions serve each other
  return "the NVIDIA driver serves CUDA up to " + version_name(driver) +
         ", and the native module was built with CUDA " + version_name(runtime) + ": a driver for CUDA " +
         std::to_string(runtime / 1000) + ".0 or later is needed";
}

}  // namespace fastkan
