// gram and quadratic. Lanes hold rows, interval by interval, so that the p + 2 slots alive are the same for
// all lanes.
#pragma once

#include "../sorted/chunk.h"

namespace fastkan {
namespace FASTKAN_ISA {

constexpr int kAlive = kMaxDegree + 2;  // slots alive at an x, at most

// The slots alive in interval j, or at rows outside: `count` of them, slot[k] where the kth goes.
struct Alive {
  int count = 0, first = 0;  // first: the spline in `values` that slot[0] is
  int64_t slot[kAlive];
};

FASTKAN_HD Alive alive_in(const Problem& problem, int j, int intervals, int64_t nu) {
  Alive alive;
  const int p = problem.degree, splines = int(problem.splines());
  if (j < intervals && nu <= p) {
    alive.first = j < p ? p - j : 0;
    for (int r = alive.first; r <= p && j - p + r < splines; ++r) alive.slot[alive.count++] = j - p + r;
  }
  alive.slot[alive.count++] = problem.splines();
  return alive;
}

// values[k] = the kth alive slot's nu-th derivative at x
template <class T>
FASTKAN_HD void alive_values(const Problem& problem, const Grid<T>& grid, int j, const Alive& alive,
                             int64_t nu, Lanes<T> x, Lanes<T>* values) {
  const int p = problem.degree;
  if (alive.count > 1) {
    Lanes<T> all[kMaxDegree + 1];
    all[0] = broadcast<T>(1);
    for (int k = 1; k <= p; ++k)
      raise_degree(k, k > p - int(nu), grid.knots + j, grid.inverse(k) + j, x, all);
    const auto factor = T(derivative_factor(p, int(nu)));
    for (int k = 0; k + 1 < alive.count; ++k) values[k] = all[alive.first + k] * factor;
  }
  values[alive.count - 1] = activation_derivative(problem.activation, nu, x);
}

template <class T>
struct GramSpace {
  Chunk<T> chunk;
  T* column;
  GramSpace(const Call<T>& call, Arena& arena) {
    chunk = make_chunk(call, Sets{}, call.tile_rows, call.chunk_inputs, arena);
    column = arena.take<T>(chunk.stride * call.chunk_inputs);
  }
};

template <class T>
size_t gram_bytes(const Call<T>& call) {
  Arena arena(nullptr);
  GramSpace<T>(call, arena);
  return arena.used();
}

// out[M, M] += the sum over one input's rows
template <class T>
void add_gram(const Problem& problem, const Chunk<T>& chunk, const Grid<T>& grid, const uint16_t* starts,
              T* out) {
  constexpr int w = kLanes<T>;
  const int64_t M = problem.slots();
  for (int j = 0; j <= chunk.intervals; ++j) {
    const int begin = starts[j], end = starts[j + 1];
    if (begin == end) continue;
    const Alive left = alive_in(problem, j, chunk.intervals, problem.nu),
                right = alive_in(problem, j, chunk.intervals, problem.mu);
    Lanes<T> sums[kAlive][kAlive] = {};
    for (int q = begin; q < end; q += w) {
      const Lanes<T> x = load(chunk.sorted + q);
      Lanes<T> factor = chunk.sorted_factors ? load(chunk.sorted_factors + q) : broadcast<T>(1);
      Lanes<T> f[kAlive], h[kAlive];
      alive_values(problem, grid, j, left, problem.nu, x, f);
      alive_values(problem, grid, j, right, problem.mu, x, h);
      for (int k = end - q; k < w; ++k) {  // past the interval
        set_lane<T>(factor, k, T(0));
        for (int a = 0; a < left.count; ++a) set_lane<T>(f[a], k, T(0));
        for (int b = 0; b < right.count; ++b) set_lane<T>(h[b], k, T(0));
      }
      for (int a = 0; a < left.count; ++a) {
        const Lanes<T> weighted = factor * f[a];
        for (int b = 0; b < right.count; ++b) sums[a][b] += weighted * h[b];
      }
    }
    for (int a = 0; a < left.count; ++a)
      for (int b = 0; b < right.count; b += 4) {
        T totals[4] = {};
        Lanes<T> four[4] = {};
        for (int k = 0; k < 4 && b + k < right.count; ++k) four[k] = sums[a][b + k];
        add_sums<T>(four, totals);
        for (int k = 0; k < 4 && b + k < right.count; ++k)
          out[left.slot[a] * M + right.slot[b + k]] += totals[k];
      }
  }
}

// gram of some inputs, into out [I, M, M]
template <class T>
void gram(const Call<T>& call, Range inputs, T* out, char* workspace) {
  Arena arena(workspace);
  GramSpace<T> space(call, arena);
  const int64_t size = call.problem.slots() * call.problem.slots();
  for (int64_t i = inputs.begin; i < inputs.end; ++i) {
    T* const own = out + i * size;
    memset(own, 0, size_t(size) * sizeof(T));
    for (int64_t b = 0; b < call.problem.batch; b += call.tile_rows) {
      const int rows = block_size(call.problem.batch - b, call.tile_rows);
      fill_chunk(call, space.chunk, b, rows, i, 1);
      add_gram(call.problem, space.chunk, space.chunk.grid_of(call.problem, 0), space.chunk.starts_of(0),
               own);
      if (has_nan(space.chunk, 0))
        for (int64_t k = 0; k < size; ++k) own[k] = T(NAN);
    }
  }
}

// quadratic of some rows and inputs, out [B, I], with form [I, M, M]
template <class T>
void quadratic(const Call<T>& call, Range rows, Range inputs, const T* form, T* out, char* workspace) {
  constexpr int w = kLanes<T>;
  Arena arena(workspace);
  GramSpace<T> space(call, arena);
  const Problem& problem = call.problem;
  const Chunk<T>& chunk = space.chunk;
  const int64_t M = problem.slots();
  for (int64_t i = inputs.begin; i < inputs.end; ++i) {
    fill_chunk(call, space.chunk, rows.begin, int(rows.size()), i, 1);
    const Grid<T> grid = chunk.grid_of(problem, 0);
    const uint16_t *const starts = chunk.starts_of(0), *const order = chunk.order_of(0);
    for (int j = 0; j <= chunk.intervals; ++j) {
      const Alive left = alive_in(problem, j, chunk.intervals, problem.nu),
                  right = alive_in(problem, j, chunk.intervals, problem.mu);
      for (int q = starts[j]; q < starts[j + 1]; q += w) {
        const Lanes<T> x = load(chunk.sorted + q);
        Lanes<T> f[kAlive], h[kAlive], total{};
        alive_values(problem, grid, j, left, problem.nu, x, f);
        alive_values(problem, grid, j, right, problem.mu, x, h);
        for (int a = 0; a < left.count; ++a) {
          const T* const row = form + (i * M + left.slot[a]) * M;
          Lanes<T> sum{};
          for (int b = 0; b < right.count; ++b) sum += row[right.slot[b]] * h[b];
          total += f[a] * sum;
        }
        store(space.column + q, total);
      }
    }
    for (int q = 0; q < int(rows.size()); ++q)
      out[(rows.begin + order[q]) * problem.in_features + i] = space.column[q];
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
