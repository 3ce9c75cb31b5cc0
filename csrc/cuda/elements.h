// One output element of each operation, from its flat index: all that a CUDA thread computes. Plain C++, so
// that the host tests run this very source for every index.
#pragma once

#include "../basis.h"

namespace fastkan {

// A sum in two levels, so that float32 rounds like a blocked GEMM and not like one long chain.
template <class T>
struct BlockedSum {
  T total = 0, block = 0;
  int filled = 0;

  FASTKAN_INLINE void add(T term) {
    block += term;
    if (++filled == 64) {
      total += block;
      block = 0;
      filled = 0;
    }
  }
  FASTKAN_INLINE T value() const { return total + block; }
};

// y[b,o], index = b O + o
template <class T>
struct ForwardElement {
  Problem problem;
  const T *x, *weight, *row_weight, *knots;

  FASTKAN_INLINE T operator()(int64_t index) const {
    const int64_t O = problem.out_features, I = problem.in_features, b = index / O, o = index % O;
    BlockedSum<T> total;
    for (int64_t i = 0; i < I; ++i) {
      const Active<T> active = active_slots(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i]);
      T sum = 0;
      for (int k = 0; k < active.count(); ++k)
        sum += active.values[k] * weight[(i * problem.slots() + active.slot(k, problem)) * O + o];
      total.add(row_weight ? row_weight[b * I + i] * sum : sum);
    }
    return total.value();
  }
};

// out[b,i], index = b I + i
template <class T>
struct GradInputElement {
  Problem problem;
  const T *x, *weight, *g, *knots;

  FASTKAN_INLINE T operator()(int64_t index) const {
    const int64_t O = problem.out_features, I = problem.in_features, b = index / I, i = index % I;
    const Active<T> active = active_slots(problem, knots + i * problem.num_knots, problem.nu, x[index]);
    BlockedSum<T> total;
    for (int64_t o = 0; o < O; ++o) {
      T sum = 0;
      for (int k = 0; k < active.count(); ++k)
        sum += active.values[k] * weight[(i * problem.slots() + active.slot(k, problem)) * O + o];
      total.add(sum * g[b * O + o]);
    }
    return total.value();
  }
};

// out[i,m,o], index = (i M + m) O + o
template <class T>
struct GradWeightElement {
  Problem problem;
  const T *x, *g, *row_weight, *knots;

  FASTKAN_INLINE T operator()(int64_t index) const {
    const int64_t O = problem.out_features, I = problem.in_features, M = problem.slots();
    const int64_t o = index % O, m = index / O % M, i = index / O / M;
    BlockedSum<T> total;
    for (int64_t b = 0; b < problem.batch; ++b) {
      const T value = slot_value(problem, knots + i * problem.num_knots, problem.nu, x[b * I + i], m);
      if (value == 0) continue;  // most rows: m is outside the local support of x
      total.add((row_weight ? row_weight[b * I + i] * value : value) * g[b * O + o]);
    }
    return total.value();
  }
};

// out[i,m,n], index = (i M + m) M + n
template <class T>
struct GramElement {
  Problem problem;
  const T *x, *row_weight, *knots;

  FASTKAN_INLINE T operator()(int64_t index) const {
    const int64_t I = problem.in_features, M = problem.slots();
    const int64_t n = index % M, m = index / M % M, i = index / M / M;
    const T* const own_knots = knots + i * problem.num_knots;
    BlockedSum<T> total;
    for (int64_t b = 0; b < problem.batch; ++b) {
      const T left = slot_value(problem, own_knots, problem.nu, x[b * I + i], m);
      if (left == 0) continue;
      const T right = slot_value(problem, own_knots, problem.mu, x[b * I + i], n);
      if (right == 0) continue;
      total.add((row_weight ? row_weight[b * I + i] * left : left) * right);
    }
    return total.value();
  }
};

// out[b,i], index = b I + i
template <class T>
struct QuadraticElement {
  Problem problem;
  const T *x, *form, *knots;

  FASTKAN_INLINE T operator()(int64_t index) const {
    const int64_t M = problem.slots(), i = index % problem.in_features;
    const Active<T> left = active_slots(problem, knots + i * problem.num_knots, problem.nu, x[index]);
    const Active<T> right = active_slots(problem, knots + i * problem.num_knots, problem.mu, x[index]);
    T total = 0;
    for (int k = 0; k < left.count(); ++k) {
      const T* const row = form + (i * M + left.slot(k, problem)) * M;
      T sum = 0;
      for (int l = 0; l < right.count(); ++l) sum += right.values[l] * row[right.slot(l, problem)];
      total += left.values[k] * sum;
    }
    return total;
  }
};

}  // namespace fastkan
