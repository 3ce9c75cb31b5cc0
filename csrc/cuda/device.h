// The GPU as the kernels see it: threads, shared memory, instructions of a warp, launches. The tests emulate
// every name below on the CPU (tests/emulated/emulated_device.h), so that the same kernels run under
// sanitizers.
#pragma once

#include <stdint.h>

#ifdef FASTKAN_EMULATED_DEVICE
#include "emulated_device.h"
#else
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <tuple>

// Before a kernel's return type and a device function's.
#define FASTKAN_KERNEL(threads) __global__ void __launch_bounds__(threads, 1)
#define FASTKAN_DEVICE __device__ __forceinline__

namespace fastkan {

// The block's dynamic shared memory, as large as the launch says.
FASTKAN_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char fastkan_shared[];
  return fastkan_shared;
}

// ---- pairs of 16-bit numbers in a register, the first in the low half; TF32

FASTKAN_DEVICE uint32_t pack_float16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
FASTKAN_DEVICE uint32_t pack_bfloat16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
FASTKAN_DEVICE float float16_value(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
FASTKAN_DEVICE float tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

// ---- single instructions; the first two are good to 2^-22 of the result, subnormal ones are 0

FASTKAN_DEVICE float exp2_approximate(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
FASTKAN_DEVICE float reciprocal_approximate(float x) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
}

// Byte n of the answer: byte s mod 8 of (low, high), or its sign eight times where s >= 8, for nibble n of
// `selector` = s.
FASTKAN_DEVICE uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
  return bytes;
}

// ---- d += a b of a warp. Lane 4 g + t holds of d [16, 8] the elements (g, 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1); the operands' fragments are those of the PTX manual.

// a [16, 16], b [16, 8]
FASTKAN_DEVICE void mma_float16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
FASTKAN_DEVICE void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// a [16, 8], b [8, 8]; the low 13 bits of the operands are 0 (tf32() makes them so)
FASTKAN_DEVICE void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
// 2:4 sparse: a [16, 32] with two of every four stored, b [32, 8]; metadata with selector 0, in order
FASTKAN_DEVICE void mma_two_four_float16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                         uint32_t metadata) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
      "{%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
        "r"(metadata));
}
FASTKAN_DEVICE void mma_two_four_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                          uint32_t metadata) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
      "{%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
        "r"(metadata));
}

// Two 8 x 8 squares of 16-bit numbers in shared memory, transposed: lanes 0..15 give the addresses of their
// rows, 16 bytes each; lane 4 g + t gets rows 2t and 2t + 1 of column g.
FASTKAN_DEVICE void load_transposed(uint32_t (&pair)[2], const void* row) {
  const auto address = uint32_t(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(pair[0]), "=r"(pair[1])
               : "r"(address));
}

// ---- copies of 16 bytes into shared memory that go on while the thread works; groups end in order

FASTKAN_DEVICE void copy_async(void* shared, const void* global) {
  const auto address = uint32_t(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}
FASTKAN_DEVICE void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of this thread's groups are on their way.
template <int pending>
FASTKAN_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- launches

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

inline void check_cuda(cudaError_t status, const char* operation) {
  if (status != cudaSuccess)
    throw std::runtime_error("fastkan: CUDA " + std::string(operation) + ": " + cudaGetErrorString(status));
}

// Makes `device` current and puts the caller's device back: torch keeps its own idea of the current one.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(previous_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const char* name, int device, void* stream, Grid grid, int threads,
            size_t shared_bytes, const Arguments&... arguments) {
  const DeviceGuard guard(device);
  if (shared_bytes > 48 * 1024)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
               name);
  std::tuple<Parameters...> values(
      arguments...);  // of the kernel's own types, which it reads through pointers
  std::apply(
      [&](Parameters&... each) {
        void* pointers[] = {&each...};
        check_cuda(cudaLaunchKernel(kernel, dim3(grid.x, grid.y, grid.z), dim3(unsigned(threads)), pointers,
                                    shared_bytes, static_cast<cudaStream_t>(stream)),
                   name);
      },
      values);
}

}  // namespace fastkan
#endif
