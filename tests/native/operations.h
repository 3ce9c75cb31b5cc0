// Every operation of the core on one case: the tensors, the answers, and the answers by definition.
#pragma once

#include <array>
#include <cstring>

#include "cpu/operations.h"
#include "tensors.h"

namespace fastkan::test {

// kRowGradient is grad_input of order nu, the gradient of the row weights; kJointForward is forward again
enum Operation {
  kForward,
  kGradInput,
  kGradWeight,
  kGram,
  kQuadratic,
  kRowGradient,
  kJointForward,
  kOperations
};
constexpr const char* kNames[kOperations] = {"forward",   "grad_input",   "grad_weight",  "gram",
                                             "quadratic", "row gradient", "joint forward"};

// How a case's tensors are stored: x, row_weight and grad_input; weight, g, y and grad_weight.
struct Stored {
  Storage rows, values;
};

template <class T>
struct Case {
  Problem problem;
  Buffer<T> x, weight, row_weight, g, form, knots;
  bool weighted = false, together = false;  // together: all that gradients can make in one call
  Stored stored{kComputed<T>, kComputed<T>};

  const T* factors() const { return weighted ? row_weight.data() : nullptr; }

  Case(const Problem& p, bool with_row_weight, int shift = 0)
      : problem(p),
        x(p.batch * p.in_features, shift),
        weight(p.in_features * p.slots() * p.out_features, shift),
        row_weight(with_row_weight ? p.batch * p.in_features : 0, shift),
        g(p.batch * p.out_features, shift),
        form(p.in_features * p.slots() * p.slots(), shift),
        knots(p.in_features * p.num_knots, shift),
        weighted(with_row_weight) {
    for (Buffer<T>* const buffer : {&weight, &row_weight, &g, &form})
      for (T& value : *buffer) value = T(uniform(-1, 1));
  }
};

template <class T>
using Results = std::array<Buffer<T>, kOperations>;

template <class T>
Results<T> make_results(const Problem& p, T value, int shift = 0) {
  const int64_t I = p.in_features, M = p.slots(), O = p.out_features;
  Results<T> results;
  const int64_t sizes[kOperations] = {p.batch * O, p.batch * I, I * M * O,  I * M * M,
                                      p.batch * I, p.batch * I, p.batch * O};
  for (int op = 0; op < kOperations; ++op) {
    results[op] = Buffer<T>(sizes[op], shift);
    std::fill(results[op].begin(), results[op].end(), value);
  }
  return results;
}

// Every operation. Outputs start as `unwritten`: what an operation leaves out shows. grad_input is of order
// mu.
template <class T>
Results<T> on_cpu(Case<T>& c, int threads, T unwritten = T(7), int shift = 0) {
  const Cpu cpu{threads};
  const Problem& p = c.problem;
  const T* const knots = c.knots.data();
  const auto [rows, values] = c.stored;
  const Input<T> x(c.x, rows, shift), weight(c.weight, values, shift), g(c.g, values, shift),
      row_weight(c.row_weight, rows, shift);
  const Source r = c.weighted ? row_weight.source() : Source{};
  Results<T> out = make_results<T>(p, unwritten, shift);
  Output<T> y(out[kForward], values, shift), grad_input(out[kGradInput], rows, shift),
      grad_weight(out[kGradWeight], values, shift), row_gradient(out[kRowGradient], rows, shift),
      joint(out[kJointForward], values, shift);
  cpu.forward(p, x.source(), weight.source(), r, knots, y.target());
  if (c.together) {
    cpu.fused_gradients(p, p.mu, x.source(), weight.source(), g.source(), r, knots,
                        {grad_input.target(), grad_weight.target(),
                         c.weighted ? row_gradient.target() : Target{}, joint.target()});
    if (!c.weighted)
      cpu.fused_gradients(p, p.nu, x.source(), weight.source(), g.source(), {}, knots,
                          {row_gradient.target(), {}, {}, {}});
  } else {
    cpu.fused_gradients(p, p.mu, x.source(), weight.source(), g.source(), {}, knots,
                        {grad_input.target(), {}, {}, {}});
    cpu.fused_gradients(p, 0, x.source(), {}, g.source(), r, knots, {{}, grad_weight.target(), {}, {}});
    cpu.fused_gradients(p, p.nu, x.source(), weight.source(), g.source(), {}, knots,
                        {row_gradient.target(), {}, {}, {}});
    cpu.fused_gradients(p, p.mu, x.source(), weight.source(), g.source(), r, knots,
                        {{}, {}, {}, joint.target()});
  }
  cpu.gram(p, x.source(), r, knots, out[kGram].data());
  cpu.quadratic(p, x.source(), c.form.data(), knots, out[kQuadratic].data());
  for (Output<T>* const output : {&y, &grad_input, &grad_weight, &row_gradient, &joint}) output->finish();
  return out;
}

// f_m^(nu)(x[b,i]) as a [B, I, M] table of all slots. The magnitudes of an x's splines are all their sum, of
// those too that would need knots from beyond the ends: a core may take differences of neighbouring
// coefficients before it multiplies, and those of absent splines are 0.
template <class T>
std::vector<Definition> slot_table(const Case<T>& c, int64_t nu) {
  const Problem& p = c.problem;
  std::vector<Definition> table;
  table.reserve(p.batch * p.in_features * p.slots());
  std::vector<T> extended(p.num_knots + 2 * p.degree);
  for (int64_t n = 0; n < p.batch * p.in_features; ++n) {
    const T* const knots = c.knots.data() + n % p.in_features * p.num_knots;
    for (int64_t k = 0; k < int64_t(extended.size()); ++k)
      extended[k] = knots[std::clamp<int64_t>(k - p.degree, 0, p.num_knots - 1)];
    long double total = 0;
    for (int64_t m = -p.degree; m < p.splines() + p.degree; ++m) {
      const Definition spline = spline_by_definition(&extended[m + p.degree], p.degree, int(nu), c.x[n]);
      total += spline.magnitude;
      if (m >= 0 && m < p.splines()) table.push_back(spline);
    }
    for (int64_t m = 0; m < p.splines(); ++m) table[n * p.slots() + m].magnitude = total;
    const long double base = activation_derivative(p.activation, nu, (long double)(c.x[n]));
    table.push_back({base, std::abs(base) + derivative_size(p.activation, nu)});
  }
  return table;
}

struct Sum {
  long double value = 0, magnitude = 0;
  void add(long double factor, const Definition& f) {
    value += factor * f.value;
    magnitude += std::abs(factor) * f.magnitude;
  }
};

template <class T>
Results<Sum> by_definition(const Case<T>& c) {
  const Problem& p = c.problem;
  const int64_t I = p.in_features, O = p.out_features, M = p.slots();
  const std::vector<Definition> left = slot_table(c, p.nu), right = slot_table(c, p.mu);
  Results<Sum> out = make_results<Sum>(p, Sum{});
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t i = 0; i < I; ++i)
      for (int64_t m = 0; m < M; ++m) {
        const Definition& f = left[(b * I + i) * M + m];
        const long double r = c.weighted ? c.row_weight[b * I + i] : 1;
        for (int64_t o = 0; o < O; ++o) {
          const int64_t element = (i * M + m) * O + o;
          const long double weight = c.weight[element], g = c.g[b * O + o];
          out[kForward][b * O + o].add(r * weight, f);
          out[kGradInput][b * I + i].add(weight * g, right[(b * I + i) * M + m]);
          out[kRowGradient][b * I + i].add(weight * g, f);
          out[kGradWeight][element].add(r * g, f);
        }
        for (int64_t n = 0; n < M; ++n) {
          const Definition& h = right[(b * I + i) * M + n];
          const Definition product{f.value * h.value, f.magnitude * h.magnitude};
          out[kGram][(i * M + m) * M + n].add(r, product);
          out[kQuadratic][b * I + i].add(c.form[(i * M + m) * M + n], product);
        }
      }
  out[kJointForward] = out[kForward];
  return out;
}

