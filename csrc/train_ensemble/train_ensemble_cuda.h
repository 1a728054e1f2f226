// SPDX-License-Identifier: MIT
// The contract of train_ensemble's CUDA kernels: students advance by some steps per call, each in a
// block of its own. All arrays are on the device.
#pragma once

#include "common/cuda/call.h"
#include "train_ensemble/train_ensemble.h"

namespace lmc::train_ensemble {

enum Status : int32_t { kRunning, kStopped, kDiverged };

// The problem's w1_out, w2_out, trace, steps_out and loss_out, and all from limits to epochs, are
// the students' state between calls; the problem's w1, w2 and diverged are not used. population_gd
// takes T = double.
template <class T>
struct Run {
  Problem<T> problem;
  const double* zero_loss;  // (S): of the network whose outputs are 0
  double* limits;           // (S): the loss beyond which a student has diverged
  int32_t* status;          // (S)
  // Of mini-batches, else null: the order of a student's samples and how it was drawn, (S,2,n), and
  // the epoch that it belongs to, (S), which is -1 at first.
  uint32_t* orders;
  int64_t* epochs;
  int64_t until;          // the step to advance to
  bool evaluate;          // instead: loss_out = loss on all n samples
  bool round_to_float32;  // weights must be finite as float32
};

// gd and population_gd set the limits at step 0, record the trace, stop at tol, and at the last
// step write loss_out and the status. Of sgd the caller does so: students stop only by diverging.
template <class T>
using CudaFunction = const char*(const Run<T>&, cuda::Call&);  // null, or what went wrong

// The normals (S, count) of a training step.
struct Normals {
  int64_t S, count;
  const uint64_t* seeds;
  uint64_t step;
  double* out;
};
using NormalsFunction = const char*(const Normals&, cuda::Call&);

}  // namespace lmc::train_ensemble
