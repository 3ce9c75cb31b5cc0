// A thread's workspace, handed out piece by piece.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastkan {
namespace FASTKAN_ISA {

// Every piece starts on a cache line of its own. An arena that begins at null only measures.
class Arena {
 public:
  explicit Arena(char* begin) : begin_(begin) {}
  template <class T>
  T* take(int64_t count) {
    const size_t at = used_;
    used_ += (size_t(count) * sizeof(T) + 127) / 64 * 64;  // vectors may reach past the end
    return begin_ ? reinterpret_cast<T*>(begin_ + at) : nullptr;
  }
  size_t used() const { return used_; }

 private:
  char* begin_;
  size_t used_ = 0;
};

}  // namespace FASTKAN_ISA
}  // namespace fastkan
