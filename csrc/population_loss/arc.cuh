// SPDX-License-Identifier: MIT
// The arc-cosine kernel of one pair of unit vectors: arc_kernel-inl.h, which has the formulas, for
// one lane.
#pragma once

#include "cuda_device.h"
#include "population_loss/arc_series.h"

namespace lmc::population_loss {

inline constexpr double kPi = 3.141592653589793238462643383279502884;
inline constexpr double kNearlyOpposite = 3.5;  // |u - v|^2 from which |u + v|^2 is summed itself

struct Arc {
  double shape, sine, turn;  // turn = pi - t
};

// From p = |u - v|^2 and q = |u + v|^2.
inline __device__ Arc arc_of(double p, double q) {
  constexpr double kW[] = {LMC_ARC_SERIES};
  constexpr int kTerms = sizeof kW / sizeof kW[0];
  const bool acute = p <= q;
  const double h = 0.25 * (p < q ? p : q);
  double W = kW[kTerms - 1];
#pragma unroll
  for (int k = kTerms - 2; k >= 0; --k) W = W * h + kW[k];
  const double e = sqrt(h * (1.0 - h)), cosine = 1.0 - 2.0 * h;
  const double s = h * e * (4.0 - cosine * W), sine = 2.0 * e, tau = sine + h * e * W;
  return {acute ? s + kPi * cosine : s, sine, acute ? kPi - tau : tau};
}

}  // namespace lmc::population_loss
