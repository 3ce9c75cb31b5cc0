// The ways through the core where a rule of kernels.h chooses between two, timed in turns on one thread. A
// line for each size: "op dtype inputs outputs grid_size degree rows", medians in microseconds for sorted
// rows and for the other way, which that is, and the way that the core chooses.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace fastkan {
namespace {

constexpr int kTurns = 41;
constexpr const char* kWays[] = {"sorted", "direct", "few_outputs"};

template <class T>
std::vector<T> random_values(int64_t count) {
  static std::mt19937 engine(0);
  std::uniform_real_distribution<T> uniform(-1, 1);
  std::vector<T> values(count);
  for (T& value : values) value = uniform(engine);
  return values;
}

template <class T>
struct Layer {
  Call<T> call;
  std::vector<T> x, weight, g, knots, y, grad_input, grad_weight;

  Layer(int64_t rows, int64_t inputs, int64_t outputs, int grid_size, int degree) {
    Problem& problem = call.problem;
    problem.batch = rows;
    problem.in_features = inputs;
    problem.out_features = outputs;
    problem.num_knots = grid_size + 2 * degree + 1;
    problem.degree = degree;
    x = random_values<T>(rows * inputs);
    weight = random_values<T>(inputs * problem.slots() * outputs);
    g = random_values<T>(rows * outputs);
    knots.resize(inputs * problem.num_knots);
    for (int64_t n = 0; n < int64_t(knots.size()); ++n)
      knots[n] = T(n % problem.num_knots - degree) * 2 / T(grid_size) - 1;
    y.resize(g.size());
    grad_input.resize(x.size());
    grad_weight.resize(weight.size());
    call.x = {x.data(), kStorage<T>};
    call.weight = {weight.data(), kStorage<T>};
    call.g = {g.data(), kStorage<T>};
    call.knots = knots.data();
    call.grad_input_nu = 1;
    call.tile_rows = int(std::min<int64_t>(rows, 512));
    call.chunk_inputs = int(std::min<int64_t>(inputs, 64));
  }
};

bool wants_input(const std::string& op) { return op == "grad_input" || op == "gradients"; }
bool wants_weight(const std::string& op) { return op == "grad_weight" || op == "gradients"; }

// op: forward, grad_input, grad_weight, or gradients for both in one call
template <class T>
double microseconds(Layer<T>& layer, const std::string& op, Way way) {
  Call<T>& call = layer.call;
  const Kernels<T>& isa = kernels<T>();
  const Range rows{0, call.problem.batch};
  call.way = way;
  call.y = {op == "forward" ? layer.y.data() : nullptr, kStorage<T>};
  call.grad_input = {wants_input(op) ? layer.grad_input.data() : nullptr, kStorage<T>};
  call.grad_weight = {wants_weight(op) ? layer.grad_weight.data() : nullptr, kStorage<T>};
  const int64_t O = call.problem.out_features;
  char* const space = workspace(op == "forward" ? isa.forward_bytes(call, {0, std::min<int64_t>(O, 512)})
                                                : isa.fused_gradients_bytes(call));
  const auto start = std::chrono::steady_clock::now();
  if (op == "forward")
    for (int64_t o = 0; o < O; o += 512) isa.forward(call, rows, {o, std::min(o + 512, O)}, space);
  else
    isa.fused_gradients(call, rows, {0, call.problem.in_features}, space);
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

template <class T>
void measure(const std::string& op, Way other, int64_t inputs, int64_t outputs, int grid_size, int64_t rows,
             int degree = 3) {
  Layer<T> layer(rows, inputs, outputs, grid_size, degree);
  const Problem& problem = layer.call.problem;
  const int entries = kernels<T>().entries;
  if (other == Way::few_outputs && problem.num_knots > entries) return;
  std::vector<double> times[2];
  for (int turn = 0; turn < kTurns; ++turn) {
    times[0].push_back(microseconds(layer, op, Way::sorted));
    times[1].push_back(microseconds(layer, op, other));
  }
  for (std::vector<double>& series : times) std::sort(series.begin(), series.end());
  const Way chosen = op == "forward"
                         ? forward_way(problem, entries)
                         : fused_gradients_way(problem, entries, wants_input(op), wants_weight(op));
  std::printf("%s %s %ld %ld %d %d %ld %.2f %.2f %s %s\n", op.c_str(), sizeof(T) == 4 ? "float32" : "float64",
              long(inputs), long(outputs), grid_size, degree, long(rows), times[0][kTurns / 2],
              times[1][kTurns / 2], kWays[int(other)], kWays[int(chosen)]);
}

template <class T>
void measure_few_outputs() {
  const auto every = [](int64_t inputs, int64_t outputs, int grid_size, int64_t rows, int degree) {
    for (const char* const op : {"forward", "grad_input", "grad_weight", "gradients"})
      measure<T>(op, Way::few_outputs, inputs, outputs, grid_size, rows, degree);
  };
  for (const int64_t inputs : {5, 64})
    for (const int grid_size : {5, 9, 20})
      for (const int64_t outputs : {1, 2, 3, 4, 5, 6, 8, 12, 16}) every(inputs, outputs, grid_size, 1000, 3);
  for (const int64_t rows : {4, 8, 16, 32, 100, 10000})
    for (const int64_t outputs : {1, 4, 8}) every(5, outputs, 5, rows, 3);
  for (const int degree : {1, 2, 4, 5, 8})
    for (const int64_t outputs : {1, 4, 8}) every(5, outputs, 5, 1000, degree);
}

}  // namespace
}  // namespace fastkan

int main() {
  using namespace fastkan;
  for (const int grid_size : {5, 16, 64})
    for (const int64_t size : {64, 256, 1024})
      for (const int64_t rows : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64})
        measure<float>("forward", Way::direct, size, size, grid_size, rows);
  measure_few_outputs<float>();
  measure_few_outputs<double>();
}
