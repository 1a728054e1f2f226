// SPDX-License-Identifier: MIT
// Losses of theta(alpha) = (1 - alpha) theta_a + alpha theta_b on n samples, for P pairs (a, b) of
// two-layer ReLU networks and A alphas, at a cost that hardly depends on A.
//
// Letters: P pairs, n samples, d inputs, m neurons, c outputs, A alphas. All arrays are dense and
// row-major.
//
// One neuron of one sample, z(alpha) = (1 - alpha) z_a + alpha z_b, adds to an output, while it is
// active,
//   w2(alpha) z(alpha) = (1 - alpha) q_a + alpha q_b + alpha (1 - alpha) q_c
//   q_a = w2_a z_a,  q_b = w2_b z_b,  q_c = -(w2_b - w2_a) (z_b - z_a)
// and it changes between active and inactive at most once, at alpha* = z_a / (z_a - z_b). So an
// output is
//   f(alpha) = (1 - alpha) F_a + alpha F_b + alpha (1 - alpha) F_c
// with F_a, F_b, F_c constant between crossings: F_a is f(0) plus the q_a of the neurons born
// before alpha minus those of the ones that died; F_b is f(1) likewise, seen from the other end;
// F_c starts as the sum of q_c over the neurons active at 0. The kernel sums f(0), f(1) and that
// F_c over all neurons, adds the signed (q_a, q_b, q_c) of the crossing ones to a float64 bin per
// alpha, and runs along the bins. At alpha = 0 and 1 exactly, f is the endpoint's output as
// two_layer_relu computes it, bit for bit.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::path_losses {

template <class T>
struct Networks {
  const T *w1, *b1, *w2, *b2;  // (P,m,d), (P,m)|null, (P,c,m), (P,c)|null
};

template <class T>
struct Arguments {
  int64_t P, n, d, m, c, A;
  Networks<T> a, b;
  const T* x;  // (n,d)
  const T* y;  // (n,c): mean over samples of sum over outputs of (f - y)^2 / 2; null: cross entropy
  const int64_t*
      labels;  // (n), in 0 ... c-1: mean over samples of -log softmax(f)[label]; null: squares
  const double* alphas;  // (A), in [0,1], ascending
  double* losses;        // (P,A), overwritten
  double* accuracies;    // (P,A), overwritten; null exactly when labels is null
};

template <class T>
struct Kernels {
  void (*path_losses)(const Arguments<T>&, int threads);
};

LMC_DECLARE_TABLE(Kernels<float>, kernels_float32)
LMC_DECLARE_TABLE(Kernels<double>, kernels_float64)

}  // namespace lmc::path_losses
