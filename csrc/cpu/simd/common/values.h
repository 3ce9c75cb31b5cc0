// Which values of the splines and of the activation an operation needs.
#pragma once

#include "../../../core/splines.h"
#include "../../kernels.h"

namespace fastkan {
namespace FASTKAN_ISA {

// The numbers that the kernels multiply with, for one derivative order nu: the p + 1 splines alive at x (none
// for nu > p) and the base slot. For sorted rows every number has an array over the rows. One spline, the
// pivot (sorted/chunk.h), has none; with row weights, which multiply all the values, the last array holds the
// row weights, which are the pivot's value.
struct Values {
  int splines = -1;  // nothing of this set is wanted
  int64_t nu = 0;
  bool weighted = false;
  int first = 0;  // the first of its arrays

  Values() = default;
  Values(const Problem& problem, int64_t order, bool with_factors)
      : splines(order > problem.degree ? 0 : problem.degree + 1), nu(order), weighted(with_factors) {}
  int base() const { return splines > 1 ? splines - 1 : 0; }  // the array of the base slot
  int arrays() const { return splines < 0 ? 0 : base() + 1 + (weighted && splines > 0); }
};

// The sets that are evaluated at once. first: for forward and grad_weight, perhaps with row weights; second:
// for grad_input; plain: the first without row weights, for grad_row_weight.
struct Sets {
  Values first, second, plain;

  int most_splines() const {
    const int most = first.splines > second.splines ? first.splines : second.splines;
    return most > plain.splines ? most : plain.splines;
  }
};

template <class T>
Sets fused_gradients_sets(const Call<T>& call) {
  const Problem& problem = call.problem;
  Sets sets;
  if (call.grad_weight.data || call.y.data)
    sets.first = Values(problem, problem.nu, call.row_weight.data != nullptr);
  if (call.grad_input.data) sets.second = Values(problem, call.grad_input_nu, false);
  if (call.grad_row_weight.data) sets.plain = Values(problem, problem.nu, false);
  return sets;
}

template <int N>
struct Size {
  static constexpr int value = N;
};

// Calls body(Size<splines>): 0, or p + 1 for a degree p of 1 to kMaxDegree.
template <class Body>
FASTKAN_HD void with_splines(int splines, const Body& body) {
  switch (splines) {
    case 0:
      return body(Size<0>{});
    case 2:
      return body(Size<2>{});
    case 3:
      return body(Size<3>{});
    case 4:
      return body(Size<4>{});
    case 5:
      return body(Size<5>{});
    case 6:
      return body(Size<6>{});
    case 7:
      return body(Size<7>{});
    case 8:
      return body(Size<8>{});
    case 9:
      return body(Size<9>{});
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
