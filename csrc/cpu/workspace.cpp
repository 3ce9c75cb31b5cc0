#include <cstdlib>
#include <new>

#include "parallel.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastkan {
namespace {

constexpr size_t kPage = 4096;

struct Kept {
  char* allocated = nullptr;
  size_t size = 0;
  ~Kept() { std::free(allocated); }
};

}  // namespace

char* workspace(size_t bytes) {
  thread_local Kept kept;
  if (bytes > kept.size || !kept.allocated) {
    std::free(kept.allocated);
    kept.allocated = static_cast<char*>(std::malloc(bytes + kPage));
    kept.size = kept.allocated ? bytes : 0;
    if (!kept.allocated) throw std::bad_alloc();
  }
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(kept.allocated);
  return kept.allocated + (kPage - address % kPage);
}

void prefer_huge_pages(void* data, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kHuge = std::uintptr_t(1) << 21;
  if (bytes < 4 * kHuge) return;  // allocators keep smaller ones, whose pages are there
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t begin = (address + kHuge - 1) / kHuge * kHuge, end = (address + bytes) / kHuge * kHuge;
  madvise(reinterpret_cast<void*>(begin), end - begin,
          MADV_HUGEPAGE);  // advice: where refused, nothing changes
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace fastkan
