// The CPU core and the bodies of the CUDA kernels, element by element on the host, against the definitions.
#include "cuda/elements.h"
#include "operations.h"

namespace fastkan::test {
namespace {

template <class T>
Case<T> make_case(const Problem& problem, Spacing spacing, bool weighted) {
  Case<T> c(problem, weighted);
  const int64_t I = problem.in_features, K = problem.num_knots;
  for (int64_t i = 0; i < I; ++i) {
    const std::vector<T> own = make_knots<T>(spacing, int(K) - 2 * problem.degree - 1, problem.degree);
    std::copy(own.begin(), own.end(), c.knots.begin() + i * K);
  }
  for (int64_t n = 0; n < c.x.size(); ++n)  // half of the points are knots of their input
    c.x[n] = n % 2 ? c.knots[n % I * K + n % K] : T(uniform(-2, 2));
  return c;
}

template <class T, class Element>
void for_every_index(Buffer<T>& out, const Element& element) {
  for (int64_t index = 0; index < out.size(); ++index) out[index] = element(index);
}

template <class T>
Results<T> by_cuda_bodies(const Case<T>& c) {
  Results<T> out = make_results<T>(c.problem, T(7));
  const T *x = c.x.data(), *knots = c.knots.data();
  for_every_index(out[kForward], ForwardElement<T>{c.problem, x, c.weight.data(), c.factors(), knots});
  for_every_index(out[kGradInput], GradInputElement<T>{c.problem, x, c.weight.data(), c.g.data(), knots});
  for_every_index(out[kGradWeight], GradWeightElement<T>{c.problem, x, c.g.data(), c.factors(), knots});
  for_every_index(out[kGram], GramElement<T>{c.problem, x, c.factors(), knots});
  for_every_index(out[kQuadratic], QuadraticElement<T>{c.problem, x, c.form.data(), knots});
  return out;
}

template <class T>
void test_case(const Problem& problem, Spacing spacing, bool weighted) {
  const Case<T> c = make_case<T>(problem, spacing, weighted);
  const Results<Sum> expected = by_definition(c);
  const Results<T> serial = on_cpu(c, 1);
  check_close(serial, expected);
  check_close(by_cuda_bodies(c), expected);
  check_same_bits(serial, on_cpu(c, 4));
}

// A NaN makes its row, its input's gradients and its own element NaN, and nothing else, whatever the base and
// the order.
template <class T>
void test_nan(Base base, int64_t nu) {
  const Problem problem{3, 2, 4, 12, 3, base, nu, 0};
  Case<T> c = make_case<T>(problem, Spacing::uniform, true);
  c.x[1 * 2 + 1] = std::numeric_limits<T>::quiet_NaN();  // row 1, input 1
  for (const Results<T>& out : {on_cpu(c, 1), by_cuda_bodies(c)}) {
    const auto expect = [&](Operation op, const auto& is_nan) {
      for (int64_t n = 0; n < out[op].size(); ++n)
        CHECK(std::isnan(out[op][n]) == is_nan(n), "%s[%ld]", kNames[op], long(n));
    };
    expect(kForward, [](int64_t n) { return n / 4 == 1; });
    expect(kGradInput, [](int64_t n) { return n == 3; });
    expect(kQuadratic, [](int64_t n) { return n == 3; });
    expect(kGradWeight, [&](int64_t n) { return n >= out[kGradWeight].size() / 2; });
    expect(kGram, [&](int64_t n) { return n >= out[kGram].size() / 2; });
  }
}

template <class T>
void test_type() {
  const int64_t shapes[][3] = {{0, 2, 3},  {3, 0, 2},   {3, 2, 0},   {1, 1, 1},
                               {33, 3, 5}, {70, 34, 3}, {3, 2, 515}, {259, 2, 3}};
  int n = 0;
  for (const auto& shape : shapes)
    for (const int degree : {1, 3, 8})
      for (const int grid : {1, 5, 16}) {
        const auto base = Base(n % 6);
        const Problem problem{shape[0], shape[1], shape[2], grid + 2 * degree + 1,
                              degree,   base,     n % 5,    n % 3};
        test_case<T>(problem, Spacing(n % 3), n % 2 == 0);
        ++n;
      }
  for (const Base base : {Base::silu, Base::zero, Base::relu})
    for (const int64_t nu : {0, 1, 4}) test_nan<T>(base, nu);
}

}  // namespace
}  // namespace fastkan::test

int main() {
  fastkan::test::test_type<float>();
  fastkan::test::test_type<double>();
  std::puts("ok");
}
