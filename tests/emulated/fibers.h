// Stacks of their own on one OS thread, and switching between them.
#pragma once

#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cstdint>
#include <deque>
#include <new>

#include "sanitizers.h"

namespace fastkan::emulated {

// Where code goes on. switch_place leaves the present place in `from`.
#if defined(__x86_64__)
// By hand: swapcontext makes a system call each time. A place is a stack pointer with the registers that a
// call must preserve above it.
using Place = void*;

__attribute__((naked, noinline, no_sanitize("thread"), no_sanitize("address"))) inline void switch_place(
    Place* /*from*/, const Place* /*to*/) {
  asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
      "mov %rsp, (%rdi)\n mov (%rsi), %rsp\n"
      "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}

inline void make_place(Place& place, char* low, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(low + bytes);
  *--top = nullptr;  // no return address: entry never returns, and its stack is aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  place = top - 6;
}
#else
using Place = ucontext_t;

inline void switch_place(Place* from, const Place* to) { swapcontext(from, to); }

inline void make_place(Place& place, char* low, size_t bytes, void (*entry)()) {
  getcontext(&place);
  place.uc_stack.ss_sp = low;
  place.uc_stack.ss_size = bytes;
  place.uc_link = nullptr;
  makecontext(&place, entry, 0);
}
#endif

// Memory for a stack above a page that traps.
class Stack {
 public:
  Stack() {
    void* const memory =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    low_ = static_cast<char*>(memory);
    mprotect(low_, kGuard, PROT_NONE);
  }
  ~Stack() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(low_, kBytes);  // what never returned has left red zones
#endif
    munmap(low_, kBytes);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  char* low() const { return low_ + kGuard; }
  static constexpr size_t bytes() { return kBytes - kGuard; }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kBytes = 512 << 10;  // red zones
#else
  static constexpr size_t kBytes = 128 << 10;
#endif
  static constexpr size_t kGuard = 4096;
  char* low_;
};

// Code on a stack of its own that takes turns with whoever resumes it.
class Fiber {
 public:
  // The next resume() starts `entry`, which never returns: it ends in a last leave(). Tops of stacks are
  // spread over the sets of the cache.
  void prepare(unsigned number, void (*entry)()) {
    bytes_ = Stack::bytes() - number * 832 % 4096;
    make_place(place_, stack_.low(), bytes_, entry);
  }

  FASTKAN_UNWATCHED void resume() {
    resumer_identity_ = own_identity();
#if defined(__SANITIZE_ADDRESS__)
    void* frames = nullptr;
    __sanitizer_start_switch_fiber(&frames, stack_.low(), bytes_);
#endif
    become(identity_);
    switch_place(&resumer_, &place_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(frames, nullptr, nullptr);
#endif
  }

  // The first words of `entry`.
  void arrived() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(frames_, &resumer_stack_, &resumer_bytes_);
#endif
  }

  FASTKAN_UNWATCHED void leave() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&frames_, resumer_stack_, resumer_bytes_);
#endif
    become(resumer_identity_);
    switch_place(&place_, &resumer_);
    arrived();
  }

 private:
  Stack stack_;
  size_t bytes_ = 0;
  Place place_{}, resumer_{};
  Identity identity_ = new_identity(), resumer_identity_{};
#if defined(__SANITIZE_ADDRESS__)
  void* frames_ = nullptr;
  const void* resumer_stack_ = nullptr;
  size_t resumer_bytes_ = 0;
#endif
};

// Fibers outlive the blocks that they run, since it takes long to make one. What one did in an earlier block
// has happened before what it does now: for the thread sanitizer there are several sets, a different one than
// the last block's drawn for each block, so that it sees blocks as concurrent.
class Crews {
 public:
  using Crew = std::deque<Fiber>;

  Crew& next(unsigned drawn) {
    last_ = (last_ + 1 + drawn % (kCrews > 1 ? kCrews - 1 : 1)) % kCrews;
    return crews_[last_];
  }

 private:
  static constexpr unsigned kCrews = kWatchesThreads ? 3 : 1;
  unsigned last_ = 0;
  Crew crews_[kCrews];
};

}  // namespace fastkan::emulated
