// The gradients of jets of layers with few outputs.
#pragma once

#include "gradient_rows.h"
#include "lanes.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class T>
struct JetGradientLanes {
  JetLanes<T, 4> lanes;
  T* g;       // [d + 2][O]: cotangents of value, second and first
  T* joined;  // [O][3]: g_value, h1, h2 of one input; sorted likewise
  T* sorted;
  T* grads;  // [d + 3][inputs]: of x, second and squares, then of first

  JetGradientLanes(const JetCall<T>& jet, Arena& arena) : lanes(jet, arena) {
    const Problem& problem = jet.layer.problem;
    const int64_t O = problem.out_features, directions = jet.first ? jet.directions : 0;
    g = arena.take<T>((jet.directions + 2) * O * lanes.stride);
    joined = arena.take<T>(O * 3 * lanes.stride);
    sorted = arena.take<T>(O * 3 * lanes.stride);
    grads = arena.take<T>((directions + 3) * jet.layer.chunk_inputs * lanes.stride);
  }
  T* grad(int64_t which, int i) const { return grads + (which * lanes.chunk.inputs + i) * lanes.stride; }
};

// Joins the cotangents of one output for input i, and puts them beside its sorted rows.
template <class T>
FASTKAN_NOINLINE void join_lanes(const JetCall<T>& jet, const JetGradientLanes<T>& space, int64_t input,
                                 int i, int64_t o) {
  const JetLanes<T, 4>& lanes = space.lanes;
  const int64_t stride = lanes.stride, step = jet.layer.problem.out_features * stride;
  const T *const g = space.g + o * stride, *const seconds = jet.second ? lanes.second + i * stride : nullptr;
  T* const joined = space.joined + o * 3 * stride;
  in_vectors<T>(lanes.chunk.rows, [&](int b) {
    const Lanes<T> second = load(g + step + b);
    Lanes<T> sum = seconds ? load(seconds + b) * second : Lanes<T>{};
    if (!jet.first) sum += load(g + (2 + input) * step + b);
    if (jet.first)
      for (int64_t k = 0; k < jet.directions; ++k)
        sum += load(lanes.direction(k, i) + b) * load(g + (2 + k) * step + b);
    store(joined + b, load(g + b));
    store(joined + stride + b, sum);
    store(joined + 2 * stride + b, load(lanes.squares + b) * second);
  });
  const uint16_t* const order = lanes.chunk.order_of(i);
  T* const sorted = space.sorted + o * 3 * stride;
  for (int c = 0; c < 3; ++c)
    for (int q = 0; q < lanes.chunk.rows; ++q) sorted[c * stride + q] = joined[c * stride + order[q]];
}

// grads[r] += the sum over a vector of sorted rows for the R splines from `first` on, `grad_stride` apart
template <class T, int R>
FASTKAN_HD void add_grad_weight(const Sorted& rows, const Lanes<T> (&values)[4][R], const T* joined,
                                int64_t stride, int splines, T* grads, int64_t grad_stride) {
  Lanes<T> g[3];
  for (int n = 0; n < 3; ++n) g[n] = load_first(joined + n * stride + rows.q, rows.count);
  for (int from = 0; from < R; from += 4) {
    Lanes<T> products[4] = {};
    for (int r = from; r < R && r < from + 4; ++r)
      products[r - from] = values[0][r] * g[0] + values[1][r] * g[1] + values[2][r] * g[2];
    T totals[4] = {};
    add_sums<T>(products, totals);
    for (int r = from; r < R && r < from + 4; ++r) {
      const int slot = rows.interval - (R - 1) + r;
      if (slot >= 0 && slot < splines) grads[slot * grad_stride] += totals[r - from];
    }
  }
}

// grad_weight of the base slot
template <class T>
static T base_gradient(const JetLanes<T, 4>& lanes, const T* joined) {
  Lanes<T> sums[4] = {};
  const int rows = lanes.chunk.rows, w = kLanes<T>;
  for (int b = 0; b < rows; b += w)
    for (int n = 0; n < 3; ++n)
      sums[n] += load_first(lanes.base + n * lanes.stride + b, rows - b) *
                 load_first(joined + n * lanes.stride + b, rows - b);
  T totals[4] = {};
  add_sums<T>(sums, totals);
  return totals[0] + totals[1] + totals[2];
}

