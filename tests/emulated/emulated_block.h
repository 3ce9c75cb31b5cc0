// A block of CUDA threads, one fiber each. A thread runs until it waits for others; who runs next is drawn,
// so that a barrier left out shows. What can never go on is a failure that names the place.
#pragma once

#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fibers.h"

namespace fastkan::emulated {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// Where a kernel calls something, as a default argument.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Site& other) const { return line == other.line && !std::strcmp(file, other.file); }
  std::string text() const { return std::string(file) + ":" + std::to_string(line); }
};

// 16 bytes on their way into shared memory.
struct Copy {
  unsigned char* to;
  std::array<unsigned char, 16> bytes;
  int group;
};

class Block;
struct Thread {
  Index index;
  unsigned number = 0;  // in its block
  Block* block = nullptr;
  Fiber* fiber = nullptr;
  std::vector<Copy> copies;
  int groups = 0;  // of copies, ended

  unsigned lane() const { return number % 32; }
};

inline Thread* running = nullptr;
FASTKAN_UNWATCHED inline Thread& current() { return *running; }
inline Crews crews;
inline char launch_begins, launch_ends;  // events

inline std::minstd_rand& chance() {
  static std::minstd_rand generator = [] {
    const char* const seed = std::getenv("FASTKAN_EMULATED_SEED");
    return std::minstd_rand(seed ? unsigned(std::atoi(seed)) : 1);
  }();
  return generator;
}

// Threads that wait for each other at one place: what each brings, by its number in the group, null for those
// that are not called.
struct Meeting {
  const char* what;
  Site site;
  unsigned mask;
  size_t called, arrived = 0;
  std::vector<void*> brought;
  std::vector<Thread*> present;
};

// A block or a warp, with the meetings that not all have reached.
struct Group {
  const char* name;
  size_t first, size;
  std::vector<std::shared_ptr<Meeting>> open;
};

