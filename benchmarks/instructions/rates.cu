// How fast an NVIDIA GPU multiplies: dense and 2:4 sparse, by a warp (mma) and on Hopper by a warpgroup
// (wgmma with the left operand in registers), with and without copies into shared memory beside it. JSON on
// stdout; rates.py makes wgmma.h and runs this.
#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "cuda/device.h"
#include "wgmma.h"

namespace {

using fastkan::check_cuda;

constexpr int kRounds = 4000, kCopied = 16384;  // bytes of shared memory that copies go round in
constexpr uint32_t kMetadata = 0x99999999u;     // elements 1 and 2 of every four

struct Result {
  long long clocks, copied;  // of block 0: while it multiplied, and bytes that came meanwhile
};

// Copies 16 bytes a lane, over and over, until the others are done.
__device__ void copy_on(unsigned char* shared, const unsigned char* source, volatile int* done,
                        Result* result) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  long long copied = 0;
  for (int at = 512 * (warp % 8); *done == 0; at = (at + 4096) % kCopied) {
    fastkan::copy_async(shared + at + 16 * lane, source + (blockIdx.x % 64) * kCopied + at + 16 * lane);
    fastkan::end_copy_group();
    fastkan::wait_for_copies<6>();
    copied += 512;
  }
  fastkan::wait_for_copies<0>();
  if (blockIdx.x == 0 && lane == 0) atomicAdd(reinterpret_cast<unsigned long long*>(&result->copied), copied);
}

struct Setting {
  const unsigned char* source;
  float* out;
  Result* result;
};

// The first `multiplying` threads run multiply(), the others copy.
template <class Multiply>
__device__ void side_by_side(const Setting& setting, unsigned char* copied, int multiplying,
                             const Multiply& multiply) {
  __shared__ int done;
  if (threadIdx.x == 0) done = 0;
  __syncthreads();
  if (int(threadIdx.x) >= multiplying) return copy_on(copied, setting.source, &done, setting.result);
  const long long begin = clock64();
  const float sum = multiply();
  const long long end = clock64();
  setting.out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
  if (threadIdx.x == 0) {
    done = 1;
    if (blockIdx.x == 0) setting.result->clocks = end - begin;
  }
}

// 4 warps, each with 2 x 16 products of 16 x 8, as the large tile of csrc/cuda/two_four
template <bool sparse>
__global__ void __launch_bounds__(384) warps(const Setting setting) {
  side_by_side(setting, fastkan::shared_memory(), 128, [&] {
    const auto* const words = reinterpret_cast<const uint32_t*>(setting.source) + 4 * threadIdx.x;
    uint32_t a[2][4], b[4];
    for (int k = 0; k < 4; ++k) a[0][k] = words[k], a[1][k] = words[k + 512], b[k] = words[k + 1024];
    const uint32_t pair[2] = {b[0], b[1]};
    float d[2][16][4] = {};
    for (int round = 0; round < kRounds; ++round)
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (sparse)
            fastkan::mma_two_four_float16(d[i][j], a[i], b, kMetadata);
          else
            fastkan::mma_float16(d[i][j], a[i], pair);
    float sum = 0;
    for (int j = 0; j < 16; ++j) sum += d[0][j][0] + d[1][j][3];
    return sum;
  });
}

