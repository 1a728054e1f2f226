// SPDX-License-Identifier: MIT
// The arc-cosine kernel of pairs of unit vectors for one thread: arc_kernel-inl.h has the formulas.
//
// The CPU's W(h) is a polynomial; here it is P(z) / Q(z) with z = |cos t| = 1 - 2 h, of half as
// many coefficients, all of them positive. The division comes with the square root: with
//   r = 1 / sqrt(h (1-h) Q^2)
// e = h (1-h) Q r and e W = h (1-h) r P. So a pair takes 30 float64 operations, and one at a lower
// precision.
//
// Angles come from u.v, to some eps of float64. That is enough: an error of h by delta moves the
// vector sin t u + (pi - t) v, which is all that the gradient has, by 2 delta at most, since the
// errors of its two terms cancel, and shape by 2 pi delta. Only where u and v are nearly opposite,
// and both are small, does |u + v|^2 have to be summed itself to keep their digits.
#pragma once

#include "cuda_device.h"

namespace lmc::population_loss {

using namespace cuda;

inline constexpr double kPi = 3.141592653589793238462643383279502884;
inline constexpr uint32_t kNearlyOpposite = 0xbfecccccu;  // of u.v = -0.9, below which it is summed

// Coefficients of P and Q, from the constant ones on, best for the relative error of W on [0, 1]:
// 2^-53. Device memory, because an operand from there costs less than a number in the code.
static __constant__ double arc_numerator[] = {0x1.243f6a8885a30p+1, 0x1.4e9527d450c44p+2,
                                              0x1.0f10d9b9ea376p+2, 0x1.73e69c6cdfa06p+0,
                                              0x1.92159558416f3p-3, 0x1.df4b355e8f99ap-8};
static __constant__ double arc_denominator[] = {
    0x1.0000000000000p+0, 0x1.85550b0f560efp+1, 0x1.c252bd09d4a59p+1, 0x1.ed73d4c97bcf1p+0,
    0x1.03400b5797bd2p-1, 0x1.cf51faaa74a9dp-5, 0x1.e676d1f5c7c27p-10};

// 1 / sqrt(value), to an eps or so, of a positive normal number.
inline __device__ double reciprocal_root(double value) {
  const double root = about_reciprocal_root(value);
  const double error = fma(-value * root, root, 1.0);
  return fma(error * root, fma(0.375, error, 0.5), root);
}

template <int N>
struct Arcs {
  double shape[N], half_sine[N], turn[N];  // turn = pi - t
};

// Of N pairs, side by side, so that their chains of dependent operations overlap. From cosine = u.v
// and `h` = min(|u - v|^2, |u + v|^2) / 4, whose sign is ignored: rounding makes it.
template <int N>
__device__ __forceinline__ Arcs<N> arcs_of(const double (&cosine)[N], const double (&h)[N]) {
  constexpr int kP = sizeof arc_numerator / 8, kQ = sizeof arc_denominator / 8;
  // A square root of h = 0 is then finite, and e exactly 0.
  constexpr double kTiny = 1e-290;
  double z[N], P[N], Q[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    z[i] = fabs(cosine[i]);
    P[i] = arc_numerator[kP - 1];
    Q[i] = arc_denominator[kQ - 1];
  }
#pragma unroll
  for (int k = kQ - 2; k >= 0; --k)
#pragma unroll
    for (int i = 0; i < N; ++i) {
      Q[i] = fma(Q[i], z[i], arc_denominator[k]);
      if (k < kP - 1) P[i] = fma(P[i], z[i], arc_numerator[k]);
    }
  Arcs<N> arcs;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const bool obtuse = (upper_word(cosine[i]) >> 31) != 0;
    const double size = fabs(h[i]);
    const double square = fma(-size, size, size), product = square * Q[i];
    const double r = reciprocal_root(fma(product, Q[i], kTiny));
    const double e = product * r, gap = square * r * (size * P[i]);  // tau - sin tau
    const double tau = fma(2.0, e, gap), s = fma(-z[i], gap, 4.0 * size * e);
    arcs.half_sine[i] = e;
    arcs.shape[i] = fma(kPi, obtuse ? 0.0 : cosine[i], s);
    arcs.turn[i] = obtuse ? tau : kPi - tau;
  }
  return arcs;
}

}  // namespace lmc::population_loss
