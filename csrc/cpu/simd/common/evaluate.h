// The splines and the activation at many x, in vectors.
#pragma once

#include "elementary.h"
#include "values.h"

namespace fastkan {
namespace FASTKAN_ISA {

// values[s][r], r < R: the derivatives of order nu[s] of the splines of degree R - 1 alive at x. Of two
// orders the lower comes first, and the steps that both share are taken once. knot and inverse(k): as in
// raise_degree, one number for all lanes or one for each lane.
template <class T, int R, int ORDERS, class Knot, class Inverse>
FASTKAN_HD void splines_at(const int (&nu)[ORDERS], const Knot* knot, const Inverse& inverse, Lanes<T> x,
                           Lanes<T> (&values)[ORDERS][R]) {
  const int parting = R - nu[ORDERS - 1];
  values[0][0] = broadcast<T>(1);
#pragma GCC unroll 8
  for (int k = 1; k < R; ++k) {
    const auto* const widths = inverse(k);
    if (ORDERS > 1 && k == parting)
      for (int r = 0; r < k; ++r) values[ORDERS - 1][r] = values[0][r];
    if (ORDERS > 1 && k >= parting) raise_degree(k, true, knot, widths, x, values[ORDERS - 1]);
    raise_degree(k, k >= R - nu[0], knot, widths, x, values[0]);
  }
  for (int s = 0; s < ORDERS; ++s)
    if (nu[s] > 0)
      for (int r = 0; r < R; ++r) values[s][r] *= T(derivative_factor(R - 1, nu[s]));
}

// Calls body(Size<splines>, orders, out) for two sets: once where they share steps, else once for each.
template <class T, class Body>
FASTKAN_HD void with_orders(const Values& first, const Values& second, T* first_out, T* second_out,
                            const Body& body) {
  const auto alone = [&](const Values& set, T* out) FASTKAN_INLINE_LAMBDA {
    with_splines(set.splines, [&](auto r) {
      const int nu[] = {int(set.nu)};
      T* const outs[] = {out};
      if constexpr (r.value > 0) body(r, nu, outs);
    });
  };
  if (first.splines != second.splines || first.nu >= second.nu) {
    alone(first, first_out);
    return alone(second, second_out);
  }
  with_splines(first.splines, [&](auto r) {
    const int nu[] = {int(first.nu), int(second.nu)};
    T* const outs[] = {first_out, second_out};
    if constexpr (r.value > 0) body(r, nu, outs);
  });
}

// The values of the base slot at `rows` numbers x, for two sets. SiLU alone has a case of its own: without
// its slope it takes three quarters of the time.
template <class T>
static void activation_arrays(Activation activation, const Values& first, const Values& second, const T* x,
                              int rows, T* first_out, T* second_out) {
  const bool both = first.splines >= 0 && second.splines >= 0;
  const int64_t nu = first.splines >= 0 ? first.nu : second.nu;
  T* const out = first.splines >= 0 ? first_out : second_out;
  const auto fill = [&](const auto& evaluate) FASTKAN_INLINE_LAMBDA {
    for (int q = 0; q < rows; q += kLanes<T>) {
      Lanes<T> value, other;
      evaluate(load(x + q), value, other);
      store(out + q, value);
      if (both) store(second_out + q, other);
    }
  };
  if (both)
    fill([&](Lanes<T> v, Lanes<T>& value, Lanes<T>& other)
             FASTKAN_INLINE_LAMBDA { activation_derivatives(activation, nu, second.nu, v, value, other); });
  else if (activation == Activation::silu && nu == 0)
    fill([](Lanes<T> v, Lanes<T>& value, Lanes<T>& other)
             FASTKAN_INLINE_LAMBDA { silu_and_slope(v, value, other); });
  else
    fill([&](Lanes<T> v, Lanes<T>& value, Lanes<T>&)
             FASTKAN_INLINE_LAMBDA { value = activation_derivative(activation, nu, v); });
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
