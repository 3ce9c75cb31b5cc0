#include "parallel.h"

#include <atomic>
#include <exception>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastkan {
namespace {

// A forked child inherits OpenMP's pool without its threads: the next parallel region would wait for them for
// ever.
[[maybe_unused]] std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

}  // namespace

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task) {
#if defined(_OPENMP)
  threads = int(std::min<int64_t>(threads, count));
  if (threads > 1 && !forked) {
    std::exception_ptr failure;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < count; ++i) {
      try {
        task(i);
      } catch (...) {
#pragma omp critical(fastkan_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  (void)threads;
  for (int64_t i = 0; i < count; ++i) task(i);
}

}  // namespace fastkan
