// SPDX-License-Identifier: MIT
// The population loss of one student in float64, and the objective of population_gd.
#pragma once

#include "common/watch-inl.h"
#include "population_loss/student-inl.h"
#include "train_ensemble/train_ensemble.h"

namespace lmc::LMC_TARGET {

template <class T>
LMC_INLINE NetworkSizes teacher_network(const train_ensemble::Problem<T>& p) {
  return {p.sizes.M, p.sizes.d, p.sizes.c};
}

// One worker's evaluation; the teacher is everybody's.
class PopulationLoss {
 public:
  LMC_INLINE PopulationLoss(const PopulationTeacher& teacher, const train_ensemble::Sizes& z)
      : teacher_(teacher), sizes_{z.m, z.d, z.c}, scratch_(population_scratch(sizes_)) {}

  LMC_INLINE double zero_loss() const { return teacher_.loss(0.0); }
  // w1 (m,d), w2 (c,m); g1 and g2 of the same shapes, null if not wanted.
  double loss(const double* w1, const double* w2, double* g1, double* g2) {
    return population_value_and_gradient(teacher_, sizes_, w1, w2, scratch_.data(), {g1, g2});
  }

 private:
  const PopulationTeacher& teacher_;
  const NetworkSizes sizes_;
  AlignedBuffer<double> scratch_;
};

template <class T>
class PopulationObjective {
 public:
  using Scalar = double;
  LMC_INLINE PopulationObjective(const train_ensemble::Problem<T>& p,
                                 const PopulationTeacher& teacher, Watch& watch)
      : p_(p), z_(p.sizes), population_(teacher, p.sizes), watch_(watch) {}

  LMC_INLINE void begin(int64_t s) { s_ = s; }
  LMC_INLINE int64_t size() const { return z_.m * (z_.d + z_.c); }
  LMC_INLINE int64_t trained() const { return z_.m * (z_.d + (p_.train_w2 ? z_.c : 0)); }
  LMC_INLINE bool exact() const { return true; }
  LMC_INLINE void load(double* w) const {
    for (int64_t e = 0; e < z_.m * z_.d; ++e)
      w[e] = static_cast<double>(p_.w1[s_ * z_.m * z_.d + e]);
    double* w2 = w + z_.m * z_.d;
    for (int64_t e = 0; e < z_.c * z_.m; ++e)
      w2[e] = static_cast<double>(p_.w2[s_ * z_.c * z_.m + e]);
  }
  LMC_INLINE void store(const double* w) const {
    for (int64_t e = 0; e < z_.m * z_.d; ++e)
      p_.w1_out[s_ * z_.m * z_.d + e] = static_cast<T>(w[e]);
    const double* w2 = w + z_.m * z_.d;
    for (int64_t e = 0; e < z_.c * z_.m; ++e)
      p_.w2_out[s_ * z_.c * z_.m + e] = static_cast<T>(w2[e]);
  }
  LMC_INLINE double zero_loss() const { return population_.zero_loss(); }
  LMC_INLINE double full_loss(const double* w) {
    return population_.loss(w, w + z_.m * z_.d, nullptr, nullptr);
  }
  LMC_INLINE double loss_and_gradient(const double* w, double* g, int64_t) {
    const int64_t pairs = z_.m * (z_.m / 2 + z_.M);
    if (watch_.stop(pairs * (6 * z_.d + 4 * z_.c + 40))) return __builtin_nan("");
    return population_.loss(w, w + z_.m * z_.d, g, p_.train_w2 ? g + z_.m * z_.d : nullptr);
  }

 private:
  const train_ensemble::Problem<T>& p_;
  const train_ensemble::Sizes& z_;
  PopulationLoss population_;
  Watch& watch_;
  int64_t s_ = 0;
};

}  // namespace lmc::LMC_TARGET
