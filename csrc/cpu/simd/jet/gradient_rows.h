// The gradients of a jet row by row, lanes along the outputs. The cotangents of all directions are joined
// before they meet the slots: with h1 = sum_k T_k g_k + s g_second an edge takes 3 (p + 2) multiply-adds for
// the weight, whatever d is.
#pragma once

#include "rows.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class T>
struct JetGradientRows {
  Records<T, 4> records;
  T *squares, *slots, *g, *total;  // g: the cotangents of one row; total: grad_weight

  JetGradientRows(const JetCall<T>& jet, Arena& arena) : records(jet.layer, arena) {
    const Problem& problem = jet.layer.problem;
    const int width = 4 * kLanes<T>, inputs = jet.layer.chunk_inputs;
    squares = arena.take<T>(int64_t(jet.layer.tile_rows) * inputs);
    slots = arena.take<T>(inputs * problem.slots() * width);
    g = arena.take<T>((jet.directions + 2) * width);
    const bool in_place = problem.out_features % kLanes<T> == 0;
    total = in_place ? nullptr : arena.take<T>(inputs * problem.slots() * padded<T>(problem.out_features));
  }
};

// The cotangents of one row in a block of outputs: where they lie, or padded copies.
template <class T>
struct Cotangents {
  const T *value, *second, *first;
  int64_t stride;  // of the directions
};

template <class T>
static Cotangents<T> cotangents(const JetCall<T>& jet, int64_t row, int64_t o, int columns, int width,
                                T* copy) {
  const int64_t O = jet.layer.problem.out_features, all = jet.layer.problem.batch * O, at = row * O + o;
  if (columns == width) return {jet.g + at, jet.g_second + at, jet.g_first + at, all};
  const auto padded_copy = [&](const T* from, T* to) {
    for (int v = 0; v * kLanes<T> < width; ++v)
      store(to + v * kLanes<T>, load_first(from + v * kLanes<T>, columns_in<T>(columns, v)));
  };
  padded_copy(jet.g + at, copy);
  padded_copy(jet.g_second + at, copy + width);
  for (int64_t k = 0; k < jet.directions; ++k)
    padded_copy(jet.g_first + at + k * all, copy + (k + 2) * width);
  return {copy, copy + width, copy + 2 * width, width};
}

// One x against a block of outputs: the slopes, curvatures and third derivatives of its edges.
template <class T, int NV>
struct Edges {
  Lanes<T> slope[NV], curve[NV], third[NV];
};

template <class T, int NV>
FASTKAN_HD void differentiate(const T* f, int n, const AliveRows<const T>& slots, Edges<T, NV>& edges) {
  for (int m = 0; m < n; ++m)
    for (int v = 0; v < NV; ++v) {
      const Lanes<T> own = load(slots.at(m, n - 1) + v * kLanes<T>);
      edges.slope[v] += f[n + m] * own;
      edges.curve[v] += f[2 * n + m] * own;
      edges.third[v] += f[3 * n + m] * own;
    }
}

// Writes a gradient, or adds to what earlier blocks of outputs gave.
template <class T>
FASTKAN_HD void write(T* to, T value, bool add) {
  *to = add ? *to + value : value;
}

// h1 += T_k g_k for ND directions k, and their gradients: slope . g_k + 2 c_k T_k (curve . g_second)
template <class T, int NV, int ND>
FASTKAN_HD void join(const JetCall<T>& jet, int64_t k, const Cotangents<T>& g, int64_t place, T curved,
                     bool add, const Edges<T, NV>& edges, Lanes<T> (&h1)[NV]) {
  const int64_t all = jet.layer.problem.batch * jet.layer.problem.in_features;
  const T* const t = jet.first + k * all + place;
  Lanes<T> dots[4] = {};
  for (int d = 0; d < ND; ++d)
    for (int v = 0; v < NV; ++v) {
      const Lanes<T> own = load(g.first + (k + d) * g.stride + v * kLanes<T>);
      h1[v] += t[d * all] * own;
      dots[d] += edges.slope[v] * own;
    }
  if (!jet.grad_first) return;
  T totals[4] = {};
  add_sums<T>(dots, totals);
  for (int d = 0; d < ND; ++d)
    write(jet.grad_first + (k + d) * all + place,
          totals[d] + 2 * jet.coefficient(k + d) * t[d * all] * curved, add);
}

template <class T, int NV>
FASTKAN_HD void join_all(const JetCall<T>& jet, const Cotangents<T>& g, int64_t input, int64_t place,
                         T curved, bool add, const Edges<T, NV>& edges, Lanes<T> (&h1)[NV]) {
  for (int v = 0; v < NV; ++v) {
    if (jet.second) h1[v] += jet.second[place] * load(g.second + v * kLanes<T>);
    if (!jet.first) h1[v] += load(g.first + input * g.stride + v * kLanes<T>);
  }
  if (!jet.first) return;
  int64_t k = 0;
  for (; k + 4 <= jet.directions; k += 4) join<T, NV, 4>(jet, k, g, place, curved, add, edges, h1);
  if (jet.directions - k == 3) return join<T, NV, 3>(jet, k, g, place, curved, add, edges, h1);
  if (jet.directions - k == 2) return join<T, NV, 2>(jet, k, g, place, curved, add, edges, h1);
  if (jet.directions - k == 1) return join<T, NV, 1>(jet, k, g, place, curved, add, edges, h1);
}

