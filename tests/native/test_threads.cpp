// parallel_for's promises, and operations called from several threads at once with threads of their own.
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include "cpu/parallel.h"
#include "operations.h"

namespace fastkan::test {
namespace {

constexpr int kCallers = 4, kThreads = 3;

void test_every_index_once() {
  for (const int64_t count : {0, 1, 2, 7, 100})
    for (const int threads : {1, 2, 3, 8}) {
      std::vector<std::atomic<int>> calls(count);
      parallel_for(count, threads, [&](int64_t i) { ++calls[i]; });
      for (int64_t i = 0; i < count; ++i) CHECK(calls[i] == 1, "index %ld of %ld", long(i), long(count));
    }
}

void test_an_exception_arrives() {
  for (const int threads : {1, 3}) {
    std::string message;
    try {
      parallel_for(20, threads, [](int64_t i) {
        if (i == 11) throw std::runtime_error("task 11");
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message == "task 11", "%d threads: '%s'", threads, message.c_str());
  }
}

// A parallel_for inside another one ends, and has no more threads at work than the outer one asked for.
void test_nested() {
  std::atomic<int> calls{0}, active{0}, peak{0};
  parallel_for(kThreads * 2, kThreads, [&](int64_t) {
    parallel_for(8, kThreads, [&](int64_t) {
      const int now = ++active;
      for (int seen = peak; seen < now && !peak.compare_exchange_weak(seen, now);) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --active;
      ++calls;
    });
  });
  CHECK(calls == kThreads * 2 * 8, "%d calls", calls.load());
  CHECK(peak <= kThreads, "%d threads at once for %d", peak.load(), kThreads);
}

template <class T>
Case<T> make_case(int64_t batch, int64_t in_features, int64_t out_features) {
  Case<T> c({batch, in_features, out_features, 12, 3, Activation::silu, 0, 1}, true);
  const std::vector<T> knots = make_knots<T>(Spacing::uniform, 5, 3);
  for (int64_t n = 0; n < c.knots.size(); ++n) c.knots[n] = knots[n % c.problem.num_knots];
  for (T& x : c.x) x = T(uniform(-2, 2));
  return c;
}

// The callers share the inputs and come first: whatever is set up at the first call is set up under
// contention.
template <class T>
void test_callers(int64_t batch, int64_t in_features, int64_t out_features) {
  Case<T> c = make_case<T>(batch, in_features, out_features);
  c.together = batch % 2;
  std::vector<Results<T>> answers(kCallers);
  std::vector<std::thread> callers;
  for (int n = 0; n < kCallers; ++n)
    callers.emplace_back([&, n] {
      for (int repeat = 0; repeat < 3; ++repeat) answers[n] = on_cpu(c, kThreads);
    });
  for (std::thread& caller : callers) caller.join();

  const Results<T> expected = on_cpu(c, 1);
  for (const Results<T>& answer : answers) check_same_bits(answer, expected);

  parallel_for(kCallers, kThreads, [&](int64_t n) { answers[n] = on_cpu(c, kThreads); });
  for (const Results<T>& answer : answers) check_same_bits(answer, expected);
}

}  // namespace
}  // namespace fastkan::test

int main() {
  fastkan::test::test_callers<float>(601, 17, 20);  // enough work for more than one thread
  fastkan::test::test_callers<double>(600, 17, 20);
  fastkan::test::test_callers<float>(8193, 2, 20);  // grad_weight in parts
  fastkan::test::test_callers<float>(2049, 9, 4);   // few outputs: in lanes, where there is AVX-512
  fastkan::test::test_callers<double>(2049, 9, 4);
  fastkan::test::test_every_index_once();
  fastkan::test::test_an_exception_arrives();
  fastkan::test::test_nested();
  std::puts("ok");
}
