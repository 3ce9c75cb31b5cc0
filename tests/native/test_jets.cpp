// Jets and their gradients against the definitions.
#include "cpu/jet.h"
#include "operations.h"

namespace fastkan::test {
namespace {

// What flows in, the cotangents, and the answers
template <class T>
struct JetCase {
  Case<T> layer;
  int64_t directions;
  bool units, seconds, weighted;  // first is absent, second is there, coefficients are
  Buffer<T> first, second, coefficients, g_first, g_second;

  JetCase(const Problem& p, int64_t d, bool with_units, bool with_seconds, bool with_coefficients)
      : layer(p, false),
        directions(with_units ? p.in_features : d),
        units(with_units),
        seconds(with_seconds),
        weighted(with_coefficients),
        first(units ? 0 : d * p.batch * p.in_features),
        second(seconds ? p.batch * p.in_features : 0),
        coefficients(weighted ? directions : 0),
        g_first(directions * p.batch * p.out_features),
        g_second(p.batch * p.out_features) {
    for (Buffer<T>* const buffer : {&first, &second, &coefficients, &g_first, &g_second})
      for (T& value : *buffer) value = T(uniform(-1, 1));
  }
  long double direction(int64_t k, int64_t b, int64_t i) const {
    const Problem& p = layer.problem;
    return units ? k == i : (long double)(first[(k * p.batch + b) * p.in_features + i]);
  }
  long double coefficient(int64_t k) const { return weighted ? (long double)(coefficients[k]) : 1; }
};

enum Answer { kY, kYFirst, kYSecond, kX, kWeight, kFirst, kSecond, kSquares, kAnswers };
constexpr const char* kAnswerNames[kAnswers] = {"y",           "y_first",    "y_second",    "grad_x",
                                                "grad_weight", "grad_first", "grad_second", "grad_squares"};
template <class T>
using Answers = std::array<Buffer<T>, kAnswers>;

template <class T, class V>
Answers<V> make_answers(const JetCase<T>& c, V value) {
  const Problem& p = c.layer.problem;
  const int64_t rows = p.batch * p.in_features, y = p.batch * p.out_features;
  const int64_t sizes[kAnswers] = {y,
                                   c.directions * y,
                                   y,
                                   rows,
                                   p.in_features * p.slots() * p.out_features,
                                   c.units ? 0 : c.directions * rows,
                                   rows,
                                   rows};
  Answers<V> answers;
  for (int n = 0; n < kAnswers; ++n) {
    answers[n] = Buffer<V>(sizes[n]);
    std::fill(answers[n].begin(), answers[n].end(), value);
  }
  return answers;
}

// wanted: the gradients to be made; the others stay as they are.
template <class T>
Answers<T> on_cpu(JetCase<T>& c, int threads, unsigned wanted = ~0u) {
  Answers<T> out = make_answers(c, T(7));
  JetCall<T> jet;
  jet.layer.problem = c.layer.problem;
  jet.layer.x = {c.layer.x.data(), kComputed<T>};
  jet.layer.weight = {c.layer.weight.data(), kComputed<T>};
  jet.layer.knots = c.layer.knots.data();
  jet.directions = c.directions;
  jet.first = c.units ? nullptr : c.first.data();
  jet.second = c.seconds ? c.second.data() : nullptr;
  jet.coefficients = c.weighted ? c.coefficients.data() : nullptr;
  jet.y = out[kY].data(), jet.y_first = out[kYFirst].data(), jet.y_second = out[kYSecond].data();
  jet_forward(Cpu{threads}, jet);
  jet.g = c.layer.g.data(), jet.g_first = c.g_first.data(), jet.g_second = c.g_second.data();
  const auto target = [&](Answer answer) { return wanted >> answer & 1 ? out[answer].data() : nullptr; };
  jet.grad_x = target(kX), jet.grad_weight = target(kWeight), jet.grad_second = target(kSecond);
  jet.grad_squares = target(kSquares), jet.grad_first = c.units ? nullptr : target(kFirst);
  jet_gradients(Cpu{threads}, jet);
  return out;
}

// What one edge (b, i, o) gives, from the orders f of its slots
template <class T>
void add_edge(const JetCase<T>& c, int64_t b, int64_t i, int64_t o, const std::vector<Definition>* f,
              Answers<Sum>& out) {
  const Problem& p = c.layer.problem;
  const int64_t M = p.slots(), B = p.batch, I = p.in_features, O = p.out_features, row = b * I + i,
                y = b * O + o;
  const long double s = c.seconds ? (long double)(c.second[row]) : 0;
  const long double g = c.layer.g[y], g_second = c.g_second[y];
  long double squares = 0, h1 = s * g_second;
  for (int64_t k = 0; k < c.directions; ++k) {
    squares += c.coefficient(k) * c.direction(k, b, i) * c.direction(k, b, i);
    h1 += c.direction(k, b, i) * c.g_first[k * B * O + y];
  }
  for (int64_t m = 0; m < M; ++m) {
    const Definition *const at = &f[0][row * M + m], *const slope = &f[1][row * M + m],
                            *const curve = &f[2][row * M + m], *const third = &f[3][row * M + m];
    const int64_t element = (i * M + m) * O + o;
    const long double w = c.layer.weight[element];
    out[kY][y].add(w, *at);
    out[kYSecond][y].add(w * squares, *curve);
    out[kYSecond][y].add(w * s, *slope);
    out[kX][row].add(w * g, *slope);
    out[kX][row].add(w * h1, *curve);
    out[kX][row].add(w * squares * g_second, *third);
    out[kWeight][element].add(g, *at);
    out[kWeight][element].add(h1, *slope);
    out[kWeight][element].add(squares * g_second, *curve);
    out[kSecond][row].add(w * g_second, *slope);
    out[kSquares][row].add(w * g_second, *curve);
    for (int64_t k = 0; k < c.directions; ++k) {
      const long double t = c.direction(k, b, i);
      out[kYFirst][k * B * O + y].add(w * t, *slope);
      if (c.units) continue;
      out[kFirst][k * B * I + row].add(w * c.g_first[k * B * O + y], *slope);
      out[kFirst][k * B * I + row].add(2 * c.coefficient(k) * t * w * g_second, *curve);
    }
  }
}

template <class T>
Answers<Sum> by_definition(const JetCase<T>& c) {
  const Problem& p = c.layer.problem;
  std::vector<Definition> f[4];
  for (int nu = 0; nu < 4; ++nu) f[nu] = slot_table(c.layer, nu);
  Answers<Sum> out = make_answers(c, Sum{});
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t i = 0; i < p.in_features; ++i)
      for (int64_t o = 0; o < p.out_features; ++o) add_edge(c, b, i, o, f, out);
  return out;
}

template <class T>
void check_close(const Answers<T>& answers, const Answers<Sum>& expected) {
  constexpr long double kUnits = 100 * std::numeric_limits<T>::epsilon();
  for (int n = 0; n < kAnswers; ++n)
    for (int64_t k = 0; k < answers[n].size(); ++k) {
      const Sum& sum = expected[n][k];
      if (!(sum.magnitude <= std::numeric_limits<T>::max())) continue;
      CHECK(std::abs(answers[n][k] - sum.value) <= kUnits * sum.magnitude + std::numeric_limits<T>::min(),
            "%s[%ld] = %.9g, expected %.9Lg (terms of %Lg)", kAnswerNames[n], long(k), double(answers[n][k]),
            sum.value, sum.magnitude);
    }
}

template <class T>
void fill(JetCase<T>& c, Spacing spacing) {
  const Problem& p = c.layer.problem;
  for (int64_t i = 0; i < p.in_features; ++i) {
    const std::vector<T> own = make_knots<T>(spacing, int(p.num_knots) - 2 * p.degree - 1, p.degree);
    std::copy(own.begin(), own.end(), c.layer.knots.begin() + i * p.num_knots);
  }
  for (int64_t n = 0; n < c.layer.x.size(); ++n)  // some are knots, some lie outside
    c.layer.x[n] =
        n % 3 ? T(uniform(-2, 2)) : c.layer.knots[n % p.in_features * p.num_knots + n % p.num_knots];
}

// Each gradient alone is as it is among all, bit for bit, and whatever the number of threads.
template <class T>
void test_case(const Problem& problem, int64_t d, int n) {
  JetCase<T> c(problem, d, n % 3 == 0, n % 2 == 0, n % 4 < 2);
  fill(c, Spacing(n % 3));
  const Answers<T> serial = on_cpu(c, 1);
  check_close(serial, by_definition(c));
  const Answers<T> parallel = on_cpu(c, 4);
  for (int a = 0; a < kAnswers; ++a)
    CHECK(same_bits(serial[a], parallel[a]), "%s: the number of threads changes the answer", kAnswerNames[a]);
  for (int a = kX; a < kAnswers; ++a) {
    const Answers<T> alone = on_cpu(c, 1, 1u << a);
    const Answers<T> untouched = make_answers(c, T(7));
    for (int other = kX; other < kAnswers; ++other)
      CHECK(same_bits(alone[other], (other == a ? serial : untouched)[other]), "%s where %s is wanted",
            kAnswerNames[other], kAnswerNames[a]);
  }
}

// A NaN makes its row, its input's gradient of the weight and its own elements NaN, and nothing else.
template <class T>
void test_nan(int64_t outputs, Activation activation) {
  JetCase<T> c({3, 2, outputs, 12, 3, activation, 0, 0}, 2, false, true, true);
  fill(c, Spacing::uniform);
  c.layer.x[1 * 2 + 1] = std::numeric_limits<T>::quiet_NaN();  // row 1, input 1
  const Answers<T> out = on_cpu(c, 1);
  for (int a = 0; a < kAnswers; ++a)
    for (int64_t n = 0; n < out[a].size(); ++n) {
      const bool expected = a == kWeight ? n >= out[a].size() / 2
                            : a < kX     ? n / outputs % 3 == 1
                                         : n % 6 == 3;
      CHECK(std::isnan(out[a][n]) == expected, "%s[%ld]", kAnswerNames[a], long(n));
    }
}

template <class T>
void test_type() {
  const int64_t shapes[][4] = {{0, 2, 3, 2},   {3, 0, 2, 2},    {3, 2, 0, 2},    {1, 1, 1, 1},
                               {33, 3, 5, 4},  {70, 34, 3, 2},  {3, 2, 67, 3},   {600, 2, 1, 2},
                               {41, 70, 2, 1}, {300, 9, 10, 5}, {65, 17, 32, 7}, {40, 3, 24, 2}};
  int n = 0;
  for (const auto& shape : shapes)
    for (const int degree : {1, 3, 8})
      for (const int grid : {1, 5}) {
        const Activation activation = kActivations[n % int(std::size(kActivations))];
        test_case<T>({shape[0], shape[1], shape[2], grid + 2 * degree + 1, degree, activation, 0, 0},
                     shape[3], n);
        ++n;
      }
  for (const int64_t outputs : {1, 4, 33})
    for (const Activation activation : {Activation::silu, Activation::zero, Activation::relu})
      test_nan<T>(outputs, activation);
}

}  // namespace
}  // namespace fastkan::test

int main() {
  fastkan::test::test_type<float>();
  fastkan::test::test_type<double>();
  std::puts("ok");
}
