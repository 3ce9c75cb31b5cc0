// csrc/core/splines.h on the host: intervals, splines and activations against their definitions.
#include "support.h"

namespace fastkan::test {
namespace {

// Every knot, its neighbours in the number line, points between and outside, the infinities.
template <class T>
std::vector<T> points_of_interest(const std::vector<T>& knots) {
  const T infinity = std::numeric_limits<T>::infinity();
  std::vector<T> points = {-infinity, infinity, T(-1e30), T(1e30), T(0)};
  for (const T knot : knots) {
    points.insert(points.end(), {knot, std::nextafter(knot, infinity), std::nextafter(knot, -infinity)});
    points.push_back(T(uniform(-1.5, 1.5)));
  }
  return points;
}

template <class T>
void test_intervals(const std::vector<T>& knots) {
  const int64_t count = int64_t(knots.size());
  for (const T x : points_of_interest(knots)) {
    int64_t expected = -1;
    for (int64_t j = 0; j + 1 < count; ++j)
      if (knots[j] <= x && x < knots[j + 1]) expected = j;
    const int64_t found = find_interval(knots.data(), count, x);
    CHECK(found == expected, "x = %.17g: found %ld, expected %ld", double(x), long(found), long(expected));
  }
  CHECK(find_interval(knots.data(), count, std::numeric_limits<T>::quiet_NaN()) == -1, "NaN");
}

template <class T>
void test_splines(const std::vector<T>& knots, int degree) {
  const int64_t count = int64_t(knots.size()), splines = count - degree - 1;
  for (int nu = 0; nu <= degree; ++nu) {
    for (const T x : points_of_interest(knots)) {
      std::vector<double> all(splines, 0), expected(splines, 0);
      const int64_t j = find_interval(knots.data(), count, x);
      T local[kMaxDegree + 1];
      if (j >= 0) local_splines(knots.data(), count, degree, nu, j, x, local);
      for (int r = 0; j >= 0 && r <= degree; ++r)
        if (const int64_t m = j - degree + r; m >= 0 && m < splines) all[m] = local[r];
      double scale = 1;
      for (int m = 0; m < splines; ++m) {
        if (std::isfinite(x)) expected[m] = double(spline_by_definition(&knots[m], degree, nu, x).value);
        scale = std::max(scale, std::abs(expected[m]));
      }
      for (int m = 0; m < splines; ++m) {
        const double error = std::abs(all[m] - expected[m]);
        CHECK(error <= 40 * double(std::numeric_limits<T>::epsilon()) * scale,
              "degree %d nu %d slot %d x %.17g: %g, not %g", degree, nu, m, double(x), all[m], expected[m]);
      }
    }
  }
}

// Each order is the slope of the one before; the lowest order and the limits are known.
void test_activations() {
  for (const Activation activation : kActivations) {
    for (int nu = 0; nu <= kHighestOrder; ++nu) {
      for (double x = -12.03; x < 12; x += 0.31) {
        const double h = 1e-5, slope = (activation_derivative(activation, nu, x + h) -
                                        activation_derivative(activation, nu, x - h)) /
                                       (2 * h);
        if (nu == kHighestOrder) break;
        const double size = std::max(1.0, derivative_size(activation, nu + 1));
        CHECK(std::abs(activation_derivative(activation, nu + 1, x) - slope) < 1e-8 * size,
              "activation %d nu %d x %g", int(activation), nu + 1, x);
      }
      for (const float x : {-INFINITY, -3e38f, -2000.f, -90.f, 90.f, 2000.f, 3e38f, INFINITY}) {
        const float value = activation_derivative(activation, nu, x),
                    wide = float(activation_derivative(activation, nu, double(x)));
        CHECK(!std::isnan(value), "activation %d nu %d x %g", int(activation), nu, double(x));
        CHECK(value == wide || std::abs(value - wide) < 1e-30f, "activation %d nu %d x %g: %g",
              int(activation), nu, double(x), double(value));
      }
    }
  }
  CHECK(activation_derivative(Activation::silu, 0, INFINITY) == INFINITY &&
            activation_derivative(Activation::silu, 0, -INFINITY) == 0,
        "silu");
  CHECK(activation_derivative(Activation::silu, 1, INFINITY) == 1 &&
            activation_derivative(Activation::silu, 1, -INFINITY) == 0,
        "silu'");
  CHECK(activation_derivative(Activation::gelu, 0, INFINITY) == INFINITY &&
            activation_derivative(Activation::gelu, 0, -INFINITY) == 0,
        "gelu");
  CHECK(activation_derivative(Activation::tanh, 0, -INFINITY) == -1, "tanh");
  CHECK(std::abs(activation_derivative(Activation::silu, 0, 1.0) - 0.73105857863000488) < 1e-15, "silu(1)");
  CHECK(std::abs(activation_derivative(Activation::gelu, 0, 1.0) - 0.84134474606854295) < 1e-15, "gelu(1)");
  CHECK(activation_derivative(Activation::relu, 1, 0.0) == 0 &&
            activation_derivative(Activation::relu, 0, -1.0) == 0,
        "relu");
}

template <class T>
void test_type() {
  for (const Spacing spacing : {Spacing::uniform, Spacing::random, Spacing::repeated})
    for (const int degree : {1, 2, 3, 5, 8})
      for (const int grid : {1, 2, 5, 12}) {
        const std::vector<T> knots = make_knots<T>(spacing, grid, degree);
        test_intervals(knots);
        test_splines(knots, degree);
      }
  test_intervals(std::vector<T>{-std::numeric_limits<T>::max(), 0, 1, std::numeric_limits<T>::max()});
}

}  // namespace
}  // namespace fastkan::test

int main() {
  fastkan::test::test_type<float>();
  fastkan::test::test_type<double>();
  fastkan::test::test_activations();
  std::puts("ok");
}
