// parallel_for on std::thread: linked in place of csrc/cpu/parallel.cpp under the thread sanitizer, which
// does not see how GCC's libgomp waits and takes every parallel region for a race.
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/parallel.h"

namespace fastkan {
namespace {

thread_local bool inside = false;

}  // namespace

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  const auto work = [&] {
    const bool nested = std::exchange(inside, true);
    for (int64_t i = next++; i < count; i = next++) try {
        task(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(guard);
        failure = std::current_exception();
      }
    inside = nested;
  };
  std::vector<std::thread> helpers;
  for (int64_t n = inside ? threads : 1; n < std::min<int64_t>(threads, count); ++n)
    helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fastkan
