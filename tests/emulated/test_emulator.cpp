// The emulated device itself: test_emulator CASE runs one small kernel, which is right, or wrong in one way.
// Prints "right" or "wrong" about its answer, or what the emulator says against it.
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "device.h"

namespace fastkan {
namespace {

constexpr int kThreads = 64;

// ---- barriers

// out[i] = the left neighbour's number
template <bool barrier>
FASTKAN_KERNEL(kThreads)
neighbours(int* out) {
  int* const shared = reinterpret_cast<int*>(shared_memory());
  const unsigned i = threadIdx.x, first = blockIdx.x * blockDim.x;
  shared[i] = int(first + i);
  if (barrier) __syncthreads();
  out[first + i] = shared[(i + kThreads - 1) % kThreads];
}

template <bool barrier>
bool neighbours_are_right() {
  std::vector<int> out(3 * kThreads);
  launch(neighbours<barrier>, "neighbours", 0, nullptr, Grid{3}, kThreads, kThreads * sizeof(int),
         out.data());
  for (int i = 0; i < 3 * kThreads; ++i)
    if (out[size_t(i)] != i / kThreads * kThreads + (i + kThreads - 1) % kThreads) return false;
  return true;
}

// The same within warps, with a shuffle between write and read, which orders no memory.
template <bool barrier>
FASTKAN_KERNEL(kThreads)
warp_neighbours(int* out) {
  int* const shared = reinterpret_cast<int*>(shared_memory());
  const unsigned i = threadIdx.x, lane = i % 32;
  shared[i] = int(i);
  if (barrier) __syncwarp();
  out[i] = __shfl_xor_sync(~0u, shared[i - lane + (lane + 31) % 32], 0);
}

template <bool barrier>
bool warp_neighbours_are_right() {
  std::vector<int> out(kThreads);
  launch(warp_neighbours<barrier>, "warp_neighbours", 0, nullptr, Grid{}, kThreads, kThreads * sizeof(int),
         out.data());
  for (int i = 0; i < kThreads; ++i)
    if (out[size_t(i)] != i / 32 * 32 + (i + 31) % 32) return false;
  return true;
}

// All blocks write to out[0], or each its own; before a barrier or after it.
template <bool own, bool before>
FASTKAN_KERNEL(kThreads)
one_of_a_block(int* out) {
  if (!before) __syncthreads();
  if (threadIdx.x == 0) out[own ? blockIdx.x : 0] = 1;
  __syncthreads();
}

template <bool own, bool before>
bool blocks_write() {
  std::vector<int> out(3);
  launch(one_of_a_block<own, before>, "one_of_a_block", 0, nullptr, Grid{3}, kThreads, 0, out.data());
  return out[0] == 1 && out[1] == own && out[2] == own;
}

// Half of the threads miss the barrier: they end, wait at another one, or in a shuffle.
enum class Miss { nobody, ends, elsewhere, shuffles, warp };
template <Miss miss>
FASTKAN_KERNEL(kThreads)
diverge(int* out) {
  const bool absent = threadIdx.x % 2 && miss != Miss::nobody;
  if (miss == Miss::ends && absent) return;
  if (miss == Miss::elsewhere && absent) __syncthreads();
  if (miss == Miss::shuffles && absent) out[0] = __shfl_down_sync(~0u, 1, 2);
  if (miss == Miss::warp && absent) return;
  if (miss == Miss::warp) __syncwarp();
  __syncthreads();
  if (threadIdx.x == 0) out[0] = 1;
}

template <Miss miss>
bool diverges() {
  int out = 0;
  launch(diverge<miss>, "diverge", 0, nullptr, Grid{}, kThreads, 0, &out);
  return out == 1;
}

FASTKAN_KERNEL(kThreads) reduce(float* out, int* any) {
  float sum = float(threadIdx.x);
  for (int lanes = 16; lanes; lanes /= 2) sum += __shfl_down_sync(~0u, sum, unsigned(lanes));
  const float first = __shfl_sync(~0u, sum, 0), eighth = __shfl_sync(~0u, float(threadIdx.x), 1, 8);
  const float quad = __shfl_xor_sync(0xfu << (threadIdx.x % 32 / 4 * 4), float(threadIdx.x), 1, 4);
  out[threadIdx.x] = first + 1000 * eighth + 100000 * quad;
  any[threadIdx.x] = __syncthreads_or(threadIdx.x == 40) + 2 * __syncthreads_or(0);
}

bool reduces() {
  std::vector<float> out(kThreads);
  std::vector<int> any(kThreads);
  launch(reduce, "reduce", 0, nullptr, Grid{}, kThreads, 0, out.data(), any.data());
  bool right = true;
  for (int i = 0; i < kThreads; ++i)
    right &= any[size_t(i)] == 1 && out[size_t(i)] == float(i < 32 ? 496 : 1520) +
                                                          1000 * float(i / 8 * 8 + 1) + 100000 * float(i ^ 1);
  return right;
}

FASTKAN_KERNEL(kThreads) shuffle_from_outside(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffff, 1, 20);
}

bool shuffles_from_outside() {
  std::vector<int> out(kThreads);
  launch(shuffle_from_outside, "shuffle_from_outside", 0, nullptr, Grid{}, kThreads, 0, out.data());
  return true;
}

// ---- shared memory and copies

// The sum of shared memory that the kernel has written up to `written` and reads up to `read`.
FASTKAN_KERNEL(kThreads) fill_and_add(float* out, int written, int read) {
  float* const shared = reinterpret_cast<float*>(shared_memory());
  for (int i = int(threadIdx.x); i < written; i += kThreads) shared[i] = 1;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < read; ++i) sum += shared[i];
  out[threadIdx.x] = sum;
}

