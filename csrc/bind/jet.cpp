// Jets of a layer in fastkan._C. cpu/jet.h says what they compute; 0 is the address of what is absent.
#include "../cpu/jet.h"

#include "bind.h"
#include "check_cpu.h"

namespace fastkan {
namespace {

// The problem, and what flows into the layer
template <class T>
JetCall<T> checked_jet(const Problem& problem, int64_t d, Address x, Address weight, Address first,
                       Address second, Address coefficients, Address knots) {
  const int64_t B = problem.batch, I = problem.in_features, O = problem.out_features;
  const bool units = !first && B && I;  // an empty tensor has the address 0 too
  checked("directions", d, units ? I : 0, units ? I : std::numeric_limits<int64_t>::max());
  JetCall<T> jet;
  jet.layer.problem = problem;
  jet.layer.x = checked_source("x", x, kStorage<T>, {B, I});
  jet.layer.weight = checked_source("weight", weight, kStorage<T>, {I, problem.slots(), O});
  jet.layer.knots = checked_pointer<const T>("knots", knots, {I, problem.num_knots});
  jet.directions = d;
  jet.first = checked_pointer<const T>("first", first, {d, B, I}, true);
  jet.second = checked_pointer<const T>("second", second, {B, I}, true);
  jet.coefficients = checked_pointer<const T>("coefficients", coefficients, {d}, true);
  return jet;
}

void forward(Address x, Address weight, Address first, Address second, Address coefficients, Address knots,
             Address y, Address y_first, Address y_second, int64_t d, int64_t B, int64_t I, int64_t O,
             int64_t K, int64_t degree, Name activation, Name dtype, int64_t threads) {
  const Problem problem = checked_cpu_problem(B, I, O, K, degree, activation, 2, 0);
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    JetCall<T> jet = checked_jet<T>(problem, d, x, weight, first, second, coefficients, knots);
    jet.y = checked_pointer<T>("y", y, {B, O});
    jet.y_first = checked_pointer<T>("y_first", y_first, {d, B, O});
    jet.y_second = checked_pointer<T>("y_second", y_second, {B, O});
    jet_forward(make_backend(threads), jet);
  });
}

void gradients(Address x, Address weight, Address first, Address second, Address coefficients, Address knots,
               Address g, Address g_first, Address g_second, Address grad_x, Address grad_weight,
               Address grad_first, Address grad_second, Address grad_squares, int64_t d, int64_t B, int64_t I,
               int64_t O, int64_t K, int64_t degree, Name activation, Name dtype, int64_t threads) {
  const Problem problem = checked_cpu_problem(B, I, O, K, degree, activation, 3, 0);
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    JetCall<T> jet = checked_jet<T>(problem, d, x, weight, first, second, coefficients, knots);
    jet.g = checked_pointer<const T>("g", g, {B, O});
    jet.g_first = checked_pointer<const T>("g_first", g_first, {d, B, O});
    jet.g_second = checked_pointer<const T>("g_second", g_second, {B, O});
    jet.grad_x = checked_pointer<T>("grad_x", grad_x, {B, I}, true);
    jet.grad_weight = checked_pointer<T>("grad_weight", grad_weight, {I, problem.slots(), O}, true);
    jet.grad_first = checked_pointer<T>("grad_first", grad_first, {d, B, I}, true);
    jet.grad_second = checked_pointer<T>("grad_second", grad_second, {B, I}, true);
    jet.grad_squares = checked_pointer<T>("grad_squares", grad_squares, {B, I}, true);
    if (jet.grad_first && !jet.first) refuse("grad_first", "0 for unit vectors", std::to_string(grad_first));
    jet_gradients(make_backend(threads), jet);
  });
}

}  // namespace

void bind_jet(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;
  module.def("cpu_jet", forward, without_gil);
  module.def("cpu_jet_gradients", gradients, without_gil);
}

}  // namespace fastkan
