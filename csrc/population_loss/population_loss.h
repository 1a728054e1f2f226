// SPDX-License-Identifier: MIT
// L = E |f(x) - f*(x)|^2 / 2 in closed form, of S students and of A points on each of P segments,
// with gradients. x ~ N(0, I_d) for scale = 1; on the sphere of radius r, scale = r^2/d.
//
// Letters: m, M widths of student and teacher, d inputs, c outputs. All arrays are float64, dense,
// row-major. Results do not depend on the number of threads, nor on the other students and segments
// of the call.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::population_loss {

struct Sizes {
  int64_t m, M, d, c;
};

struct Loss {
  Sizes sizes;
  int64_t S;
  double scale;
  const double *w1, *w2, *v1, *v2;  // (S,m,d), (S,c,m), (M,d), (c,M)
  double* loss;                     // (S), overwritten
  double *dw1, *dw2;                // (S,m,d), (S,c,m), overwritten; null: not wanted
};

// theta(alpha) = a + alpha (b - a) for alpha < 1/2 and b - (1 - alpha) (b - a) from there: exact at
// both ends, and constant where a = b.
struct PathLosses {
  Sizes sizes;
  int64_t P, A;
  double scale;
  const double *a1, *a2, *b1, *b2, *v1, *v2;  // (P,m,d), (P,c,m) twice, (M,d), (c,M)
  const double* alphas;                       // (A)
  double* losses;                             // (P,A), overwritten
};

struct PathBackward {
  PathLosses path;                // its losses are not used
  const double* dlosses;          // (P,A)
  double *da1, *da2, *db1, *db2;  // (P,m,d), (P,c,m) twice, overwritten
};

struct Kernels {
  void (*loss)(const Loss&, int threads);
  void (*path_losses)(const PathLosses&, int threads);
  void (*path_backward)(const PathBackward&, int threads);
};

LMC_DECLARE_TABLE(Kernels, kernels)

}  // namespace lmc::population_loss
