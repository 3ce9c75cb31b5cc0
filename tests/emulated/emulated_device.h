// csrc/cuda/device.h on the CPU: the same names, for kernels compiled as C++ with -DFASTKAN_EMULATED_DEVICE.
// What a GPU would refuse or get wrong by chance fails here, and the sanitizers see every CUDA thread by
// itself.
//
// Stricter than a GPU: every thread of a block must be alive and at the same line for a barrier; shuffles,
// mma and load_transposed order no memory (__syncwarp and __syncthreads do); shared memory starts as NaN, and
// so does what an asynchronous copy will write, until it is waited for.
#pragma once

#include <mutex>
#include <tuple>

#include "emulated_block.h"
#include "emulated_mma.h"

#define FASTKAN_KERNEL(threads) void
#define FASTKAN_DEVICE inline

#define threadIdx (fastkan::emulated::current().index)
#define blockIdx (fastkan::emulated::current().block->index())
#define blockDim (fastkan::emulated::current().block->size())
#define gridDim (fastkan::emulated::current().block->grid())

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// ---- barriers and shuffles

inline void __syncthreads(fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  fastkan::emulated::current().block->meet(true, ~0u, "__syncthreads", site, true, nullptr, [](auto&) {});
}

inline int __syncthreads_or(int predicate, fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  int any = predicate;
  fastkan::emulated::current().block->meet(true, ~0u, "__syncthreads_or", site, true, &any,
                                           [](auto& brought) {
                                             int result = 0;
                                             for (void* const each : brought)
                                               result |= *static_cast<int*>(each);
                                             for (void* const each : brought)
                                               *static_cast<int*>(each) = result != 0;
                                           });
  return any;
}

inline void __syncwarp(unsigned mask = ~0u, fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  fastkan::emulated::current().block->meet(false, mask, "__syncwarp", site, true, nullptr, [](auto&) {});
}

namespace fastkan {
namespace emulated {

struct Turn {
  const void* value;
  void* result;
  unsigned source;
};

// Each lane's result is the value of its source lane, which must be in the mask.
template <class T>
T shuffle(const char* what, Site site, unsigned mask, T value, unsigned source) {
  T result = value;
  Turn own{&value, &result, source};
  current().block->meet(false, mask, what, site, false, &own, [&](const std::vector<void*>& brought) {
    for (void* const each : brought) {
      if (!each) continue;
      const auto& turn = *static_cast<const Turn*>(each);
      const auto* const from = static_cast<const Turn*>(brought[turn.source]);
      if (!from) current().block->fail(std::string(what) + " from a lane outside the mask at " + site.text());
      std::memcpy(turn.result, from->value, sizeof(T));
    }
  });
  return result;
}

}  // namespace emulated
}  // namespace fastkan

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  const unsigned lane = fastkan::emulated::current().lane(), segment = lane & ~(unsigned(width) - 1);
  return fastkan::emulated::shuffle("__shfl_sync", site, mask, value,
                                    segment | (unsigned(source) % unsigned(width)));
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  const unsigned lane = fastkan::emulated::current().lane(), source = lane ^ unsigned(lanes);
  const unsigned end = (lane & ~(unsigned(width) - 1)) + unsigned(width);
  return fastkan::emulated::shuffle("__shfl_xor_sync", site, mask, value, source < end ? source : lane);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                   fastkan::emulated::Site site = fastkan::emulated::Site::here()) {
  const unsigned lane = fastkan::emulated::current().lane(), source = lane + lanes;
  const unsigned end = (lane & ~(unsigned(width) - 1)) + unsigned(width);
  return fastkan::emulated::shuffle("__shfl_down_sync", site, mask, value, source < end ? source : lane);
}

namespace fastkan {

// ---- single instructions; the approximate ones are exact here, but for subnormal numbers

namespace emulated {

inline float without_subnormal(float value) {
  return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value;
}

}  // namespace emulated

inline float exp2_approximate(float x) {
  return emulated::without_subnormal(std::exp2(emulated::without_subnormal(x)));
}
inline float reciprocal_approximate(float x) {
  return emulated::without_subnormal(1 / emulated::without_subnormal(x));
}

inline uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t both = low | uint64_t(high) << 32;
  uint32_t bytes = 0;
  for (unsigned n = 0; n < 4; ++n) {
    const uint32_t nibble = selector >> 4 * n & 15, byte = uint32_t(both >> 8 * (nibble & 7)) & 0xff;
    bytes |= (nibble < 8 ? byte : byte & 0x80 ? 0xff : 0) << 8 * n;
  }
  return bytes;
}