// Adds to the gradients of x, second, squares and first what input i gets from one output.
template <class T>
FASTKAN_NOINLINE void gradients_of_edge(const JetCall<T>& jet, const JetGradientLanes<T>& space, int i,
                                        int64_t o) {
  const JetLanes<T, 4>& lanes = space.lanes;
  const int64_t stride = lanes.stride, step = jet.layer.problem.out_features * stride;
  const T *const g = space.g + o * stride, *const joined = space.joined + o * 3 * stride;
  const T *const slope = lanes.edges + (o * 4 + 1) * stride, *const curve = slope + stride,
                 *const third = curve + stride;
  in_vectors<T>(lanes.chunk.rows, [&](int b) {
    const auto add = [&](int64_t which, Lanes<T> more) FASTKAN_INLINE_LAMBDA {
      T* const own = space.grad(which, i) + b;
      store(own, o ? load(own) + more : more);
    };
    const Lanes<T> slopes = load(slope + b), curves = load(curve + b), second = load(g + step + b);
    add(0, slopes * load(joined + b) + curves * load(joined + stride + b) +
               load(third + b) * load(joined + 2 * stride + b));
    add(1, slopes * second);
    if (jet.grad_squares) add(2, curves * second);
    if (!jet.grad_first) return;
    for (int64_t k = 0; k < jet.directions; ++k)
      add(3 + k, slopes * load(g + (2 + k) * step + b) +
                     2 * jet.coefficient(k) * load(lanes.direction(k, i) + b) * (curves * second));
  });
}

template <class T>
static void jet_gradient_input(const JetCall<T>& jet, JetGradientLanes<T>& space, int64_t first_input,
                               int i) {
  JetLanes<T, 4>& lanes = space.lanes;
  const Problem& problem = jet.layer.problem;
  const int64_t O = problem.out_features, S = problem.splines();
  sort_input(jet.layer, lanes.chunk, first_input, i);
  fill_squares(jet, lanes, first_input + i, i);
  for (int64_t o = 0; o < O; ++o) join_lanes(jet, space, first_input + i, i, o);
  T* const grads = jet.grad_weight ? jet.grad_weight + (first_input + i) * (S + 1) * O : nullptr;
  fill_edges<T, 4, 1>(
      jet.layer, lanes, first_input, i, [&](auto splines, const Sorted& rows, const auto& values) {
        if (grads)
          for (int64_t o = 0; o < O; ++o)
            add_grad_weight<T, splines.value>(rows, values, space.sorted + o * 3 * lanes.stride, lanes.stride,
                                              int(S), grads + o, O);
      });
  for (int64_t o = 0; o < O; ++o) {
    if (grads) grads[S * O + o] += base_gradient(lanes, space.joined + o * 3 * lanes.stride);
    gradients_of_edge(jet, space, i, o);
  }
  if (grads) spread_nan(problem, lanes.chunk, i, grads, O);
}

template <class T>
static void jet_gradient_lanes(const JetCall<T>& jet, Range rows, Range inputs, char* workspace) {
  Arena arena(workspace);
  JetGradientLanes<T> space(jet, arena);
  JetLanes<T, 4>& lanes = space.lanes;
  const Problem& problem = jet.layer.problem;
  const int64_t I = problem.in_features, O = problem.out_features, step = O * lanes.stride;
  const int count = int(inputs.size());
  if (jet.grad_weight)
    memset(jet.grad_weight + inputs.begin * problem.slots() * O, 0,
           size_t(count * problem.slots() * O) * sizeof(T));
  for (int64_t b = rows.begin; b < rows.end; b += jet.layer.tile_rows) {
    const int own = block_size(rows.end - b, jet.layer.tile_rows);
    read_jet(jet, lanes, b, own, inputs.begin, count);
    const auto read = [&](const T* from, int64_t column) {
      read_columns(source_of(from), O, b, own, 0, int(O), space.g + column * step, lanes.stride);
    };
    read(jet.g, 0);
    read(jet.g_second, 1);
    for (int64_t k = 0; k < jet.directions; ++k) read(jet.g_first + k * problem.batch * O, 2 + k);
    for (int i = 0; i < count; ++i) jet_gradient_input(jet, space, inputs.begin, i);
    const auto write = [&](int64_t which, T* to) {
      if (to)
        write_columns(space.grad(which, 0), lanes.stride, Target{to, kStorage<T>}, I, b, own, inputs.begin,
                      count);
    };
    write(0, jet.grad_x);
    write(1, jet.grad_second);
    write(2, jet.grad_squares);
    if (jet.grad_first)
      for (int64_t k = 0; k < jet.directions; ++k) write(3 + k, jet.grad_first + k * problem.batch * I);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
