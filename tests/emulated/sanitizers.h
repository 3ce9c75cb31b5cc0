// What the address and the thread sanitizer must be told about fibers. Without them nothing is left of it.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__
#endif
#endif

extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* stack, size_t bytes);
void __sanitizer_finish_switch_fiber(void* saved, const void** stack, size_t* bytes);
void __asan_unpoison_memory_region(const volatile void* low, size_t bytes);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

namespace fastkan::emulated {

#if defined(__SANITIZE_THREAD__)
#define FASTKAN_UNWATCHED __attribute__((no_sanitize("thread"), noinline))
constexpr bool kWatchesThreads = true;
#else
#define FASTKAN_UNWATCHED
constexpr bool kWatchesThreads = false;
#endif

// Who the thread sanitizer takes the running code for: an OS thread or a fiber. Becoming another one orders
// nothing; `happened` and `after` do.
#if defined(__SANITIZE_THREAD__)
using Identity = void*;
inline Identity own_identity() { return __tsan_get_current_fiber(); }
inline Identity new_identity() { return __tsan_create_fiber(0); }
FASTKAN_UNWATCHED inline void become(Identity identity) { __tsan_switch_to_fiber(identity, 1); }
inline void happened(void* event) { __tsan_release(event); }
inline void after(void* event) { __tsan_acquire(event); }
#else
struct Identity {};
inline Identity own_identity() { return {}; }
inline Identity new_identity() { return {}; }
inline void become(Identity) {}
inline void happened(void*) {}
inline void after(void*) {}
#endif

// While one lives, the emulator's own reads and writes are not taken for a CUDA thread's.
struct Unwatched {
#if defined(__SANITIZE_THREAD__)
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unwatched() {}
  ~Unwatched() {}
#endif
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace fastkan::emulated
