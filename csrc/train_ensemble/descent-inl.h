// SPDX-License-Identifier: MIT
// The loop of one student's training, for any objective over a flat array of weights:
//   Scalar, size() and trained() (the first elements, those that steps change), exact() (whether
//   the loss that is descended is the full objective), load(w), store(w), zero_loss(), full_loss(w)
//   and loss_and_gradient(w, g, step).
// Its rules, and their order, are those of lmc_fast/reference/train_ensemble.py.
#pragma once

#include "common/gemm-inl.h"
#include "common/watch-inl.h"
#include "train_ensemble/train_ensemble.h"

namespace lmc::LMC_TARGET {

inline constexpr double kDivergenceFactor = 1e3;

struct StepOutcome {
  bool finite;          // of all new weights
  double squared_norm;  // of the gradient
};

// next = w - lr g. The norm is summed in float64 in eight lanes, whatever the vectors of the
// target. Out: the type in which weights are returned, and must be finite.
template <class Out, class T>
LMC_INLINE StepOutcome take_step(int64_t size, const T* __restrict w, const T* __restrict g, T lr,
                                 T* __restrict next) {
  double lanes[8] = {};
  Out not_finite[8] = {};  // finite - finite is 0, anything else NaN
  int64_t e = 0;
  for (; e + 8 <= size; e += 8)
    for (int l = 0; l < 8; ++l) {
      const T gradient = g[e + l], value = w[e + l] - lr * gradient;
      next[e + l] = value;
      not_finite[l] += static_cast<Out>(value) - static_cast<Out>(value);
      lanes[l] += static_cast<double>(gradient) * static_cast<double>(gradient);
    }
  for (; e < size; ++e) {
    const T gradient = g[e], value = w[e] - lr * gradient;
    next[e] = value;
    not_finite[0] += static_cast<Out>(value) - static_cast<Out>(value);
    lanes[0] += static_cast<double>(gradient) * static_cast<double>(gradient);
  }
  StepOutcome outcome{true, 0};
  for (int l = 0; l < 8; ++l) {
    outcome.finite &= not_finite[l] == 0;
    outcome.squared_norm += lanes[l];
  }
  return outcome;
}

// The weights of a step, those of the next, and the gradient.
template <class T>
struct DescentState {
  AlignedBuffer<T> w, next, g;
  LMC_INLINE explicit DescentState(int64_t size) : w(size), next(size), g(size) {}
};

template <class Objective, class T>
LMC_INLINE void descend(const train_ensemble::Problem<T>& p, int64_t s, Objective& objective,
                        DescentState<typename Objective::Scalar>& state, Watch& watch) {
  using W = typename Objective::Scalar;
  W *w = state.w.data(), *next = state.next.data(), *g = state.g.data();
  const int64_t record_slots = train_ensemble::trace_length(p.steps, p.record_every);
  double* trace = p.trace + s * record_slots;
  for (int64_t i = 0; i < record_slots; ++i) trace[i] = __builtin_nan("");
  objective.load(w);
  memcpy(next, w, static_cast<size_t>(objective.size()) * sizeof(W));  // what steps leave alone
  const bool exact = objective.exact();
  double full = 0, limit = 0;
  bool full_is_current = false, diverged = false;
  int64_t t = 0;
  for (;; ++t) {
    const bool last = t == p.steps, record = p.record_every > 0 && t % p.record_every == 0;
    double loss = 0;
    full_is_current = exact || last || record || t == 0;
    if (exact && !last)
      full = loss = objective.loss_and_gradient(w, g, t);
    else if (full_is_current)
      full = objective.full_loss(w);
    if (t == 0) {
      const double zero = objective.zero_loss();
      limit = kDivergenceFactor * (full > zero ? full : zero);
    }
    if (record) trace[t / p.record_every] = full;
    if (last) {
      diverged = !(full <= limit);
      break;
    }
    if (!exact) loss = objective.loss_and_gradient(w, g, t);
    if (watch.stopped()) return;
    diverged = !(loss <= limit) || !(loss < __builtin_inf());
    if (diverged) break;
    const StepOutcome step = take_step<T>(objective.trained(), w, g, static_cast<W>(p.lr[s]), next);
    if (p.method != train_ensemble::Method::sgd && __builtin_sqrt(step.squared_norm) <= p.tol)
      break;
    diverged = !step.finite;
    if (diverged) break;
    W* reached = next;
    next = w;
    w = reached;
  }
  p.loss_out[s] = full_is_current ? full : objective.full_loss(w);
  p.steps_out[s] = t;
  p.diverged[s] = diverged;
  objective.store(w);
}

}  // namespace lmc::LMC_TARGET
