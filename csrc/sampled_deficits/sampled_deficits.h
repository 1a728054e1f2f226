// SPDX-License-Identifier: MIT
// What every pair of neurons of two networks lacks half way between them, as sums over samples from
// which lmc_fast/sampled_cost.py makes the midpoint deficits. With p = relu(z), q = relu(-z) of
// neuron i of the one network and p', q' of neuron j of the other,
//
//     a = min(p, q'),  b = min(q, p'):  one of the two is zero
//     squares[i][j] += sum of a^2 + b^2
//     mixed[i][j]   += sum of a p - b p'
//     turned[i][j]  += sum of (p - p')^2
//
// Letters: n samples, m neurons of each network. All arrays are float64, dense, row-major. Results
// do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::sampled_deficits {

struct Sums {
  int64_t n, m;
  const double *z, *z_other;         // (n,m), pre-activations
  double *squares, *mixed, *turned;  // (m,m), added to; they overlap nothing else
};

struct Kernels {
  // NaN in a neuron's z makes NaN of all its turned and mixed, and of no other neuron's.
  void (*add)(const Sums&, int threads);
};

LMC_DECLARE_TABLE(Kernels, kernels)

}  // namespace lmc::sampled_deficits
