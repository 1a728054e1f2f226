// SPDX-License-Identifier: MIT
// The loop of one student's training, by one block, for any student that has kThreads and
//   loss(t)       the loss that step t descends, to all threads, with its gradient; if the run only
//                 evaluates, the full loss
//   propose(lr)   the weights after a step, not yet taken
//   accept()      takes it
//   store()       writes the weights back
// Its rules, and their order, are those of lmc_fast/reference/train_ensemble.py. Between launches a
// student is its weights, its step, its limit and its status; how many steps a launch takes changes
// nothing. If the run only evaluates, the loss is returned and nothing is written.
#pragma once

#include "train_ensemble/train_ensemble_cuda.h"

namespace lmc::train_ensemble {

inline constexpr double kDivergenceFactor = 1e3;

struct Proposal {
  bool finite;          // all new weights
  double squared_norm;  // of the gradient
};

template <class T, class Student>
__device__ double descend(const Run<T>& run, int64_t s, Student& student) {
  const Problem<T>& p = run.problem;
  const bool exact = p.method != Method::sgd;
  const double infinity = 1.0 / 0.0;
  int64_t t = p.steps_out[s];
  int32_t status = kRunning;
  while (true) {
    const bool last = t == p.steps;
    if (t >= run.until && !(exact && last) && !run.evaluate) break;
    const double loss = student.loss(t);
    if (run.evaluate) return loss;
    if (exact && threadIdx.x == 0) p.loss_out[s] = loss;
    const double zero = run.zero_loss[s];
    const bool sets_limit = exact && t == 0;
    const double limit =
        sets_limit ? kDivergenceFactor * (loss > zero ? loss : zero) : run.limits[s];
    if (exact && threadIdx.x == 0) {
      if (sets_limit) run.limits[s] = limit;  // for later steps: there are barriers before them
      if (p.record_every > 0 && t % p.record_every == 0)
        p.trace[s * trace_length(p.steps, p.record_every) + t / p.record_every] = loss;
    }
    if (last) {
      status = loss <= limit ? kStopped : kDiverged;
      break;
    }
    status = loss <= limit && loss < infinity ? kRunning : kDiverged;
    if (status != kRunning) break;
    const Proposal step = student.propose(p.lr[s]);
    if (exact && sqrt(step.squared_norm) <= p.tol) {
      status = kStopped;
      break;
    }
    if (!step.finite) {
      status = kDiverged;
      break;
    }
    student.accept();
    ++t;
  }
  student.store();
  if (threadIdx.x == 0) {
    p.steps_out[s] = t;
    run.status[s] = status;
  }
  return 0;
}

// What a block adds up to know whether a step may be taken.
struct StepSums {
  double values[2] = {0, 0};  // squares of the gradient; weights that are not finite
  template <class W>
  __device__ void add(double gradient, W weight) {
    values[0] += gradient * gradient;
    values[1] += weight - weight == 0 ? 0 : 1;
  }
};

}  // namespace lmc::train_ensemble
