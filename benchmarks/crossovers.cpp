// F of few rows both ways, sorted and direct, in turns on one thread: a line "inputs outputs grid_size rows
// sorted direct chosen" for each size: medians in microseconds, and 1 where the core goes direct.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace fastkan {
namespace {

constexpr int kDegree = 3, kTurns = 41;
constexpr int64_t kRows[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

std::vector<float> random_values(int64_t count) {
  static std::mt19937 engine(0);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(engine);
  return values;
}

double microseconds(const Call<float>& call) {
  const Kernels<float>& isa = kernels<float>();
  const Range rows{0, call.problem.batch}, outputs{0, std::min<int64_t>(call.problem.out_features, 512)};
  char* const space = workspace(isa.forward_bytes(call, outputs));
  const auto start = std::chrono::steady_clock::now();
  for (int64_t o = 0; o < call.problem.out_features; o += 512)
    isa.forward(call, rows, {o, std::min(o + 512, call.problem.out_features)}, space);
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

void measure(int64_t inputs, int64_t outputs, int grid_size) {
  Problem problem;
  problem.in_features = inputs;
  problem.out_features = outputs;
  problem.num_knots = grid_size + 2 * kDegree + 1;
  problem.degree = kDegree;
  const std::vector<float> x = random_values(kRows[11] * inputs);
  const std::vector<float> weight = random_values(inputs * problem.slots() * outputs);
  std::vector<float> knots(inputs * problem.num_knots), y(kRows[11] * outputs);
  for (int64_t n = 0; n < int64_t(knots.size()); ++n)
    knots[n] = float(n % problem.num_knots - kDegree) * 2 / float(grid_size) - 1;
  for (const int64_t rows : kRows) {
    Call<float> call;
    call.problem = problem;
    call.problem.batch = rows;
    call.x = {x.data(), Storage::float32};
    call.weight = {weight.data(), Storage::float32};
    call.knots = knots.data();
    call.y = {y.data(), Storage::float32};
    call.tile_rows = int(rows);
    call.chunk_inputs = 64;
    std::vector<double> times[2];
    for (int turn = 0; turn < kTurns; ++turn)
      for (const bool direct : {false, true}) {
        call.direct = direct;
        times[direct].push_back(microseconds(call));
      }
    for (std::vector<double>& series : times) std::sort(series.begin(), series.end());
    std::printf("%ld %ld %d %ld %.2f %.2f %d\n", long(inputs), long(outputs), grid_size, long(rows),
                times[0][kTurns / 2], times[1][kTurns / 2], int(is_direct(call.problem)));
  }
}

}  // namespace
}  // namespace fastkan

int main() {
  for (const int grid_size : {5, 16, 64})
    for (const int64_t size : {64, 256, 1024}) fastkan::measure(size, size, grid_size);
}
