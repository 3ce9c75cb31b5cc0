// Every operation of the core on one case: the tensors, the answers, and the answers by definition.
#pragma once

#include <array>
#include <cstring>

#include "cpu/cpu.h"
#include "support.h"

namespace fastkan::test {

enum Operation { kForward, kGradInput, kGradWeight, kGram, kQuadratic, kOperations };
constexpr const char* kNames[kOperations] = {"forward", "grad_input", "grad_weight", "gram", "quadratic"};

// A heap block of exactly `size` numbers, so that the address sanitizer sees every overrun; the first one
// lies `shift` numbers past an aligned address.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, int shift = 0) : storage_(size + shift), shift_(shift) {}
  T* data() { return storage_.data() + shift_; }
  const T* data() const { return storage_.data() + shift_; }
  int64_t size() const { return int64_t(storage_.size()) - shift_; }
  T& operator[](int64_t n) { return data()[n]; }
  const T& operator[](int64_t n) const { return data()[n]; }
  T* begin() { return data(); }
  T* end() { return data() + size(); }

 private:
  std::vector<T> storage_;
  int shift_ = 0;
};

template <class T>
struct Case {
  Problem problem;
  Buffer<T> x, weight, row_weight, g, form, knots;
  bool weighted = false;

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
  const int64_t sizes[kOperations] = {p.batch * O, p.batch * I, I * M * O, I * M * M, p.batch * I};
  for (int op = 0; op < kOperations; ++op) {
    results[op] = Buffer<T>(sizes[op], shift);
    std::fill(results[op].begin(), results[op].end(), value);
  }
  return results;
}

template <class T>
constexpr Storage kStorage = sizeof(T) == 4 ? Storage::float32 : Storage::float64;

template <class T>
Source source(const T* data) {
  return {data, kStorage<T>};
}

template <class T>
Target target(T* data) {
  return {data, kStorage<T>};
}

template <class T>
void run(Operation operation, const Case<T>& c, int threads, T* out) {
  const Cpu cpu{threads};
  const Problem& p = c.problem;
  const T* const knots = c.knots.data();
  const Source x = source(c.x.data()), weight = source(c.weight.data()), g = source(c.g.data()),
               r = source(c.factors());
  switch (operation) {
    case kForward:
      return cpu.forward(p, x, weight, r, knots, target(out));
    case kGradInput:
      return cpu.gradients(p, p.nu, x, weight, g, {}, knots, target(out), {});
    case kGradWeight:
      return cpu.gradients(p, 0, x, {}, g, r, knots, {}, target(out));
    case kGram:
      return cpu.gram(p, x, r, knots, out);
    default:
      return cpu.quadratic(p, x, c.form.data(), knots, out);
  }
}

// Outputs start as `unwritten`: what an operation leaves out shows.
template <class T>
Results<T> on_cpu(const Case<T>& c, int threads, T unwritten = T(7), int shift = 0) {
  Results<T> out = make_results<T>(c.problem, unwritten, shift);
  for (int op = 0; op < kOperations; ++op) run(Operation(op), c, threads, out[op].data());
  return out;
}

// f_m^(nu)(x[b,i]) as a dense [B, I, M] table. The magnitudes of an x's splines are all their sum, since a
// core may take differences of neighbouring coefficients before it multiplies.
template <class T>
std::vector<Definition> slot_table(const Case<T>& c, int64_t nu) {
  const Problem& p = c.problem;
  std::vector<Definition> table;
  table.reserve(p.batch * p.in_features * p.slots());
  for (int64_t n = 0; n < p.batch * p.in_features; ++n) {
    const T* const knots = c.knots.data() + n % p.in_features * p.num_knots;
    long double total = 0;
    for (int64_t m = 0; m < p.splines(); ++m) {
      table.push_back(spline_by_definition(knots + m, p.degree, int(nu), c.x[n]));
      total += table.back().magnitude;
    }
    for (int64_t m = 0; m < p.splines(); ++m) table[n * p.slots() + m].magnitude = total;
    const long double base = base_value(p.base, nu, (long double)(c.x[n]));
    table.push_back({base, std::abs(base) + (p.base == Base::zero ? 0 : 1)});
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
          out[kGradInput][b * I + i].add(weight * g, f);
          out[kGradWeight][element].add(r * g, f);
        }
        for (int64_t n = 0; n < M; ++n) {
          const Definition& h = right[(b * I + i) * M + n];
          const Definition product{f.value * h.value, f.magnitude * h.magnitude};
          out[kGram][(i * M + m) * M + n].add(r, product);
          out[kQuadratic][b * I + i].add(c.form[(i * M + m) * M + n], product);
        }
      }
  return out;
}

// Errors are measured against the largest sum of an operation's terms: a core may multiply differences of
// coefficients, which on uneven knots are far larger than what is left of them at some x.
template <class T>
void check_close(const Results<T>& values, const Results<Sum>& expected) {
  constexpr long double kUnits = 100 * std::numeric_limits<T>::epsilon();
  for (int op = 0; op < kOperations; ++op) {
    long double largest = 0;
    for (int64_t n = 0; n < values[op].size(); ++n) largest = std::max(largest, expected[op][n].magnitude);
    for (int64_t n = 0; n < values[op].size(); ++n) {
      const long double value = values[op][n], error = std::abs(value - expected[op][n].value);
      CHECK(error <= kUnits * largest + std::numeric_limits<T>::min(),
            "%s[%ld] = %.9Lg, expected %.9Lg (terms of %Lg)", kNames[op], long(n), value,
            expected[op][n].value, largest);
    }
  }
}

template <class T>
void check_same_bits(const Results<T>& a, const Results<T>& b) {
  for (int op = 0; op < kOperations; ++op)
    CHECK(a[op].size() == 0 || std::memcmp(a[op].data(), b[op].data(), a[op].size() * sizeof(T)) == 0,
          "%s: the number of threads changes the answer", kNames[op]);
}

}  // namespace fastkan::test
