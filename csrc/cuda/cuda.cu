#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>

#include "cuda.h"
#include "elements.h"

namespace fastkan {
namespace {

void check(cudaError_t status, const char* operation) {
  if (status != cudaSuccess)
    throw std::runtime_error("fastkan: CUDA " + std::string(operation) + ": " + cudaGetErrorString(status));
}

// Makes `device` current and puts the caller's device back: torch keeps its own idea of the current one.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(previous_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
};

template <class T, class Element>
__global__ void fill(T* out, int64_t count, Element element) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; index < count; index += step)
    out[index] = element(index);
}

template <class T, class Element>
void launch(const Cuda& where, const char* operation, T* out, int64_t count, const Element& element) {
  if (count == 0) return;  // an empty grid is an error
  const DeviceGuard guard(where.device);
  constexpr int64_t kThreads = 128, kMaxBlocks = 1 << 20;
  const auto blocks = unsigned(std::min((count + kThreads - 1) / kThreads, kMaxBlocks));
  fill<<<blocks, unsigned(kThreads), 0, static_cast<cudaStream_t>(where.stream)>>>(out, count, element);
  check(cudaGetLastError(), operation);
}

}  // namespace

template <class T>
void Cuda::forward(const Problem& problem, const T* x, const T* weight, const T* row_weight, const T* knots,
                   T* y) const {
  launch(*this, "forward", y, problem.batch * problem.out_features,
         ForwardElement<T>{problem, x, weight, row_weight, knots});
}

template <class T>
void Cuda::grad_input(const Problem& problem, const T* x, const T* weight, const T* g, const T* knots,
                      T* out) const {
  launch(*this, "grad_input", out, problem.batch * problem.in_features,
         GradInputElement<T>{problem, x, weight, g, knots});
}

template <class T>
void Cuda::grad_weight(const Problem& problem, const T* x, const T* g, const T* row_weight, const T* knots,
                       T* out) const {
  launch(*this, "grad_weight", out, problem.in_features * problem.slots() * problem.out_features,
         GradWeightElement<T>{problem, x, g, row_weight, knots});
}

template <class T>
void Cuda::gram(const Problem& problem, const T* x, const T* row_weight, const T* knots, T* out) const {
  launch(*this, "gram", out, problem.in_features * problem.slots() * problem.slots(),
         GramElement<T>{problem, x, row_weight, knots});
}

template <class T>
void Cuda::quadratic(const Problem& problem, const T* x, const T* form, const T* knots, T* out) const {
  launch(*this, "quadratic", out, problem.batch * problem.in_features,
         QuadraticElement<T>{problem, x, form, knots});
}

std::string Cuda::unavailable_reason() {
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no NVIDIA driver";
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return devices == 0 ? "no CUDA device" : "";
}

#define FASTKAN_INSTANTIATE(T)                                                                       \
  template void Cuda::forward(const Problem&, const T*, const T*, const T*, const T*, T*) const;     \
  template void Cuda::grad_input(const Problem&, const T*, const T*, const T*, const T*, T*) const;  \
  template void Cuda::grad_weight(const Problem&, const T*, const T*, const T*, const T*, T*) const; \
  template void Cuda::gram(const Problem&, const T*, const T*, const T*, T*) const;                  \
  template void Cuda::quadratic(const Problem&, const T*, const T*, const T*, T*) const;
FASTKAN_INSTANTIATE(float)
FASTKAN_INSTANTIATE(double)

}  // namespace fastkan
