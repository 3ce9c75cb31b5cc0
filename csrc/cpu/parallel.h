// Threads, and the memory that each of them works in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace fastkan {

// Calls task(0) .. task(count - 1) in any order on up to `threads` threads. An exception of a task is
// rethrown here. Serial, without a parallel region, for one thread, without OpenMP, and in a forked child.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task);

// At least that many bytes, on a page of their own; the calling thread's until its next call, kept until it
// ends.
char* workspace(size_t bytes);

// Asks for huge pages where a result's memory is fresh: 4 KiB at a time its first pages cost 0.4 us a KiB.
void prefer_huge_pages(void* data, size_t bytes);

inline int64_t block_count(int64_t total, int64_t block) { return (total + block - 1) / block; }

}  // namespace fastkan
