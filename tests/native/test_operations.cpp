// The CPU core and the bodies of the CUDA kernels, element by element on the host, against the definitions
// and each other.
#include <cstring>

#include "cpu/cpu.h"
#include "cuda/elements.h"
#include "support.h"

namespace fastkan::test {
namespace {

template <class T>
struct Case {
  Problem problem;
  std::vector<T> x, weight, row_weight, g, form, knots;  // exact sizes: the sanitizer sees every overrun

  const T* factors() const { return row_weight.empty() ? nullptr : row_weight.data(); }
};

template <class T>
struct Results {
  std::vector<T> forward, grad_input, grad_weight, gram, quadratic;

  explicit Results(const Problem& p)
      : forward(p.batch * p.out_features, T(7)),  // what an operation leaves unwritten shows
        grad_input(p.batch * p.in_features, T(7)),
        grad_weight(p.in_features * p.slots() * p.out_features, T(7)),
        gram(p.in_features * p.slots() * p.slots(), T(7)),
        quadratic(p.batch * p.in_features, T(7)) {}
};

template <class T>
Case<T> make_case(const Problem& problem, Spacing spacing, bool weighted) {
  Case<T> c;
  c.problem = problem;
  const int grid = int(problem.num_knots) - 2 * problem.degree - 1;
  for (int64_t i = 0; i < problem.in_features; ++i) {
    const std::vector<T> own = make_knots<T>(spacing, grid, problem.degree);
    c.knots.insert(c.knots.end(), own.begin(), own.end());
  }
  for (int64_t n = 0; n < problem.batch * problem.in_features; ++n) {
    const int64_t i = n % problem.in_features;  // half of the points are knots of their input
    c.x.push_back(n % 2 ? c.knots[i * problem.num_knots + n % problem.num_knots] : T(uniform(-2, 2)));
  }
  const auto fill = [](std::vector<T>& values, int64_t count) {
    for (int64_t n = 0; n < count; ++n) values.push_back(T(uniform(-1, 1)));
  };
  fill(c.weight, problem.in_features * problem.slots() * problem.out_features);
  fill(c.g, problem.batch * problem.out_features);
  fill(c.form, problem.in_features * problem.slots() * problem.slots());
  if (weighted) fill(c.row_weight, problem.batch * problem.in_features);
  return c;
}

template <class T>
Results<T> on_cpu(const Case<T>& c, int threads) {
  Results<T> out(c.problem);
  const Cpu cpu{threads};
  cpu.forward(c.problem, c.x.data(), c.weight.data(), c.factors(), c.knots.data(), out.forward.data());
  cpu.grad_input(c.problem, c.x.data(), c.weight.data(), c.g.data(), c.knots.data(), out.grad_input.data());
  cpu.grad_weight(c.problem, c.x.data(), c.g.data(), c.factors(), c.knots.data(), out.grad_weight.data());
  cpu.gram(c.problem, c.x.data(), c.factors(), c.knots.data(), out.gram.data());
  cpu.quadratic(c.problem, c.x.data(), c.form.data(), c.knots.data(), out.quadratic.data());
  return out;
}

template <class T, class Element>
void for_every_index(std::vector<T>& out, const Element& element) {
  for (int64_t index = 0; index < int64_t(out.size()); ++index) out[index] = element(index);
}

template <class T>
Results<T> by_cuda_bodies(const Case<T>& c) {
  Results<T> out(c.problem);
  const T *x = c.x.data(), *knots = c.knots.data();
  for_every_index(out.forward, ForwardElement<T>{c.problem, x, c.weight.data(), c.factors(), knots});
  for_every_index(out.grad_input, GradInputElement<T>{c.problem, x, c.weight.data(), c.g.data(), knots});
  for_every_index(out.grad_weight, GradWeightElement<T>{c.problem, x, c.g.data(), c.factors(), knots});
  for_every_index(out.gram, GramElement<T>{c.problem, x, c.factors(), knots});
  for_every_index(out.quadratic, QuadraticElement<T>{c.problem, x, c.form.data(), knots});
  return out;
}

// f_m^(nu)(x[b,i]) as a dense [B, I, M] table
template <class T>
std::vector<double> slot_table(const Case<T>& c, int64_t nu) {
  const Problem& p = c.problem;
  std::vector<double> table;
  for (int64_t n = 0; n < p.batch * p.in_features; ++n) {
    const T* const first = c.knots.data() + n % p.in_features * p.num_knots;
    const std::vector<T> knots(first, first + p.num_knots);
    for (int m = 0; m < p.splines(); ++m)
      table.push_back(spline_by_definition(knots, p.degree, int(nu), m, double(c.x[n])));
    table.push_back(base_value(p.base, nu, double(c.x[n])));
  }
  return table;
}

template <class T>
Results<double> by_definition(const Case<T>& c) {
  const Problem& p = c.problem;
  const int64_t I = p.in_features, O = p.out_features, M = p.slots();
  const std::vector<double> left = slot_table(c, p.nu), right = slot_table(c, p.mu);
  Results<double> out(p);
  for (auto* part : {&out.forward, &out.grad_input, &out.grad_weight, &out.gram, &out.quadratic})
    std::fill(part->begin(), part->end(), 0);
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t i = 0; i < I; ++i)
      for (int64_t m = 0; m < M; ++m) {
        const double f = left[(b * I + i) * M + m], r = c.factors() ? c.row_weight[b * I + i] : 1;
        for (int64_t o = 0; o < O; ++o) {
          out.forward[b * O + o] += r * f * c.weight[(i * M + m) * O + o];
          out.grad_input[b * I + i] += f * c.weight[(i * M + m) * O + o] * c.g[b * O + o];
          out.grad_weight[(i * M + m) * O + o] += r * f * c.g[b * O + o];
        }
        for (int64_t n = 0; n < M; ++n) {
          const double h = right[(b * I + i) * M + n];
          out.gram[(i * M + m) * M + n] += r * f * h;
          out.quadratic[b * I + i] += f * h * c.form[(i * M + m) * M + n];
        }
      }
  return out;
}

template <class T, class U>
void check_close(const char* what, const std::vector<T>& values, const std::vector<U>& expected) {
  double scale = 1;
  for (const U value : expected) scale = std::max(scale, std::abs(double(value)));
  for (size_t n = 0; n < values.size(); ++n)
    CHECK(std::abs(double(values[n]) - double(expected[n])) <=
              100 * double(std::numeric_limits<T>::epsilon()) * scale,
          "%s[%zu] = %.9g, expected %.9g (scale %g)", what, n, double(values[n]), double(expected[n]), scale);
}

template <class T, class U>
void check_close(const Results<T>& values, const Results<U>& expected) {
  check_close("forward", values.forward, expected.forward);
  check_close("grad_input", values.grad_input, expected.grad_input);
  check_close("grad_weight", values.grad_weight, expected.grad_weight);
  check_close("gram", values.gram, expected.gram);
  check_close("quadratic", values.quadratic, expected.quadratic);
}

template <class T>
void check_same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  CHECK(a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0,
        "the number of threads changes the answer");
}

