// The CPU core against the definitions.
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

template <class T>
void test_case(const Problem& problem, Spacing spacing, bool weighted, bool together) {
  Case<T> c = make_case<T>(problem, spacing, weighted);
  c.together = together;
  const Results<Sum> expected = by_definition(c);
  const Results<T> serial = on_cpu(c, 1);
  check_close(serial, expected);
  check_same_bits(serial, on_cpu(c, 4));
}

// Tensors of 16 bit: as the definition says for the numbers they hold, rounded once.
void test_storage(Stored stored) {
  int n = 0;
  for (const auto& shape : {std::array<int64_t, 3>{33, 3, 5}, {70, 17, 16}, {5, 2, 64}, {600, 2, 515}}) {
    Case<float> c = make_case<float>(
        {shape[0], shape[1], shape[2], 12, 3, kActivations[n % int(std::size(kActivations))], n % 3, n % 2},
        Spacing::uniform, n % 2);
    c.stored = stored;
    c.together = n++ != 1;
    const Results<float> serial = on_cpu(c, 1);
    check_close(serial, by_definition(c), stored);
    check_same_bits(serial, on_cpu(c, 4));
  }
}

// Every number of 16 bit comes back from float32, and numbers between two go to the nearer, or the even, one.
void test_rounding() {
  for (const Storage storage : {Storage::bfloat16, Storage::float16})
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const float value = widened(uint16_t(bits), storage);
      if (std::isnan(value)) {
        CHECK(std::isnan(widened(narrowed(value, storage), storage)), "%x", unsigned(bits));
        continue;
      }
      CHECK(narrowed(value, storage) == bits, "%x", unsigned(bits));
      const float next = widened(uint16_t(bits + 1), storage);
      if (!std::isfinite(value) || !std::isfinite(next) || (bits & 0x7fff) == 0x7fff) continue;
      const float middle = float((double(value) + next) / 2);
      CHECK(narrowed(middle, storage) == (bits & 1 ? bits + 1 : bits), "%x", unsigned(bits));
      CHECK(narrowed(std::nextafter(middle, value), storage) == bits, "%x", unsigned(bits));
      CHECK(narrowed(std::nextafter(middle, next), storage) == bits + 1, "%x", unsigned(bits));
    }
  CHECK(narrowed(65519.996f, Storage::float16) == 0x7bff && narrowed(65520.f, Storage::float16) == 0x7c00,
        "largest");
  CHECK(narrowed(-3.4e38f, Storage::bfloat16) == 0xff80, "infinity");
}

// A NaN makes its row, its input's gradients and its own element NaN, and nothing else, whatever the
// activation and the order.
template <class T>
void test_nan(Activation activation, int64_t nu) {
  const Problem problem{3, 2, 4, 12, 3, activation, nu, 0};
  Case<T> c = make_case<T>(problem, Spacing::uniform, true);
  c.x[1 * 2 + 1] = std::numeric_limits<T>::quiet_NaN();  // row 1, input 1
  c.together = nu == 1;
  const Results<T> out = on_cpu(c, 1);
  const auto expect = [&](Operation op, const auto& is_nan) {
    for (int64_t n = 0; n < out[op].size(); ++n)
      CHECK(std::isnan(out[op][n]) == is_nan(n), "%s[%ld]", kNames[op], long(n));
  };
  for (const Operation op : {kForward, kJointForward}) expect(op, [](int64_t n) { return n / 4 == 1; });
  for (const Operation op : {kGradInput, kRowGradient, kQuadratic})
    expect(op, [](int64_t n) { return n == 3; });
  expect(kGradWeight, [&](int64_t n) { return n >= out[kGradWeight].size() / 2; });
  expect(kGram, [&](int64_t n) { return n >= out[kGram].size() / 2; });
}

template <class T>
void test_type() {
  const int64_t shapes[][3] = {{0, 2, 3},   {3, 0, 2},   {3, 2, 0},   {1, 1, 1},   {33, 3, 5},
                               {70, 34, 3}, {3, 2, 515}, {259, 2, 3}, {41, 70, 2}, {600, 9, 1}};
  int n = 0;
  for (const auto& shape : shapes)
    for (const int degree : {1, 3, 8})
      for (const int grid : {1, 5, 16}) {
        const Activation activation = kActivations[n % int(std::size(kActivations))];
        const Problem problem{shape[0], shape[1],   shape[2], grid + 2 * degree + 1,
                              degree,   activation, n % 5,    n % 3};
        test_case<T>(problem, Spacing(n % 3), n % 2 == 0, n % 7 < 3);
        ++n;
      }
  test_case<T>({1100, 2, 9, 80, 3, Activation::silu, 0, 1}, Spacing::random, false,
               true);  // a search, two tiles
  test_case<T>({8200, 1, 3, 12, 3, Activation::silu, 0, 0}, Spacing::uniform, false,
               true);                    // rows in two parts
  for (const int64_t inputs : {30, 70})  // forward beside the gradients in smaller tiles, and not beside them
    test_case<T>({700, inputs, 17, 12, 3, Activation::silu, 1, 2}, Spacing::uniform, true, true);
  for (const Activation activation : {Activation::silu, Activation::zero, Activation::relu})
    for (const int64_t nu : {0, 1, 4}) test_nan<T>(activation, nu);
}

}  // namespace
}  // namespace fastkan::test

int main() {
  fastkan::test::test_type<float>();
  fastkan::test::test_type<double>();
  fastkan::test::test_rounding();
  using fastkan::Storage;
  for (const Storage rows : {Storage::float32, Storage::bfloat16, Storage::float16})
    for (const Storage values : {Storage::float32, Storage::bfloat16, Storage::float16})
      fastkan::test::test_storage({rows, values});
  std::puts("ok");
}