// Joins the cotangents at one x, and writes what the rows' tensors are given there.
template <class T, int NV>
FASTKAN_HD void gradients_of_one(const JetCall<T>& jet, const Cotangents<T>& g, const Edges<T, NV>& edges,
                                 int64_t input, int64_t place, bool add, T square, Lanes<T> (&h1)[NV]) {
  Lanes<T> dots[4] = {}, rest[4] = {};
  for (int v = 0; v < NV; ++v) {
    const Lanes<T> second = load(g.second + v * kLanes<T>);
    dots[0] += edges.slope[v] * second;
    dots[1] += edges.curve[v] * second;
    dots[2] += edges.third[v] * second;
    dots[3] += edges.slope[v] * load(g.value + v * kLanes<T>);
  }
  T totals[4] = {}, joined[4] = {};
  add_sums<T>(dots, totals);
  if (jet.grad_second) write(jet.grad_second + place, totals[0], add);
  if (jet.grad_squares) write(jet.grad_squares + place, totals[1], add);
  join_all<T, NV>(jet, g, input, place, totals[1], add, edges, h1);
  if (!jet.grad_x) return;
  for (int v = 0; v < NV; ++v) rest[0] += edges.curve[v] * h1[v];
  add_sums<T>(rest, joined);
  write(jet.grad_x + place, totals[3] + square * totals[2] + joined[0], add);
}

// All rows of a tile against a block of outputs; grads: the block of grad_weight
template <class T, int NV>
FASTKAN_NOINLINE void jet_gradient_block(const JetCall<T>& jet, const JetGradientRows<T>& space,
                                         const Slots<const T>& weight, const Slots<T>& grads,
                                         int64_t first_row, int64_t first_input, int64_t o, int columns) {
  constexpr int w = kLanes<T>;
  const Problem& problem = jet.layer.problem;
  const Records<T, 4>& records = space.records;
  const int n = records.slots, inputs = records.chunk.inputs;
  const bool to_rows = jet.grad_x || jet.grad_first || jet.grad_second || jet.grad_squares;
  for (int b = 0; b < records.chunk.rows; ++b) {
    const int64_t row = first_row + b;
    const Cotangents<T> g = cotangents(jet, row, o, columns, NV * w, space.g);
    for (int i = 0; i < inputs; ++i) {
      const T *const f = records.at(b, i), square = space.squares[records.place(b, i)];
      const int64_t input = first_input + i, place = row * problem.in_features + input;
      Lanes<T> h1[NV] = {};
      Edges<T, NV> edges = {};
      if (to_rows) {
        differentiate<T, NV>(f, n, alive_rows(problem, records, weight, b, i), edges);
        gradients_of_one<T, NV>(jet, g, edges, input, place, o > 0, square, h1);
      } else {
        join_all<T, NV>(jet, g, input, place, T(0), false, edges, h1);
      }
      if (!jet.grad_weight) continue;
      const AliveRows<T> slots = alive_rows(problem, records, grads, b, i);
      for (int m = 0; m < n; ++m) {
        const T curved = f[2 * n + m] * square;
        for (int v = 0; v < NV; ++v) {
          T* const own = slots.at(m, n - 1) + v * w;
          store(own, load(own) + f[m] * load(g.value + v * w) + f[n + m] * h1[v] +
                         curved * load(g.second + v * w));
        }
      }
    }
  }
}

// Every slot of an input with a NaN x has a NaN gradient.
template <class T>
static void spread_nan(const Problem& problem, const Chunk<T>& chunk, int i, T* grads, int64_t stride) {
  if (has_nan(chunk, i))
    for (int64_t m = 0; m < problem.slots(); ++m)
      for (int64_t o = 0; o < problem.out_features; ++o) grads[m * stride + o] = T(NAN);
}

template <class T>
static void jet_gradient_tile(const JetCall<T>& jet, JetGradientRows<T>& space, Range rows,
                              int64_t first_input, int inputs, const Slots<T>& sums) {
  const Problem& problem = jet.layer.problem;
  fill_records(jet.layer, space.records, rows.begin, int(rows.size()), first_input, inputs);
  fill_squares(jet, rows.begin, int(rows.size()), first_input, inputs, space.squares);
  in_output_blocks<T>(problem.out_features, [&](auto vectors, int64_t o, int columns) {
    const int width = vectors.value * kLanes<T>;
    const Slots<const T> weight =
        weight_block(jet.layer, first_input, inputs, o, columns, width, space.slots);
    const Slots<T> grads{sums.data + o, sums.input_stride, sums.slot_stride};
    jet_gradient_block<T, vectors.value>(jet, space, weight, grads, rows.begin, first_input, o, columns);
  });
  if (!jet.grad_weight) return;
  for (int i = 0; i < inputs; ++i)
    spread_nan(problem, space.records.chunk, i, sums.data + i * sums.input_stride, sums.slot_stride);
}

template <class T>
static void jet_gradient_rows(const JetCall<T>& jet, Range rows, Range inputs, char* workspace) {
  Arena arena(workspace);
  JetGradientRows<T> space(jet, arena);
  const int64_t O = jet.layer.problem.out_features, M = jet.layer.problem.slots();
  const int count = int(inputs.size());
  Slots<T> sums{space.total, M * padded<T>(O), padded<T>(O)};
  if (jet.grad_weight) {
    if (!space.total) sums = {jet.grad_weight + inputs.begin * M * O, M * O, O};
    memset(sums.data, 0, size_t(count) * sums.input_stride * sizeof(T));
  }
  for (int64_t b = rows.begin; b < rows.end; b += jet.layer.tile_rows)
    jet_gradient_tile(jet, space, {b, b + block_size(rows.end - b, jet.layer.tile_rows)}, inputs.begin, count,
                      sums);
  if (jet.grad_weight && space.total)
    write_block(space.total, sums.slot_stride, count * M, int(O), false, Target{jet.grad_weight, kStorage<T>},
                inputs.begin * M * O, O);
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
