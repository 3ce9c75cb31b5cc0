// Jets of layers with few outputs: lanes hold rows. The splines meet the weights in vectors of sorted rows
// that share an interval, so that weights are scalars; what an edge gives goes back into order and there
// meets the directions.
#pragma once

#include "orders.h"

namespace fastkan {
namespace FASTKAN_ISA {

// N orders of every edge of one input, and what flows in, for a tile of rows. Columns are `stride` apart.
template <class T, int N>
struct JetLanes {
  Chunk<T> chunk;
  int64_t stride;
  T *base, *edges, *sorted;     // [N], [O][N]: the activation's orders, the edges' in order and sorted
  T *first, *second, *squares;  // [d][inputs], [inputs], one column

  JetLanes(const JetCall<T>& jet, Arena& arena) {
    const Call<T>& layer = jet.layer;
    chunk = make_chunk(layer, Sets{}, layer.tile_rows, layer.chunk_inputs, arena);
    stride = chunk.stride;
    const int64_t all = layer.chunk_inputs * stride;
    base = arena.take<T>(N * stride);
    edges = arena.take<T>(layer.problem.out_features * N * stride);
    sorted = arena.take<T>(layer.problem.out_features * N * stride);
    first = arena.take<T>(jet.first ? jet.directions * all : 0);
    second = arena.take<T>(jet.second ? all : 0);
    squares = arena.take<T>(stride);
  }
  const T* direction(int64_t k, int i) const { return first + (k * chunk.inputs + i) * stride; }
};

template <class T>
FASTKAN_HD Source source_of(const T* data) {
  return {data, kStorage<T>};
}

// Calls body(b) for every vector of rows. Those past the last row hold anything.
template <class T, class Body>
FASTKAN_HD void in_vectors(int rows, const Body& body) {
  for (int b = 0; b < rows; b += kLanes<T>) body(b);
}

template <class T, int N>
static void read_jet(const JetCall<T>& jet, JetLanes<T, N>& lanes, int64_t first_row, int rows,
                     int64_t first_input, int inputs) {
  const Call<T>& layer = jet.layer;
  const int64_t I = layer.problem.in_features, all = layer.problem.batch * I;
  lanes.chunk.rows = rows;
  lanes.chunk.inputs = inputs;
  const auto read = [&](const T* from, T* to) {
    read_columns(source_of(from), I, first_row, rows, first_input, inputs, to, lanes.stride);
  };
  read(static_cast<const T*>(layer.x.data), lanes.chunk.columns);
  if (jet.second) read(jet.second, lanes.second);
  if (jet.first)
    for (int64_t k = 0; k < jet.directions; ++k)
      read(jet.first + k * all, lanes.first + k * inputs * lanes.stride);
}

template <class T, int N>
static void fill_squares(const JetCall<T>& jet, const JetLanes<T, N>& lanes, int64_t input, int i) {
  in_vectors<T>(lanes.chunk.rows, [&](int b) {
    Lanes<T> sum = jet.first ? Lanes<T>{} : broadcast(jet.coefficient(input));
    if (jet.first)
      for (int64_t k = 0; k < jet.directions; ++k) {
        const Lanes<T> t = load(lanes.direction(k, i) + b);
        sum += jet.coefficient(k) * t * t;
      }
    store(lanes.squares + b, sum);
  });
}

// sums[n], n >= FROM, = the nth derivative of the splines of the edge to one output, whose weights are
// `stride` apart. Those that do not exist add nothing.
template <class T, int N, int FROM, int R>
FASTKAN_HD void edge_orders(const Lanes<T> (&values)[N][R], const T* weight, int64_t stride, int first,
                            int splines, Lanes<T> (&sums)[N]) {
  for (int n = FROM; n < N; ++n) sums[n] = Lanes<T>{};
  for (int r = 0; r < R; ++r) {
    const T own = first + r >= 0 && first + r < splines ? weight[(first + r) * stride] : T(0);
    for (int n = FROM; n < N; ++n) sums[n] += own * values[n][r];
  }
}

// The edges' splines at sorted rows, then all of the edges at rows in order
template <class T, int N, int FROM>
static void finish_edges(const Problem& problem, const JetLanes<T, N>& lanes, const T* base_weight, int i) {
  const Chunk<T>& chunk = lanes.chunk;
  const uint16_t* const order = chunk.order_of(i);
  const int inside = chunk.starts_of(i)[chunk.intervals];
  for (int64_t c = 0; c < problem.out_features * N; ++c) {
    if (c % N < FROM) continue;
    const T *const sorted = lanes.sorted + c * lanes.stride, *const base = lanes.base + c % N * lanes.stride;
    T* const edge = lanes.edges + c * lanes.stride;
    for (int q = 0; q < inside; ++q) edge[order[q]] = sorted[q];
    for (int q = inside; q < chunk.rows; ++q) edge[order[q]] = 0;
    const T own = base_weight[c / N];
    in_vectors<T>(chunk.rows, [&](int b) { store(edge + b, load(edge + b) + own * load(base + b)); });
  }
}

// Computes orders FROM to N - 1 of the edges of an input whose rows are sorted; also(splines, rows, values)
// sees the splines.
template <class T, int N, int FROM, class Also>
static void fill_edges(const Call<T>& layer, JetLanes<T, N>& lanes, int64_t first_input, int i,
                       const Also& also) {
  const Problem& problem = layer.problem;
  const int64_t S = problem.splines(), O = problem.out_features;
  const T* const weight = static_cast<const T*>(layer.weight.data) + (first_input + i) * (S + 1) * O;
  for_sorted<T, N>(layer, lanes.chunk, i, [&](auto splines, const Sorted& rows, const auto& values) {
    const int first = rows.interval - (splines.value - 1);
    for (int64_t o = 0; o < O; ++o) {
      Lanes<T> sums[N];
      edge_orders<T, N, FROM, splines.value>(values, weight + o, O, first, int(S), sums);
      for (int n = FROM; n < N; ++n) store(lanes.sorted + (o * N + n) * lanes.stride + rows.q, sums[n]);
    }
    also(splines, rows, values);
  });
  base_orders<T, N>(problem.activation, lanes.chunk.columns + i * lanes.stride, lanes.chunk.rows,
                    lanes.stride, lanes.base);
  finish_edges<T, N, FROM>(problem, lanes, weight + S * O, i);
}

// ---- forward

template <class T>
struct JetForwardLanes {
  JetLanes<T, 3> lanes;
  T* y;  // [d + 2][O]: value, second, first

