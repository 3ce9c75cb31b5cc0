// fuzz SEED COUNT: random cases SEED .. SEED + COUNT - 1 through every operation; `fuzz N 1` repeats case N
// alone. Sanitizers watch the memory. The values are checked cheaply: all of the output is written, tame
// inputs give finite numbers, NaN goes where it must and nowhere else, and one case in kSampled is compared
// with the definition.
#include "operations.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fastkan::test {
namespace {

constexpr int kSampled = 64, kLarge = 128;  // one case in so many
uint32_t current_case = 0;
bool running = false;

bool chance(int one_in) { return whole(1, one_in) == 1; }

template <class T>
constexpr int kWidest = sizeof(T) == 4 ? 15 : 140;  // a power of ten that leaves room for products of two

int64_t draw_size(bool large) {
  if (chance(30)) return 0;
  if (large) {
    constexpr int64_t edges[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70, 129, 255, 257, 300, 515};
    return edges[whole(0, std::size(edges) - 1)];
  }
  return chance(3) ? whole(5, 20) : whole(1, 4);
}

Problem draw_problem(bool large) {
  Problem p;
  const double limit = large ? 4e5 : 6e3;
  do {
    p.degree = int(whole(1, kMaxDegree));
    p.num_knots = 2 * p.degree + 1 + (chance(16) ? whole(9, 60) : whole(1, 8));
    p.batch = draw_size(large), p.in_features = draw_size(large), p.out_features = draw_size(large);
  } while (double(p.batch) * p.in_features * (p.out_features + 16) > limit ||
           double(p.in_features) * p.slots() * std::max(p.slots(), p.out_features) > limit);
  p.activation = kActivations[whole(0, int64_t(std::size(kActivations)) - 1)];
  const int64_t known = highest_order(p.activation), highest = known < 0 ? p.degree + 2 : known;
  p.nu = chance(2) ? 0 : whole(0, highest);
  p.mu = chance(2) ? p.nu : whole(0, highest);
  return p;
}

// Knots of one input, non-decreasing: gaps of 0, alike or over many orders of magnitude, here or far from 0.
template <class T>
void draw_knots(T* knots, int64_t count, bool tame) {
  const int power = tame ? whole(-2, 2) : int(whole(-2 * kWidest<T>, 2 * kWidest<T>));
  const int spread = chance(2) ? 0 : tame ? 2 : int(whole(1, 2 * kWidest<T> - std::abs(power) + 1));
  const int zero_gaps = chance(2) ? 0 : int(whole(2, 4));       // one gap in so many
  const int64_t clamped = chance(3) ? whole(1, count / 2) : 0;  // knots on each end that coincide
  long double at = chance(4) ? uniform(-10, 10) * std::pow(10.0L, power) : -1;
  for (int64_t k = 0; k < count; ++k) {
    knots[k] = T(std::clamp<long double>(at, -std::numeric_limits<T>::max(), std::numeric_limits<T>::max()));
    if (k + 1 < clamped || k >= count - clamped || (zero_gaps && chance(zero_gaps))) continue;
    at += std::pow(10.0L, power + (spread ? uniform(-spread, spread) : 0));
  }
}

template <class T>
T draw_x(const T* knots, int64_t count, bool wild) {
  using Limits = std::numeric_limits<T>;
  const T first = knots[0], last = knots[count - 1], knot = knots[whole(0, count - 1)];
  const T sign = chance(2) ? T(1) : T(-1);
  switch (whole(0, wild ? 15 : 11)) {
    case 0:
    case 1:
      return knot;
    case 2:
      return std::nextafter(knot, sign * Limits::infinity());
    case 3:
      return sign * T(0);
    case 4:
      return sign * Limits::denorm_min() * T(whole(1, 1000));
    case 5:
      return sign * T(std::pow(10.0, uniform(-kWidest<T>, kWidest<T>)));
    case 12:
      return sign * Limits::infinity();
    case 13:
      return sign * Limits::max();
    case 14:
    case 15:
      return sign * Limits::quiet_NaN();
    default:
      const double share = uniform(-0.1, 1.1);
      return T((1 - share) * first + share * last);
  }
}

// log10 of what the largest spline derivative may be.
template <class T>
double steepness(const Case<T>& c, int64_t nu) {
  double narrowest = 1;
  for (int64_t n = 1; n < c.knots.size(); ++n) {
    const double width = double(c.knots[n]) - c.knots[n - 1];
    if (n % c.problem.num_knots && width > 0) narrowest = std::min(narrowest, width);
  }
  return double(std::min<int64_t>(nu, c.problem.degree)) * std::log10(2 * c.problem.degree / narrowest);
}

enum Kind : uint8_t { kTame, kNan, kExtreme };

template <class T>
Kind kind_of(T x) {
  if (std::isnan(x)) return kNan;  // float32 that float16 cannot hold has become infinite: extreme
  return std::abs(x) <= std::pow(10.0, kWidest<T>) ? kTame : kExtreme;
}

// What the x's that a number of the output depends on imply: any NaN makes it NaN, none but tame ones make it
// finite.
struct Verdict {
  bool nan = false, tame = true;
  void add(Kind kind) {
    nan |= kind == kNan;
    tame &= kind == kTame;
  }
};

template <class T>
void check_kinds(const Case<T>& c, const Results<T>& out) {
  const int64_t B = c.problem.batch, I = c.problem.in_features;
  std::vector<Verdict> rows(B), columns(I), elements(B * I);
  for (int64_t n = 0; n < B * I; ++n)
    for (Verdict* verdict : {&rows[n / I], &columns[n % I], &elements[n]}) verdict->add(kind_of(c.x[n]));
  const std::vector<Verdict>* const verdicts[] = {&rows,     &elements, &columns, &columns,
                                                  &elements, &elements, &rows};
  for (int op = 0; op < kOperations; ++op) {
    if ((op == kGradInput || op == kRowGradient) && c.problem.out_features == 0) continue;  // an empty sum
    const int64_t share = verdicts[op]->empty() ? 0 : out[op].size() / int64_t(verdicts[op]->size());
    const bool overflows = limits_of(Operation(op), c.stored)[1] < kAny;
    for (int64_t n = 0; n < out[op].size(); ++n) {
      const Verdict& verdict = (*verdicts[op])[n / share];
      CHECK(!verdict.nan || std::isnan(out[op][n]), "%s[%ld] loses a NaN", kNames[op], long(n));
      CHECK(!verdict.tame || overflows || std::isfinite(out[op][n]), "%s[%ld] = %g", kNames[op], long(n),
            double(out[op][n]));
    }
  }
}

// A NaN that no arithmetic makes.
template <class T>
T canary() {
  const uint32_t single = 0x7fffdead;
  const uint64_t wide = 0x7fffdeadbeefdead;
  T value;
  std::memcpy(&value, sizeof(T) == 4 ? (const void*)&single : &wide, sizeof value);
  return value;
}

template <class T>
void check_written(const Results<T>& out) {
  const T unwritten = canary<T>();
  for (int op = 0; op < kOperations; ++op)
    for (int64_t n = 0; n < out[op].size(); ++n)
      CHECK(std::memcmp(out[op].data() + n, &unwritten, sizeof(T)) != 0, "%s[%ld]", kNames[op], long(n));
}

Storage draw_storage() {
  constexpr Storage all[] = {Storage::float32, Storage::bfloat16, Storage::float16};
  return all[whole(0, 2)];
}

template <class T>
void test_one() {
  const bool large = chance(kLarge), wild = chance(3), tame_knots = !chance(4);
  const int shift = chance(2) ? 0 : int(whole(1, 3));
  Case<T> c(draw_problem(large), chance(2), shift);
  const int64_t I = c.problem.in_features, K = c.problem.num_knots;
  for (int64_t i = 0; i < I; ++i) draw_knots(c.knots.data() + i * K, K, tame_knots);
  for (int64_t n = 0; n < c.x.size(); ++n) c.x[n] = draw_x(c.knots.data() + n % I * K, K, wild);

  c.together = chance(2);
  if (sizeof(T) == 4 && chance(3)) c.stored = {draw_storage(), draw_storage()};

  const int threads = int(whole(1, 3));
  const Results<T> out = on_cpu(c, threads, canary<T>(), shift);
  check_written(out);
  const double highest = steepness(c, c.problem.nu) + steepness(c, c.problem.mu);
  if (!tame_knots || highest > std::log10(std::numeric_limits<T>::max()) - 6) return;
  check_kinds(c, out);
  if (large && threads > 1) check_same_bits(out, on_cpu(c, 1, canary<T>(), shift));
  if (!large && !wild && chance(kSampled / 4)) check_close(out, by_definition(c), c.stored);
}

void report_case() {
  if (running) std::fprintf(stderr, "in case %u\n", unsigned(current_case));
}

}  // namespace

void fuzz(uint32_t seed, uint32_t count) {
  std::printf("cases %u .. %u\n", unsigned(seed), unsigned(seed + count - 1));
  std::fflush(stdout);
  std::atexit(report_case);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(report_case);
#endif
  running = true;
  for (current_case = seed; current_case != seed + count; ++current_case) {
    generator().seed(current_case);
    chance(2) ? test_one<float>() : test_one<double>();
  }
  running = false;
  std::puts("ok");
}

}  // namespace fastkan::test

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: fuzz SEED COUNT\n"), 2;
  const auto number = [](const char* text) { return uint32_t(std::strtoul(text, nullptr, 10)); };
  fastkan::test::fuzz(number(argv[1]), number(argv[2]));
}
