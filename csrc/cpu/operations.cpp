// How an operation is cut into tasks. What a task covers depends on the problem alone, so that no answer
// depends on the number of threads.
#include "operations.h"

#include <cstring>
#include <vector>

#include "cuts.h"

namespace fastkan {
namespace {

// Rows of a tile: enough that an interval of the grid holds some 8 of them, for its weight rows are loaded
// once per tile; 512 to 1024 differ by less than 8 %.
int tile_rows(const Problem& problem) {
  const int64_t wanted = 8 * problem.num_knots <= 512 ? 512 : 1024;
  return int(std::max<int64_t>(std::min(wanted, problem.batch), 1));
}

// What every operation's call starts with.
template <class T>
Call<T> start_call(const Problem& problem, Source x, Source row_weight, const T* knots) {
  Call<T> call;
  call.problem = problem;
  call.x = x;
  call.row_weight = row_weight;
  call.knots = knots;
  call.tile_rows = tile_rows(problem);
  call.chunk_inputs = 1;
  return call;
}

// How forward is cut: into fewer rows than a tile sorts at most, then into fewer outputs, until every thread
// has its share. The sums of an output are the same in any cut, so the cut may depend on the number of
// threads.
constexpr int64_t kOutputs = 512;
struct Cut {
  int rows;
  int64_t outputs;
};
Cut cut_forward(const Problem& problem, int most_rows, bool direct, int threads) {
  const int64_t least_rows = direct ? 1 : std::max<int64_t>(64, 4 * problem.num_knots);
  int64_t row_tiles = block_count(problem.batch, most_rows), outputs = kOutputs;
  if (row_tiles < 4 * threads) {
    row_tiles = block_count(row_tiles, threads) * threads;
    row_tiles = std::clamp<int64_t>(problem.batch / least_rows, 1, row_tiles);
    while (outputs > 64 && row_tiles * block_count(problem.out_features, outputs) < threads) outputs /= 2;
  }
  return {int(block_count(problem.batch, row_tiles)), outputs};
}

void expect_writes(const Target& target, int64_t count) {
  if (target.data) prefer_huge_pages(target.data, size_t(count) * bytes_of(target.storage));
}

void clear(const Target& target, int64_t count) {
  if (target.data) std::memset(target.data, 0, size_t(count) * bytes_of(target.storage));
}

// How fused gradients are cut. The sums of grad_weight depend on the cut, so the shapes alone decide it.
// Every task has inputs of its own, so that no other task adds to their grad_weight; where there are enough
// inputs, they fill whole cache lines of grad_input, because threads that write to the same line slow each
// other down. Where grad_weight is small, rows are shared out too, and the parts of grad_weight are added up
// one after another.
struct FusedGradientsCut {
  int64_t splits, inputs;
};
FusedGradientsCut cut_fused_gradients(const Problem& problem, int64_t most_inputs, int64_t line) {
  const int64_t I = problem.in_features, wanted = block_count(I, 16);
  const bool enough = is_small(problem) || I >= 8 * line;
  const int64_t inputs = enough ? block_count(wanted, line) * line : wanted;
  return {cut_rows(problem, 512), std::min({inputs, most_inputs, I})};
}

// Whether forward is computed beside the gradients, from the same values of the splines. It sums over all
// inputs, so every task must have them all in one chunk, and only rows are shared out. The shapes alone
// decide: beside the gradients, forward may round differently than alone.
template <class T>
bool forward_joins(const Call<T>& call, int entries) {
  return call.way == forward_way(call.problem, entries) && call.chunk_inputs == call.problem.in_features &&
         is_small(call.problem);
}

// Takes smaller tiles where all inputs then fit into one chunk, so that forward can join: at (1000, 32, 32)
// both gradients and forward in one pass take 0.85 of the time of a forward apart. With 64 inputs in tiles of
// 128 rows they take 0.92 to 1.13.
template <class T, class Bytes>
void choose_joint_tiles(Call<T>& call, const Bytes& bytes) {
  const int64_t I = call.problem.in_features;
  const int64_t least_rows = std::max<int64_t>(128, 4 * call.problem.num_knots);
  Call<T> joint = call;
  while (joint.chunk_inputs < I && I <= 32 && joint.tile_rows / 2 >= least_rows) {
    joint.tile_rows /= 2;
    choose_inputs(joint, bytes);
  }
  if (joint.chunk_inputs == I) call = joint;
}

}  // namespace

template <class T>
void Cpu::forward(const Problem& problem, Source x, Source weight, Source row_weight, const T* knots,
                  Target y) const {
  if (is_empty(problem)) return clear(y, problem.batch * problem.out_features);
  const Kernels<T>& isa = kernels<T>();
  expect_writes(y, problem.batch * problem.out_features);
  Call<T> call = start_call(problem, x, row_weight, knots);
  call.weight = weight;
  call.y = y;
  call.way = forward_way(problem, isa.entries);
  choose_inputs(call, [&](const Call<T>& c) {
    return isa.forward_bytes(c, {0, std::min(kOutputs, problem.out_features)});
  });
  const int own_threads = threads_for(problem, threads);
  const Cut cut = cut_forward(problem, call.tile_rows, call.way == Way::direct, own_threads);
  call.tile_rows = cut.rows;
  const size_t bytes = isa.forward_bytes(call, {0, std::min(cut.outputs, problem.out_features)});
  const int64_t row_tiles = block_count(problem.batch, cut.rows),
                column_tiles = block_count(problem.out_features, cut.outputs);
  parallel_for(row_tiles * column_tiles, own_threads, [&](int64_t task) {
    isa.forward(call, block_at(task / column_tiles, problem.batch, cut.rows),
                block_at(task % column_tiles, problem.out_features, cut.outputs), workspace(bytes));
  });
}

template <class T>
void Cpu::fused_gradients(const Problem& problem, int64_t input_nu, Source x, Source weight, Source g,
                          Source row_weight, const T* knots, const FusedGradients& out) const {
  const int64_t B = problem.batch, I = problem.in_features, size = weight_size(problem);
  if (is_empty(problem)) {
    for (const Target& target : {out.input, out.row_weight}) clear(target, B * I);
    clear(out.y, B * problem.out_features);
    return clear(out.weight, size);
  }
  const Kernels<T>& isa = kernels<T>();
  for (const Target& target : {out.input, out.row_weight}) expect_writes(target, B * I);
  expect_writes(out.weight, size);
  Call<T> call = start_call(problem, x, row_weight, knots);
  call.weight = weight;
  call.g = g;
  call.grad_input = out.input;
  call.grad_input_nu = input_nu;
  call.grad_weight = out.weight;
  call.grad_row_weight = out.row_weight;
  call.y = out.y;
  call.way =
      fused_gradients_way(problem, isa.entries, out.input.data || out.row_weight.data, out.weight.data);
  choose_inputs(call, isa.fused_gradients_bytes);
  if (out.y.data) choose_joint_tiles(call, isa.fused_gradients_bytes);

  FusedGradientsCut cut = cut_fused_gradients(problem, call.chunk_inputs, 64 / sizeof(T));
  if (out.y.data && forward_joins(call, isa.entries)) {
    cut = {cut_rows(problem, threads_for(problem, 2) > 1 ? 256 : 512), I};
  } else if (out.y.data) {
    forward(problem, x, weight, row_weight, knots, out.y);
    if (!out.input.data && !out.row_weight.data && !out.weight.data) return;
    call.y = {};
  }
  const int64_t split_rows = block_count(B, cut.splits), input_tasks = block_count(I, cut.inputs);
  call.chunk_inputs = int(cut.inputs);
  const bool separate = cut.splits > 1 && out.weight.data;
  std::vector<T> parts(separate ? size_t(cut.splits * size) : 0);
  const size_t bytes = isa.fused_gradients_bytes(call);
  parallel_for(cut.splits * input_tasks, threads_for(problem, threads), [&](int64_t task) {
    Call<T> own = call;
    if (separate) own.grad_weight = {parts.data() + task / input_tasks * size, kStorage<T>};
    isa.fused_gradients(own, block_at(task / input_tasks, B, split_rows),
                        block_at(task % input_tasks, I, cut.inputs), workspace(bytes));
  });
  if (!separate) return;
  for (int64_t s = 1; s < cut.splits; ++s)
    for (int64_t k = 0; k < size; ++k) parts[k] += parts[s * size + k];
  with_elements<T>(out.weight, [&](auto* elements) {
    for (int64_t k = 0; k < size; ++k) narrow(parts[k], elements + k);
  });
}

template <class T>
void Cpu::gram(const Problem& problem, Source x, Source row_weight, const T* knots, T* out) const {
  const Kernels<T>& isa = kernels<T>();
  const Call<T> call = start_call(problem, x, row_weight, knots);
  const size_t bytes = isa.gram_bytes(call);
  parallel_for(problem.in_features, threads_for(problem, threads),
               [&](int64_t i) { isa.gram(call, {i, i + 1}, out, workspace(bytes)); });
}

template <class T>
void Cpu::quadratic(const Problem& problem, Source x, const T* form, const T* knots, T* out) const {
  const Kernels<T>& isa = kernels<T>();
  const Call<T> call = start_call(problem, x, {}, knots);
  const size_t bytes = isa.gram_bytes(call);
  const int64_t tiles = block_count(problem.batch, call.tile_rows);
  parallel_for(tiles * problem.in_features, threads_for(problem, threads), [&](int64_t task) {
    const int64_t i = task % problem.in_features;
    isa.quadratic(call, block_at(task / problem.in_features, problem.batch, call.tile_rows), {i, i + 1}, form,
                  out, workspace(bytes));
  });
}

#define FASTKAN_INSTANTIATE(T)                                                                          \
  template void Cpu::forward(const Problem&, Source, Source, Source, const T*, Target) const;           \
  template void Cpu::fused_gradients(const Problem&, int64_t, Source, Source, Source, Source, const T*, \
                                     const FusedGradients&) const;                                      \
  template void Cpu::gram(const Problem&, Source, Source, const T*, T*) const;                          \
  template void Cpu::quadratic(const Problem&, Source, const T*, const T*, T*) const;
FASTKAN_INSTANTIATE(float)
FASTKAN_INSTANTIATE(double)

}  // namespace fastkan
