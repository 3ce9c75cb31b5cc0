#include <cstdlib>
#include <new>

#include "parallel.h"

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

}  // namespace fastkan
