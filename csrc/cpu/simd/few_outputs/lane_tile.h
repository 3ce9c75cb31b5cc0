// A tile of rows of a layer with few outputs: lanes hold rows, in order. Every number of an x (its interval,
// its splines and activation, its products with the weights) stands in the lane of its row. What depends on
// the interval (knots, widths, weights) is looked up in tables in registers. All splines are stored, no pivot
// is left out: a product of differences would need a table for each difference.
#pragma once

#include "../common/arena.h"
#include "../common/blocks.h"
#include "../common/evaluate.h"
#include "../common/lookup.h"
#include "../common/tile.h"

#ifdef FASTKAN_LOOKUP
namespace fastkan {
namespace FASTKAN_ISA {

// The values of a set at every x of one input: an array of rows for each of the R splines alive, and one for
// the base slot.
template <class T>
struct LaneValues {
  Values set;
  T *splines = nullptr, *base = nullptr;
};

// A tile of rows, one input at a time. Rows past the last one, up to a whole vector, hold zeros.
template <class T>
struct LaneTile {
  LaneValues<T> first, second, plain;  // as in Sets
  int rows = 0, vectors = 0;
  int64_t stride = 0;                     // of an array of rows
  T *x = nullptr, *factors = nullptr;     // of every input of the chunk
  T *knots = nullptr, *tables = nullptr;  // of one input
  T* weight = nullptr;                    // a table for each output, then the row of the base slot
  T* interval = nullptr;                  // of every x: whole numbers of the same size
};

// The arrays of a set: grad_weight needs a power of two.
constexpr int period_of(int splines) {
  int period = 1;
  while (period < splines) period *= 2;
  return period;
}

// Registers that hold an entry for each interval, and one more for x outside
template <class T>
FASTKAN_HD int table_registers(const Problem& problem) {
  return problem.num_knots <= kLanes<T> ? 1 : 2;
}

template <class T>
static LaneTile<T> make_lane_tile(const Call<T>& call, const Sets& sets, Arena& arena) {
  const Problem& problem = call.problem;
  const int p = problem.degree, size = table_registers<T>(problem) * kLanes<T>;
  LaneTile<T> tile;
  tile.stride = (call.tile_rows + 63) / 64 * 64 + 64 / sizeof(T);
  tile.x = arena.take<T>(call.chunk_inputs * tile.stride);
  tile.factors = call.row_weight.data ? arena.take<T>(call.chunk_inputs * tile.stride) : nullptr;
  tile.knots = arena.take<T>(2 * p + size + kLanes<T>);
  tile.tables = arena.take<T>((1 + 2 * p + p * (p + 1) / 2) * size);
  tile.weight = arena.take<T>(problem.out_features * (size + 1));
  tile.interval = arena.take<T>(tile.stride);
  const auto take = [&](const Values& set) {
    LaneValues<T> values;
    values.set = set;
    if (set.splines > 0) values.splines = arena.take<T>(period_of(set.splines) * tile.stride);
    if (set.splines >= 0) values.base = arena.take<T>(tile.stride);
    return values;
  };
  tile.first = take(sets.first);
  tile.second = take(sets.second);
  tile.plain = take(sets.plain);
  return tile;
}

// ---- a tile made ready

// The tables, an entry for each interval j: t_j, and NaN past the last knot; t_{j+q} for q = 1 - p .. p, the
// ends repeated; the inverse widths of raise_degree, those of degree 1 first. In the last two, x outside
// finds zeros: no splines.
template <class T, int N>
static void fill_tables(const Problem& problem, const T* knots, const LaneTile<T>& tile) {
  constexpr int w = kLanes<T>;
  const int p = problem.degree, K = int(problem.num_knots);
  T* const first = tile.knots + p - 1;
  for (int q = 1 - p; q < K + p - 1; ++q) first[q] = knots[q < 0 ? 0 : q < K ? q : K - 1];
  for (int n = 0; n < N; ++n) {
    const Mask<T> j = lane_numbers<T>() + n * w, exists = j < K - 1;
    const T* const own = first + n * w;
    T* out = tile.tables + n * w;
    store(out, j < K ? load(own) : broadcast(T(NAN)));
    const auto put = [&](Lanes<T> entries) FASTKAN_INLINE_LAMBDA {
      out += N * w;
      store(out, exists ? entries : Lanes<T>{});
    };
    for (int q = 1 - p; q <= p; ++q) put(load(own + q));
    for (int k = 1; k <= p; ++k)
      for (int r = 0; r < k; ++r) put(T(1) / (load(own + r + 1) - load(own + r + 1 - k)));
  }
}

// The j with t_j <= x < t_{j+1} by bisection, or the number of intervals if x is outside or NaN. Apart from
// the splines, for each step waits for the one before: so more vectors are under way at once.
template <class T, int N>
FASTKAN_NOINLINE void lane_intervals(const LaneTile<T>& tile, int intervals, const T* x) {
  const Table<T, N> knots(tile.tables);
  const Lanes<T> least = broadcast(tile.tables[0]);
  T* const interval = tile.interval;
  for (int b = 0, rows = tile.vectors * kLanes<T>; b < rows; b += kLanes<T>) {
    const Lanes<T> v = load(x + b);
    Mask<T> j{};
    for (int step = N * kLanes<T> / 2; step > 0; step /= 2) {
      const Mask<T> next = j + step;
      j = v >= knots.at(next) ? next : j;
    }
    store(interval + b, Lanes<T>(v >= least ? j : Mask<T>{} + intervals));
  }
}

// The splines at x for one or two orders
template <class T, int R, int N, int ORDERS>
FASTKAN_NOINLINE void lane_splines(const LaneTile<T>& tile, int intervals, const T* x,
                                   const int (&nu)[ORDERS], T* const (&out)[ORDERS]) {
  constexpr int p = R - 1, size = N * kLanes<T>;
  const T *const tables = tile.tables, *const interval = tile.interval;
  const int64_t stride = tile.stride;
  for (int b = 0, rows = tile.vectors * kLanes<T>; b < rows; b += kLanes<T>) {
    const Mask<T> j = Mask<T>(load(interval + b));
    const Lanes<T> v =
        j == intervals ? Lanes<T>{} : load(x + b);  // infinity times zeros outside would be NaN
    const auto look_up = [&](int table)
                             FASTKAN_INLINE_LAMBDA { return Table<T, N>(tables + (1 + table) * size).at(j); };
    Lanes<T> knots[2 * p], widths[p], values[ORDERS][R];
    for (int q = 0; q < 2 * p; ++q) knots[q] = look_up(q);
    const auto inverse = [&](int k) FASTKAN_INLINE_LAMBDA -> const Lanes<T>* {
      for (int r = 0; r < k; ++r) widths[r] = look_up(2 * p + k * (k - 1) / 2 + r);
      return widths;
    };
    splines_at<T, R>(nu, knots + p - 1, inverse, v, values);
    for (int s = 0; s < ORDERS; ++s)
      for (int r = 0; r < R; ++r) store(out[s] + stride * r + b, values[s][r]);
  }
}

template <class T, int N>
static void fill_lanes(const Call<T>& call, const LaneTile<T>& tile, int64_t input, int i) {
  const Problem& problem = call.problem;
  const T* const x = tile.x + i * tile.stride;
  const LaneValues<T>&first = tile.first, &second = tile.second;
  const LaneValues<T>& evaluated = tile.plain.set.splines >= 0 ? tile.plain : first;
  const int intervals = int(problem.num_knots - 1);
  fill_tables<T, N>(problem, call.knots + input * problem.num_knots, tile);
  lane_intervals<T, N>(tile, intervals, x);
  with_orders(evaluated.set, second.set, evaluated.splines, second.splines,
              [&](auto r, const auto& nu, const auto& out) {
                lane_splines<T, r.value, N>(tile, intervals, x, nu, out);
              });
  activation_arrays(problem.activation, evaluated.set, second.set, x, tile.rows, evaluated.base, second.base);
  if (!first.set.weighted) return;
  const T* const factors = tile.factors + i * tile.stride;
  const auto multiply = [&](const T* values, T* products) {
    for (int b = 0, rows = tile.vectors * kLanes<T>; b < rows; b += kLanes<T>)
      store(products + b, load(values + b) * load(factors + b));
  };
  for (int r = 0; r < first.set.splines; ++r)
    multiply(evaluated.splines + r * tile.stride, first.splines + r * tile.stride);
  multiply(evaluated.base, first.base);
}

template <class T>
static void read_lanes(const Source& source, int64_t width, Range rows, int64_t first, int columns,
                       int64_t stride, T* out) {
  const int count = int(rows.size());
  read_columns(source, width, rows.begin, count, first, columns, out, stride);
  for (int c = 0; c < columns; ++c)
    for (int b = count; b % kLanes<T>; ++b) out[c * stride + b] = 0;
}

template <class T>
static void read_inputs(const Call<T>& call, LaneTile<T>& tile, Range rows, int64_t first_input, int inputs) {
  const int64_t I = call.problem.in_features;
  tile.rows = int(rows.size());
  tile.vectors = (tile.rows + kLanes<T> - 1) / kLanes<T>;
  read_lanes(call.x, I, rows, first_input, inputs, tile.stride, tile.x);
  if (tile.factors) read_lanes(call.row_weight, I, rows, first_input, inputs, tile.stride, tile.factors);
}

// The weights of one input: for each output a table of its splines, then the row of the base slot
template <class T>
static void read_tables(const Call<T>& call, int64_t input, int size, T* out) {
  const int64_t S = call.problem.splines(), O = call.problem.out_features;
  memset(out, 0, size_t(O) * size * sizeof(T));
  with_elements<T>(call.weight, [&](const auto* data) {
    const auto* const own = data + input * (S + 1) * O;
    for (int64_t s = 0; s < S; ++s)
      for (int64_t o = 0; o < O; ++o) out[o * size + s] = widen(own[s * O + o]);
    for (int64_t o = 0; o < O; ++o) out[O * size + o] = widen(own[S * O + o]);
  });
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
#endif