bool adds(int written, int read) {
  std::vector<float> out(kThreads);
  launch(fill_and_add, "fill_and_add", 0, nullptr, Grid{}, kThreads, 101 * sizeof(float), out.data(), written,
         read);
  return out[0] == 101;
}

// Each thread copies two groups of 4 numbers, waits, and reads its neighbour's first group and its own
// second.
struct Copying {
  int waited;             // groups that may still be on their way at the end: 0 is right
  int shared_offset = 0;  // in floats
  int global_offset = 0;
  bool second_wait = true;
};
FASTKAN_KERNEL(kThreads) copy(const float* in, float* out, Copying how) {
  float* const shared = reinterpret_cast<float*>(shared_memory());
  float *const first = shared + how.shared_offset, *const second = shared + 4 * kThreads;
  const unsigned i = threadIdx.x;
  copy_async(first + 4 * i, in + how.global_offset + 4 * i);
  end_copy_group();
  copy_async(second + 4 * i, in + 4 * kThreads + 4 * i);
  end_copy_group();
  if (how.waited == 0) wait_for_copies<0>();
  if (how.waited == 1) wait_for_copies<1>();
  if (how.waited == 2) wait_for_copies<2>();
  __syncthreads();
  float sum = first[4 * ((i + 1) % kThreads)];
  if (how.second_wait) wait_for_copies<0>();
  out[i] = sum + second[4 * i];
}

bool copies(Copying how) {
  struct alignas(16) Four {
    float value[4];
  };
  std::vector<Four> in(2 * kThreads + 1);
  std::vector<float> out(kThreads);
  float* const numbers = in[0].value;
  for (int i = 0; i < 8 * kThreads; ++i) numbers[i] = float(i);
  launch(copy, "copy", 0, nullptr, Grid{}, kThreads, 8 * kThreads * sizeof(float), numbers, out.data(), how);
  for (int i = 0; i < kThreads; ++i)
    if (out[size_t(i)] != float(4 * ((i + 1) % kThreads) + 4 * kThreads + 4 * i)) return false;
  return true;
}

// ---- launches

FASTKAN_KERNEL(1024) nothing() {}

bool launches(Grid grid, int threads, size_t shared_bytes) {
  launch(nothing, "nothing", 0, nullptr, grid, threads, shared_bytes);
  return true;
}

}  // namespace

bool products_are_right();
bool products_with(const std::string& fault);

}  // namespace fastkan

int main(int, char** arguments) {
  using namespace fastkan;
  const std::map<std::string, std::function<bool()>> cases = {
      {"barrier", neighbours_are_right<true>},
      {"no_barrier", neighbours_are_right<false>},
      {"warp_barrier", warp_neighbours_are_right<true>},
      {"no_warp_barrier", warp_neighbours_are_right<false>},
      {"own_output", blocks_write<true, true>},
      {"same_output_before_a_barrier", blocks_write<false, true>},
      {"same_output_after_a_barrier", blocks_write<false, false>},
      {"all_at_the_barrier", diverges<Miss::nobody>},
      {"some_end", diverges<Miss::ends>},
      {"some_at_another_barrier", diverges<Miss::elsewhere>},
      {"some_shuffle", diverges<Miss::shuffles>},
      {"some_of_a_warp_end", diverges<Miss::warp>},
      {"shuffles", reduces},
      {"shuffle_from_outside", shuffles_from_outside},
      {"shared", [] { return adds(101, 101); }},
      {"shared_not_written", [] { return adds(100, 101); }},
      {"shared_overrun", [] { return adds(101, 102); }},
      {"copies", [] { return copies({0}); }},
      {"copies_in_order", [] { return copies({1}); }},
      {"copies_not_awaited", [] { return copies({2}); }},
      {"copies_at_the_end", [] { return copies({1, 0, 0, false}); }},
      {"copy_to_misaligned", [] { return copies({0, 1}); }},
      {"copy_from_misaligned", [] { return copies({0, 0, 1}); }},
      {"copy_outside_shared", [] { return copies({0, 1 << 20}); }},
      {"launch", [] { return launches({}, 1024, 101'376) && launches({2, 3, 4}, 32, 0); }},
      {"empty_grid", [] { return launches({1, 0}, 32, 0); }},
      {"wide_grid", [] { return launches({1, 65'536}, 32, 0); }},
      {"many_threads", [] { return launches({}, 1025, 0); }},
      {"much_shared_memory", [] { return launches({}, 32, 101'377); }},
      {"products", products_are_right},
      {"metadata_not_in_order", [] { return products_with("metadata"); }},
      {"not_tf32", [] { return products_with("tf32"); }},
      {"misaligned_row", [] { return products_with("row"); }},
  };
  try {
    std::puts(cases.at(arguments[1])() ? "right" : "wrong");
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
  }
}
