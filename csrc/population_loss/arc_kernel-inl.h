// SPDX-License-Identifier: MIT
// The degree-1 arc-cosine kernel of unit vectors, and the two coefficients of its gradient. With t
// the angle between u and v,
//   2 pi K(u,v) / (|u||v|)  = shape = sin t + (pi - t) cos t
//   2 pi dK/du / |v|        = sin t * u/|u| + (pi - t) * v/|v|
//
// Everything comes from the smaller of p = |u - v|^2 and q = |u + v|^2 (u, v of unit length), which
// keeps the relative accuracy of small angles and of angles near pi, where a scalar product has
// none. Let tau = min(t, pi - t), h = min(p, q) / 4 = sin^2(tau/2), in [0, 1/2]. One polynomial in
// h,
//   W(h) = (tau - sin tau) / h^(3/2),
// then gives it all without cancellation:
//   sin tau = 2 sqrt(h (1-h)),  cos tau = 1 - 2h,  tau = sin tau + h^(3/2) W,
//   s(tau) = sin tau - tau cos tau = h^(3/2) (4 sqrt(1-h) - (1-2h) W),
//   shape = s(tau) + [t <= pi/2] pi cos tau.
#pragma once

#include "common/math-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr double kPi = 0x1.921fb54442d18p+1;

template <int T>
struct ArcKernel {
  Vec<double> shape[T], sine[T], turn[T];  // turn = pi - t
};

// For T pairs per lane, side by side, so that their chains of dependent operations overlap.
template <int T, bool kGradient>
LMC_INLINE ArcKernel<T> arc_kernel(const Vec<double> (&p)[T], const Vec<double> (&q)[T]) {
  // W on [0, 1/2], interpolated at Chebyshev nodes; relative error below 2^-53.9.
  constexpr double kW[] = {
      0x1.5555555555555p+0,  0x1.9999999999a67p-2, 0x1.b6db6db6c0ce9p-3,  0x1.1c71c7275dd24p-3,
      0x1.9745ccb9ec12dp-4,  0x1.362802215d3ebp-4, 0x1.ecb0d63ad156bp-5,  0x1.957b9415dfc49p-5,
      0x1.3f003d0e77ea3p-5,  0x1.c9f39e723ce2bp-5, -0x1.a73313e26d6a7p-4, 0x1.64ede9e30f47ap-1,
      -0x1.483761856ac97p+1, 0x1.ee54f6b9ba922p+2, -0x1.1810b91ccfe1ep+4, 0x1.df94e4598b07cp+4,
      -0x1.2a75a2f26453fp+5, 0x1.00e94011488f9p+5, -0x1.11e9df10fc960p+4, 0x1.15edffeabc038p+2};
  constexpr int kTerms = sizeof kW / sizeof kW[0];
  Vec<double> h[T], W[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    h[t] = 0.25 * (p[t] < q[t] ? p[t] : q[t]);
    W[t] = broadcast(kW[kTerms - 1]);
  }
#pragma GCC unroll 32
  for (int k = kTerms - 2; k >= 0; --k)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) W[t] = W[t] * h[t] + kW[k];
  ArcKernel<T> result;
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const auto acute = p[t] <= q[t];
    const Vec<double> half_sine = square_root(h[t]), half_cosine = square_root(1.0 - h[t]);
    const Vec<double> cube = h[t] * half_sine, cosine = 1.0 - 2.0 * h[t];
    const Vec<double> s = cube * (4.0 * half_cosine - cosine * W[t]);
    result.shape[t] = acute ? s + kPi * cosine : s;
    if (kGradient) {
      result.sine[t] = 2.0 * half_sine * half_cosine;
      const Vec<double> tau = result.sine[t] + cube * W[t];
      result.turn[t] = acute ? kPi - tau : tau;
    }
  }
  return result;
}

}  // namespace lmc::LMC_TARGET
