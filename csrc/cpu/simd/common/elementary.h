// exp, tanh and erfc of vectors, to about one unit in the last place. Coefficients: Cephes (S. L. Moshier).
#pragma once

#include <math.h>

#include "../../../core/activations.h"
#include "vector.h"

#if FASTKAN_VECTOR_BYTES > 0
namespace fastkan {
namespace FASTKAN_ISA {

// x = n ln 2 + r with the whole number n still in the low bits of `shifted`; ln 2 in two parts.
template <class T>
FASTKAN_HD Lanes<T> reduce(Lanes<T> x, T magic, T ln2_high, T ln2_low, Lanes<T>& shifted) {
  shifted = x * T(1.44269504088896340736) + magic;
  const Lanes<T> n = shifted - magic;
  return (x - n * ln2_high) - n * ln2_low;
}

// 2^n p for n as `reduce` left it
template <class T>
FASTKAN_HD Lanes<T> scaled(Lanes<T> p, Lanes<T> shifted, int mantissa) {
  const Lanes<T> one = broadcast<T>(1);
  typename VectorOf<T>::Bits bits, exponent;  // unsigned: past the range of exp they may wrap
  memcpy(&bits, &one, sizeof bits);
  memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << mantissa;
  Lanes<T> power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

FASTKAN_HD Lanes<float> exponential(Lanes<float> x) {
  const Lanes<float> zero{}, infinity = broadcast<float>(HUGE_VALF);
  Lanes<float> shifted;
  const Lanes<float> r = reduce<float>(x, 12582912.f, 0.693359375f, -2.12194440e-4f, shifted);
  Lanes<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = scaled<float>(p * (r * r) + r + 1.f, shifted, 23);
  p = x > 88.f ? infinity : p;
  return x < -87.f ? zero : p;  // a NaN passes both
}

FASTKAN_HD Lanes<double> exponential(Lanes<double> x) {
  const Lanes<double> zero{}, infinity = broadcast<double>(HUGE_VAL);
  Lanes<double> shifted;
  const Lanes<double> r =
      reduce<double>(x, 6755399441055744.0, 6.93145751953125e-1, 1.42860682030941723212e-6, shifted);
  // (1 + P)/(1 - P)-like form of Cephes: 1 + 2 r P(r^2) / (Q(r^2) - r P(r^2))
  const Lanes<double> z = r * r;
  const Lanes<double> p = r * ((z * 1.26177193074810590878e-4 + 3.02994407707441961300e-2) * z + 1.0);
  const Lanes<double> q =
      ((z * 3.00198505138664455042e-6 + 2.52448340349684104192e-3) * z + 2.27265548208155028766e-1) * z + 2.0;
  Lanes<double> value = scaled<double>((p + p) / (q - p) + 1.0, shifted, 52);
  value = x > 709.0 ? infinity : value;
  return x < -708.0 ? zero : value;
}

FASTKAN_HD Lanes<float> small_tanh(Lanes<float> x) {
  const Lanes<float> z = x * x;
  Lanes<float> p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  return p * z * x + x;
}

FASTKAN_HD Lanes<double> small_tanh(Lanes<double> x) {
  const Lanes<double> z = x * x;
  const Lanes<double> p =
      (z * -9.64399179425052238628e-1 - 9.92877231001918586564e1) * z - 1.61468768441708447952e3;
  const Lanes<double> q =
      ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3;
  return p / q * z * x + x;
}

template <class T>
struct VectorElementary {
  using Scalar = T;
  FASTKAN_INLINE static Lanes<T> exp(Lanes<T> x) { return exponential(x); }
  FASTKAN_INLINE static Lanes<T> tanh(Lanes<T> x) {
    const Lanes<T> size = x < T(0) ? -x : x;
    const Lanes<T> large = T(1) - T(2) / (exponential(size + size) + T(1));
    return size < T(0.625) ? small_tanh(x) : (x < T(0) ? -large : large);
  }
  FASTKAN_INLINE static Lanes<T> erfc(Lanes<T> x) {  // a lane at a time, as only GELU asks
    Lanes<T> value;
    for (int k = 0; k < kLanes<T>; ++k) set_lane<T>(value, k, T(::erfc(double(lane<T>(x, k)))));
    return value;
  }
};

}  // namespace FASTKAN_ISA

template <>
struct Elementary<FASTKAN_ISA::Lanes<float>> : FASTKAN_ISA::VectorElementary<float> {};
template <>
struct Elementary<FASTKAN_ISA::Lanes<double>> : FASTKAN_ISA::VectorElementary<double> {};

}  // namespace fastkan
#endif