#ifdef FASTKAN_WGMMA
__device__ uint64_t descriptor(const void* tile) {  // rows of 128 swizzled bytes
  const auto address = uint64_t(__cvta_generic_to_shared(tile));
  return (address & 0x3ffff) >> 4 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

// 2 warpgroups with a product of 64 x N each
template <bool sparse, int N>
__global__ void __launch_bounds__(384) groups(const Setting setting) {
  unsigned char* const shared = fastkan::shared_memory();
  unsigned char* const tile = shared + (1024 - __cvta_generic_to_shared(shared) % 1024) % 1024;
  for (int k = threadIdx.x; k < N * 8; k += blockDim.x)
    reinterpret_cast<uint4*>(tile)[k] = reinterpret_cast<const uint4*>(setting.source)[k % 1024];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  side_by_side(setting, tile + N * 128, 256, [&] {
    const auto* const words = reinterpret_cast<const uint32_t*>(setting.source) + 4 * threadIdx.x;
    uint32_t a[4];
    for (int k = 0; k < 4; ++k) a[k] = words[k];
    const uint64_t first = descriptor(tile), second = descriptor(tile + 64);
    float d[N / 2] = {};
    for (int round = 0; round < kRounds; ++round) {
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      wgmma<sparse, N>(d, a, round % 2 ? second : first, kMetadata);
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    float sum = 0;
    for (int k = 0; k < N / 2; ++k) sum += d[k];
    return sum;
  });
}
#endif

float median_milliseconds(void (*kernel)(Setting), int blocks, int threads, int shared,
                          const Setting& setting) {
  cudaEvent_t begin, end;
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
             "shared memory");
  std::vector<float> times;
  for (int run = 0; run < 12; ++run) {
    float milliseconds = 0;
    check_cuda(cudaMemset(setting.result, 0, sizeof(Result)), "memset");
    check_cuda(cudaEventRecord(begin), "event");
    kernel<<<blocks, threads, shared>>>(setting);
    check_cuda(cudaEventRecord(end), "event");
    check_cuda(cudaEventSynchronize(end), "a kernel");
    check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "event");
    if (run > 2) times.push_back(milliseconds);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

class Probe {
 public:
  explicit Probe(int processors) : processors_(processors) {
    check_cuda(cudaMalloc(&source_, 64 * kCopied), "memory");
    check_cuda(cudaMalloc(&setting_.out, size_t(processors) * 384 * sizeof(float)), "memory");
    check_cuda(cudaMalloc(&setting_.result, sizeof(Result)), "memory");
    setting_.source = source_;
  }

  // Every 16-bit number of the operands: normal ones, or 0, which takes less power.
  void fill(bool zeros) {
    std::mt19937 generator(1);
    std::vector<uint16_t> numbers(64 * kCopied / 2);
    for (auto& number : numbers)
      number = zeros ? 0 : uint16_t((generator() & 0x83ff) | (10 + generator() % 4) << 10);
    check_cuda(cudaMemcpy(source_, numbers.data(), 64 * kCopied, cudaMemcpyHostToDevice), "copy");
    operands_ = zeros ? "zeros" : "random";
  }

  // `products` multiply-adds in a round of a block of `multiplying` threads, by `each` instructions a
  // processor
  void run(const char* name, void (*kernel)(Setting), int multiplying, int shared, double products,
           int each) {
    for (const int copying : {0, 1, 2, 4}) {
      const float time =
          median_milliseconds(kernel, processors_, multiplying + 32 * copying, shared, setting_);
      Result result;
      check_cuda(cudaMemcpy(&result, setting_.result, sizeof result, cudaMemcpyDeviceToHost), "copy");
      std::printf(
          "%s\n  {\"instruction\": \"%s\", \"operands\": \"%s\", \"copying_warps\": %d, \"teraflops\": %.1f, "
          "\"clocks\": %.2f, \"copied_bytes_per_clock\": %.1f}",
          first_ ? "" : ",", name, operands_, copying, 2e-9 * products * kRounds * processors_ / time,
          double(result.clocks) / kRounds / each, double(result.copied) / double(result.clocks));
      first_ = false;
    }
  }

 private:
  int processors_;
  unsigned char* source_ = nullptr;
  Setting setting_ = {};
  const char* operands_ = "";
  bool first_ = true;
};

#ifdef FASTKAN_WGMMA
template <bool sparse, int N>
void run_group(Probe& probe) {
  char name[64];
  std::snprintf(name, sizeof name, "wgmma%s m64n%dk%d", sparse ? ".sp" : "", N, sparse ? 32 : 16);
  probe.run(name, groups<sparse, N>, 256, N * 128 + kCopied + 1024, 2.0 * 64 * N * (sparse ? 32 : 16), 2);
}
#endif

}  // namespace

int main() try {
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf(
      "{\"device\": \"%s\", \"processors\": %d,\n \"unit\": \"clocks per instruction and tensor core (mma) "
      "or "
      "processor (wgmma)\",\n \"rates\": [",
      properties.name, properties.multiProcessorCount);
  Probe probe(properties.multiProcessorCount);
  for (const bool zeros : {false, true}) {
    probe.fill(zeros);
    probe.run("mma m16n8k16", warps<false>, 128, kCopied, 4.0 * 32 * 16 * 8 * 16, 32);
    probe.run("mma.sp m16n8k32", warps<true>, 128, kCopied, 4.0 * 32 * 16 * 8 * 32, 32);
#ifdef FASTKAN_WGMMA
    run_group<false, 128>(probe);
    run_group<true, 128>(probe);
    run_group<true, 192>(probe);
    run_group<false, 256>(probe);
    run_group<true, 256>(probe);
#endif
  }
  std::printf("\n]}\n");
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
