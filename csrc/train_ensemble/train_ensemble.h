// SPDX-License-Identifier: MIT
// Gradient descent on S students, each from its first step to its last in one task.
//
// Letters: S students, m neurons, d inputs, c outputs, n samples, M neurons of the teacher. All
// arrays are dense and row-major. What is computed, step by step, is defined by
// lmc_fast/reference/train_ensemble.py.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"
#include "common/host_device.h"
#include "common/interrupt.h"

namespace lmc::train_ensemble {

enum class Method { population_gd, gd, sgd };
enum class Loss { mse, cross_entropy };

struct Sizes {
  int64_t S, m, d, c;
  int64_t n;                // 0: no samples, and the objective is the population loss
  int64_t M;                // 0: no teacher
  int64_t batch;            // samples of an sgd step
  bool x_shared, y_shared;  // one x (n,d), y (n,c) or labels (n) for all students, else (S,...)
};

// The state of population_gd is float64 for any T; that of gd and sgd is T.
template <class T>
struct Problem {
  Sizes sizes;
  Method method;
  Loss loss;
  bool train_w2;
  int64_t steps, record_every;  // record_every 0: no trace
  double tol;
  const T *w1, *w2;          // (S,m,d), (S,c,m)
  const double* lr;          // (S)
  const uint64_t* seeds;     // (S)
  const T *x, *y;            // (n,d)|(S,n,d), (n,c)|(S,n,c); null without samples, y for labels
  const int64_t* labels;     // (n)|(S,n); null unless cross entropy
  const double *v1, *v2;     // (M,d), (c,M); null without a teacher
  double input_scale;        // E[x_i^2] of the population
  double radius;             // fresh inputs lie on the sphere of this radius; 0: they are Gaussian
  T *w1_out, *w2_out;        // (S,m,d), (S,c,m), overwritten, as are all below
  double *loss_out, *trace;  // (S), (S,trace_length); NaN where a student did not get to
  int64_t* steps_out;        // (S)
  bool* diverged;            // (S)
};

LMC_HOST_DEVICE inline int64_t trace_length(int64_t steps, int64_t record_every) {
  return record_every > 0 ? steps / record_every + 1 : 0;
}

template <class T>
struct Kernels {
  // Returns early, with results that mean nothing, once the interrupt is requested.
  void (*train)(const Problem<T>&, int threads, Interrupt&);
  // For tests: a Philox block's four words, the normals of a training step, and the order of an
  // epoch.
  void (*philox_block)(uint64_t seed, uint64_t index, uint64_t step, uint64_t stream,
                       uint64_t* words);
  void (*normals)(uint64_t seed, int64_t count, uint64_t step, double* out);
  void (*shuffle)(uint64_t seed, int64_t n, uint64_t epoch, int64_t* out);
};

LMC_DECLARE_TABLE(Kernels<float>, kernels_float32)
LMC_DECLARE_TABLE(Kernels<double>, kernels_float64)

}  // namespace lmc::train_ensemble
