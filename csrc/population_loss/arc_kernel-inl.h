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
//   W(h) = (tau - sin tau) / (h e),  e = sqrt(h (1-h)),
// then gives it all without cancellation:
//   sin tau = 2 e,  cos tau = 1 - 2 h,  tau = 2 e + h e W,
//   s(tau) = sin tau - tau cos tau = h e (4 - (1-2h) W),
//   shape = s(tau) + [t <= pi/2] pi cos tau.
#pragma once

#include "common/math-inl.h"
#include "population_loss/arc_series.h"

namespace lmc::LMC_TARGET {

template <int T>
struct ArcKernel {
  Vec<double> shape[T], sine[T], turn[T];  // turn = pi - t
};

// For T pairs per lane, side by side, so that their chains of dependent operations overlap.
template <int T, bool kGradient>
LMC_INLINE ArcKernel<T> arc_kernel(const Vec<double> (&p)[T], const Vec<double> (&q)[T]) {
  constexpr double kW[] = {LMC_ARC_SERIES};
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
    const Vec<double> e = square_root(h[t] * (1.0 - h[t])), cosine = 1.0 - 2.0 * h[t];
    const Vec<double> s = h[t] * e * (4.0 - cosine * W[t]);
    result.shape[t] = acute ? s + kPi * cosine : s;
    if (kGradient) {
      result.sine[t] = 2.0 * e;
      const Vec<double> tau = result.sine[t] + h[t] * e * W[t];
      result.turn[t] = acute ? kPi - tau : tau;
    }
  }
  return result;
}

}  // namespace lmc::LMC_TARGET
