// The kernels of tile layers: a tile of one input, in lanes, against a block of NO outputs.
#pragma once

#include "lane_tile.h"

#ifdef FASTKAN_LOOKUP
namespace fastkan {
namespace FASTKAN_ISA {

// Calls body(b, products) for every vector of rows, from row b on: sum_r B_r C_r + base C_base for each
// output. weight: the tables of the outputs; base: their weights of the base slot.
template <class T, int R, int N, int NO, class Body>
FASTKAN_HD void for_products(const LaneTile<T>& tile, const LaneValues<T>& values, const T* weight,
                             const T* base, const Body& body) {
  constexpr int w = kLanes<T>, size = N * w;
  Lanes<T> bases[NO];
  for (int o = 0; o < NO; ++o) bases[o] = broadcast(base[o]);
  for (int b = 0; b < tile.vectors * w; b += w) {
    const Lanes<T> own_base = load(values.base + b);
    Lanes<T> sums[NO];
    for (int o = 0; o < NO; ++o) sums[o] = own_base * bases[o];
    if constexpr (R > 0) {
      const Mask<T> j = Mask<T>(load(tile.interval + b));
      for (int r = 0; r < R; ++r) {
        const Lanes<T> value = load(values.splines + tile.stride * r + b);
        const Mask<T> slot = j + (r - (R - 1));
        for (int o = 0; o < NO; ++o) sums[o] += value * Table<T, N>(weight + o * size).at(slot);
      }
    }
    body(b, sums);
  }
}

// y[o] += the products
template <class T, int R, int N, int NO>
FASTKAN_NOINLINE void lane_forward(const LaneTile<T>& tile, const T* weight, const T* base, T* y) {
  for_products<T, R, N, NO>(tile, tile.first, weight, base,
                            [&](int b, const auto& sums) FASTKAN_INLINE_LAMBDA {
                              for (int o = 0; o < NO; ++o) {
                                T* const out = y + o * tile.stride + b;
                                store(out, load(out) + sums[o]);
                              }
                            });
}

// grads += the sum over the outputs of the products times g
template <class T, int R, int N, int NO>
FASTKAN_NOINLINE void lane_grad_input(const LaneTile<T>& tile, const LaneValues<T>& values, const T* weight,
                                      const T* base, const T* g, T* grads) {
  for_products<T, R, N, NO>(tile, values, weight, base, [&](int b, const auto& sums) FASTKAN_INLINE_LAMBDA {
    Lanes<T> total = load(grads + b);
    for (int o = 0; o < NO; ++o) total += sums[o] * load(g + o * tile.stride + b);
    store(grads + b, total);
  });
}

// Rotates the first set's splines so that slot s finds its value, at every x where it is alive, in array s
// modulo their period.
template <class T, int R>
FASTKAN_NOINLINE void rotate_splines(const LaneTile<T>& tile) {
  constexpr int P = period_of(R);
  T* const splines = tile.first.splines;
  const int64_t stride = tile.stride;
  for (int b = 0; b < tile.vectors * kLanes<T>; b += kLanes<T>) {
    const Mask<T> first = Mask<T>(load(tile.interval + b)) - (R - 1);
    Lanes<T> values[P] = {};
    for (int r = 0; r < R; ++r) values[r] = load(splines + r * stride + b);
#pragma GCC unroll 4
    for (int step = 1; step < P; step *= 2) {
      Lanes<T> moved[P];
      for (int r = 0; r < P; ++r) moved[r] = (first & step) != 0 ? values[(r - step) & (P - 1)] : values[r];
      for (int r = 0; r < P; ++r) values[r] = moved[r];
    }
    for (int r = 0; r < P; ++r) store(splines + r * stride + b, values[r]);
  }
}

// sums[m][o] += the sum over the rows of f_m g[o] for NM slots from `slot` on; sums has room for four
// outputs
template <class T, int NM, int NO>
FASTKAN_NOINLINE void lane_grad_weight(const LaneTile<T>& tile, int slot, const T* g, T* sums,
                                       int64_t sums_stride) {
  using Bits = typename VectorOf<T>::Bits;
  const int splines = tile.first.set.splines, mask = period_of(splines) - 1;
  const int64_t stride = tile.stride;
  const T *const interval = tile.interval, *values[NM];
  for (int m = 0; m < NM; ++m) values[m] = tile.first.splines + ((slot + m) & mask) * stride;
  Lanes<T> totals[NM][4] = {};
  for (int b = 0, rows = tile.vectors * kLanes<T>; b < rows; b += kLanes<T>) {
    const Bits place =
        Bits(slot + splines - 1 - Mask<T>(load(interval + b)));  // of the slot among those alive
    Lanes<T> own[NO];
    for (int o = 0; o < NO; ++o) own[o] = load(g + o * stride + b);
    for (int m = 0; m < NM; ++m) {
      const Lanes<T> value = place + m < Bits{} + splines ? load(values[m] + b) : Lanes<T>{};
      for (int o = 0; o < NO; ++o) totals[m][o] += value * own[o];
    }
  }
  for (int m = 0; m < NM; ++m) add_sums<T>(totals[m], sums + m * sums_stride);
}

// The same for the base slot.
template <class T, int NO>
FASTKAN_NOINLINE void lane_grad_base(const LaneTile<T>& tile, const T* g, T* sums) {
  Lanes<T> totals[4] = {};
  for (int b = 0; b < tile.vectors * kLanes<T>; b += kLanes<T>) {
    const Lanes<T> base = load(tile.first.base + b);
    for (int o = 0; o < NO; ++o) totals[o] += base * load(g + o * tile.stride + b);
  }
  add_sums<T>(totals, sums);
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
#endif