// ---- shared memory and copies

inline unsigned char* shared_memory() { return emulated::current().block->shared(); }

inline void load_transposed(uint32_t (&pair)[2], const void* row,
                            emulated::Site site = emulated::Site::here()) {
  struct Own {
    uint16_t row[8];
    uint32_t* pair;
  } own{{}, pair};
  emulated::Block& block = *emulated::current().block;
  if (emulated::current().lane() < 16) {  // the others' addresses are not used
    block.check_shared(row, 16, "load_transposed", site);
    std::memcpy(own.row, row, 16);
  }
  block.meet(false, ~0u, "load_transposed", site, false, &own, [](const std::vector<void*>& brought) {
    const auto of = [&](unsigned lane) { return static_cast<Own*>(brought[lane]); };
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned square = 0; square < 2; ++square) {
        const unsigned first = 8 * square + 2 * (lane % 4), column = lane / 4;
        of(lane)->pair[square] = of(first)->row[column] | uint32_t(of(first + 1)->row[column]) << 16;
      }
  });
}

inline void copy_async(void* shared, const void* global, emulated::Site site = emulated::Site::here()) {
  emulated::Thread& own = emulated::current();
  own.block->check_shared(shared, 16, "copy_async to", site);
  if (reinterpret_cast<uintptr_t>(global) % 16)
    own.block->fail("copy_async from an address not aligned to 16 bytes at " + site.text());
  emulated::Copy copy{static_cast<unsigned char*>(shared), {}, own.groups};
  std::memcpy(copy.bytes.data(), global, 16);
  std::memset(shared, 0xff, 16);
  own.copies.push_back(copy);
}

inline void end_copy_group() { ++emulated::current().groups; }

template <int pending>
void wait_for_copies() {
  emulated::Thread& own = emulated::current();
  std::vector<emulated::Copy> later;
  for (const emulated::Copy& copy : own.copies)
    if (copy.group < own.groups - pending)
      std::memcpy(copy.to, copy.bytes.data(), 16);
    else
      later.push_back(copy);
  own.copies.swap(later);
}

// ---- launches

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

namespace emulated {

inline void check_launch(const std::string& name, Grid grid, int threads, size_t shared_bytes) {
  constexpr size_t kShared = 101'376;  // of compute capability 8.6, 8.9 and 12.0, which have least
  const auto refuse = [&](const std::string& what) {
    throw std::runtime_error("fastkan: emulated device: " + name + ": " + what);
  };
  if (!grid.x || !grid.y || !grid.z) refuse("an empty grid");
  if (grid.x > 0x7fffffff || grid.y > 65'535 || grid.z > 65'535) refuse("a grid past the limits");
  if (threads < 1 || threads > 1024) refuse(std::to_string(threads) + " threads in a block");
  if (shared_bytes > kShared) refuse(std::to_string(shared_bytes) + " bytes of shared memory");
}

inline std::mutex one_launch_at_a_time;  // whichever host threads they come from

}  // namespace emulated

// Blocks run one after another, forwards or backwards.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const char* name, int, void*, Grid grid, int threads,
            size_t shared_bytes, const Arguments&... arguments) {
  const std::lock_guard<std::mutex> lock(emulated::one_launch_at_a_time);
  emulated::check_launch(name, grid, threads, shared_bytes);
  const std::tuple<Parameters...> parameters(arguments...);
  const std::function<void()> body = [&] { std::apply(kernel, parameters); };
  emulated::happened(&emulated::launch_begins);
  {
    const emulated::Unwatched emulator;
    const uint64_t count = uint64_t(grid.x) * grid.y * grid.z;
    const bool backwards = emulated::chance()() % 2;
    for (uint64_t number = 0; number < count; ++number) {
      const uint64_t block = backwards ? count - 1 - number : number;
      const emulated::Index index{unsigned(block % grid.x), unsigned(block / grid.x % grid.y),
                                  unsigned(block / grid.x / grid.y)};
      emulated::Block(index, {grid.x, grid.y, grid.z}, unsigned(threads), shared_bytes).run(body);
    }
  }
  emulated::after(&emulated::launch_ends);
}

}  // namespace fastkan