class Block {
 public:
  Block(Index index, Index grid, unsigned threads, size_t shared_bytes) : index_(index), grid_(grid) {
    if (posix_memalign(&shared_, 128, shared_bytes ? shared_bytes : 1)) throw std::bad_alloc();
    std::memset(shared_, 0xff, shared_bytes);  // NaN in every format
    shared_bytes_ = shared_bytes;
    threads_.resize(threads);
    all_ = {"block", 0, threads, {}};
    for (size_t first = 0; first < threads; first += 32) warps_.push_back({"warp", first, 32, {}});
  }
  ~Block() { std::free(shared_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // body() in every thread; throws if not all come to an end.
  void run(const std::function<void()>& body);

  // Waits until all of the block, or those of the warp that `mask` names, have called this at the same place.
  // The last one to come calls together(what each has brought). Only where `orders` are reads and writes
  // before it seen after it.
  template <class Together>
  void meet(bool whole, unsigned mask, const char* what, Site site, bool orders, void* brings,
            const Together& together);

  [[noreturn]] void fail(const std::string& what) {
    const Thread& own = current();
    failure_ = what + ", " + name(own);
    for (;;) current().fiber->leave();
  }
  // That [low, low + bytes) is shared memory, aligned to 16 bytes.
  void check_shared(const void* low, size_t bytes, const char* what, Site site) {
    const auto begin = reinterpret_cast<uintptr_t>(shared_), at = reinterpret_cast<uintptr_t>(low);
    if (at < begin || at + bytes > begin + shared_bytes_)
      fail(what + (" outside shared memory at " + site.text()));
    if (at % 16) fail(what + (": an address not aligned to 16 bytes at " + site.text()));
  }

  unsigned char* shared() const { return static_cast<unsigned char*>(shared_); }
  const Index& index() const { return index_; }
  const Index& grid() const { return grid_; }
  Index size() const { return {unsigned(threads_.size()), 1, 1}; }

 private:
  static void enter() {
    current().fiber->arrived();
    Block& own = *current().block;
    after(&launch_begins);
    (*own.body_)();
    own.ended();
    for (;;) current().fiber->leave();
  }
  void ended() {
    const Unwatched own;
    if (!current().copies.empty()) fail("a thread ended with copies on their way");
    --alive_;
    happened(&launch_ends);
  }
  std::string name(const Thread& thread) const {
    const auto& [x, y, z] = index_;
    return "thread " + std::to_string(thread.number) + " of block (" + std::to_string(x) + ", " +
           std::to_string(y) + ", " + std::to_string(z) + ")";
  }
  std::string deadlock() const;
  std::shared_ptr<Meeting> join(Group& group, Thread& own, unsigned mask, const char* what, Site site);
  void close(Group& group, const Meeting& meeting);

  Index index_, grid_;
  void* shared_ = nullptr;
  size_t shared_bytes_ = 0, alive_ = 0;
  std::vector<Thread> threads_;
  std::vector<Thread*> ready_;
  Group all_;
  std::vector<Group> warps_;
  const std::function<void()>* body_ = nullptr;
  std::string failure_;
};

inline void Block::run(const std::function<void()>& body) {
  body_ = &body;
  alive_ = threads_.size();
  Crews::Crew& crew = crews.next(unsigned(chance()()));
  while (crew.size() < threads_.size()) crew.emplace_back();
  for (unsigned number = 0; number < threads_.size(); ++number) {
    Thread& thread = threads_[number];
    thread.index = {number, 0, 0};
    thread.number = number;
    thread.block = this;
    thread.fiber = &crew[number];
    thread.fiber->prepare(number, enter);
    ready_.push_back(&thread);
  }
  while (!ready_.empty() && failure_.empty()) {
    std::swap(ready_[chance()() % ready_.size()], ready_.back());
    running = ready_.back();
    ready_.pop_back();
    running->fiber->resume();
  }
  if (failure_.empty() && alive_) failure_ = deadlock();
  if (failure_.empty()) return;
  crew.clear();  // some never come to their end
  throw std::runtime_error("fastkan: emulated device: " + failure_);
}

// Who waits where, and for how many.
inline std::string Block::deadlock() const {
  std::string text = "threads wait for ever: " + std::to_string(threads_.size() - alive_) + " of " +
                     std::to_string(threads_.size()) + " have ended";
  const auto add = [&](const Group& group) {
    for (const auto& meeting : group.open)
      text += "; " + std::string(meeting->what) + " at " + meeting->site.text() + ", reached by " +
              std::to_string(meeting->arrived) + " of " + std::to_string(meeting->called) + " of a " +
              group.name + ", " + name(*meeting->present.front()) + " among them";
  };
  add(all_);
  for (const Group& warp : warps_) add(warp);
  return text;
}

inline std::shared_ptr<Meeting> Block::join(Group& group, Thread& own, unsigned mask, const char* what,
                                            Site site) {
  const bool warp = &group != &all_;
  if (warp && !(mask >> own.lane() & 1))
    fail(std::string(what) + " with a mask without the caller at " + site.text());
  for (const auto& meeting : group.open) {
    if (meeting->mask != mask) continue;
    if (meeting->site == site && !std::strcmp(meeting->what, what)) return meeting;
    fail(std::string(what) + " at " + site.text() + " while others of the " + group.name + " wait in " +
         meeting->what + " at " + meeting->site.text());
  }
  const size_t called = warp ? size_t(__builtin_popcount(mask)) : group.size;
  group.open.push_back(
      std::make_shared<Meeting>(Meeting{what, site, mask, called, 0, std::vector<void*>(group.size), {}}));
  return group.open.back();
}

inline void Block::close(Group& group, const Meeting& meeting) {
  ready_.insert(ready_.end(), meeting.present.begin(), meeting.present.end());
  for (auto& open : group.open)
    if (open.get() == &meeting) {
      std::swap(open, group.open.back());
      group.open.pop_back();
      return;
    }
}

template <class Together>
void Block::meet(bool whole, unsigned mask, const char* what, Site site, bool orders, void* brings,
                 const Together& together) {
  const Unwatched emulator;
  Thread& own = current();
  Group& group = whole ? all_ : warps_[own.number / 32];
  const std::shared_ptr<Meeting> meeting = join(group, own, mask, what, site);
  if (orders) happened(meeting.get());
  meeting->brought[own.number - group.first] = brings;
  meeting->present.push_back(&own);
  if (++meeting->arrived == meeting->called) {
    together(meeting->brought);
    close(group, *meeting);
  }
  own.fiber->leave();
  if (orders) after(meeting.get());
}

}  // namespace fastkan::emulated