template <class T>
void test_case(const Problem& problem, Spacing spacing, bool weighted) {
  const Case<T> c = make_case<T>(problem, spacing, weighted);
  const Results<T> serial = on_cpu(c, 1), parallel = on_cpu(c, 4);
  check_close(serial, by_definition(c));
  check_close(by_cuda_bodies(c), serial);
  check_same_bits(serial.forward, parallel.forward);
  check_same_bits(serial.grad_input, parallel.grad_input);
  check_same_bits(serial.grad_weight, parallel.grad_weight);
  check_same_bits(serial.gram, parallel.gram);
  check_same_bits(serial.quadratic, parallel.quadratic);
}

// A NaN makes its row, its input's gradients and its own element NaN, and nothing else, whatever the base and
// the order.
template <class T>
void test_nan(Base base, int64_t nu) {
  const Problem problem{3, 2, 4, 12, 3, base, nu, 0};
  Case<T> c = make_case<T>(problem, Spacing::uniform, true);
  c.x[1 * 2 + 1] = std::numeric_limits<T>::quiet_NaN();  // row 1, input 1
  for (const Results<T>& out : {on_cpu(c, 1), by_cuda_bodies(c)}) {
    for (int64_t n = 0; n < 12; ++n)
      CHECK(std::isnan(out.forward[n]) == (n / 4 == 1), "forward[%ld]", long(n));
    for (int64_t n = 0; n < 6; ++n)
      CHECK(std::isnan(out.grad_input[n]) == (n == 3), "grad_input[%ld]", long(n));
    for (int64_t n = 0; n < 6; ++n)
      CHECK(std::isnan(out.quadratic[n]) == (n == 3), "quadratic[%ld]", long(n));
    for (size_t n = 0; n < out.grad_weight.size(); ++n)
      CHECK(std::isnan(out.grad_weight[n]) == (n >= out.grad_weight.size() / 2), "grad_weight[%zu]", n);
    for (size_t n = 0; n < out.gram.size(); ++n)
      CHECK(std::isnan(out.gram[n]) == (n >= out.gram.size() / 2), "gram[%zu]", n);
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