// The unit of rounding of what an operation writes, and the largest number it can write.
constexpr long double kAny = std::numeric_limits<long double>::max();
inline std::array<long double, 2> limits_of(Operation op, const Stored& stored) {
  const Storage storage = op == kGradInput || op == kRowGradient ? stored.rows : stored.values;
  if (op == kGram || op == kQuadratic || !is_half(storage)) return {0, kAny};
  if (storage == Storage::bfloat16) return {0x1p-8L, kAny};
  return {0x1p-11L, 65000};
}

template <class T>
void check_close(const Results<T>& results, const Results<Sum>& expected,
                 const Stored& stored = {kComputed<T>, kComputed<T>}) {
  constexpr long double kUnits = 100 * std::numeric_limits<T>::epsilon();
  for (int op = 0; op < kOperations; ++op) {
    const auto [unit, largest] = limits_of(Operation(op), stored);
    for (int64_t n = 0; n < results[op].size(); ++n) {
      const long double value = results[op][n];
      const Sum& sum = expected[op][n];
      if (!(sum.magnitude <= largest)) continue;  // infinite, NaN or past the storage
      const long double rounding = unit * (std::abs(sum.value) + 0x1p-14L);
      CHECK(std::abs(value - sum.value) <= kUnits * sum.magnitude + rounding + std::numeric_limits<T>::min(),
            "%s[%ld] = %.9Lg, expected %.9Lg (terms of %Lg)", kNames[op], long(n), value, sum.value,
            sum.magnitude);
    }
  }
}

template <class T>
bool same_bits(const Buffer<T>& a, const Buffer<T>& b) {
  return a.size() == 0 || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
void check_same_bits(const Results<T>& a, const Results<T>& b) {
  for (int op = 0; op < kOperations; ++op)
    CHECK(same_bits(a[op], b[op]), "%s: the number of threads changes the answer", kNames[op]);
}

}  // namespace fastkan::test