  JetForwardLanes(const JetCall<T>& jet, Arena& arena) : lanes(jet, arena) {
    y = arena.take<T>((jet.directions + 2) * jet.layer.problem.out_features * lanes.stride);
  }
};

// Adds what one input gives to one output. y, stride: of the output's column of values and of those after it.
template <class T>
FASTKAN_NOINLINE void jet_of_edge(const JetCall<T>& jet, const JetLanes<T, 3>& lanes, const T* edges,
                                  int64_t input, int i, T* y, int64_t stride) {
  const T* const seconds = jet.second ? lanes.second + i * lanes.stride : nullptr;
  in_vectors<T>(lanes.chunk.rows, [&](int b) {
    const Lanes<T> slope = load(edges + lanes.stride + b), curve = load(edges + 2 * lanes.stride + b);
    const auto add = [&](int64_t column, Lanes<T> more) FASTKAN_INLINE_LAMBDA {
      store(y + column * stride + b, load(y + column * stride + b) + more);
    };
    add(0, load(edges + b));
    Lanes<T> second = load(lanes.squares + b) * curve;
    if (seconds) second += load(seconds + b) * slope;
    add(1, second);
    if (!jet.first) return add(2 + input, slope);
    for (int64_t k = 0; k < jet.directions; ++k) add(2 + k, load(lanes.direction(k, i) + b) * slope);
  });
}

template <class T>
static void jet_lanes(const JetCall<T>& jet, Range rows, char* workspace) {
  Arena arena(workspace);
  JetForwardLanes<T> space(jet, arena);
  JetLanes<T, 3>& lanes = space.lanes;
  const int64_t I = jet.layer.problem.in_features, O = jet.layer.problem.out_features,
                step = O * lanes.stride;
  for (int64_t b = rows.begin; b < rows.end; b += jet.layer.tile_rows) {
    const int count = block_size(rows.end - b, jet.layer.tile_rows);
    memset(space.y, 0, size_t((jet.directions + 2) * step) * sizeof(T));
    for (int64_t i = 0; i < I; i += jet.layer.chunk_inputs) {
      read_jet(jet, lanes, b, count, i, block_size(I - i, jet.layer.chunk_inputs));
      for (int c = 0; c < lanes.chunk.inputs; ++c) {
        sort_input(jet.layer, lanes.chunk, i, c);
        fill_edges<T, 3, 0>(jet.layer, lanes, i, c, [](auto, const Sorted&, const auto&) {});
        fill_squares(jet, lanes, i + c, c);
        for (int64_t o = 0; o < O; ++o)
          jet_of_edge(jet, lanes, lanes.edges + o * 3 * lanes.stride, i + c, c, space.y + o * lanes.stride,
                      step);
      }
    }
    const auto write = [&](int64_t column, T* to) {
      write_columns(space.y + column * step, lanes.stride, Target{to, kStorage<T>}, O, b, count, 0, int(O));
    };
    write(0, jet.y);
    write(1, jet.y_second);
    for (int64_t k = 0; k < jet.directions; ++k) write(2 + k, jet.y_first + k * jet.layer.problem.batch * O);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
