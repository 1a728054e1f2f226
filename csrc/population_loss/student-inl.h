// SPDX-License-Identifier: MIT
// Population loss and gradient of one student, on memory the caller gives: no threads, and no
// allocation but the teacher's. The op itself and the ensemble trainer both call it. What is not
// inline here is defined in population_loss-inl.h, compiled once per target.
#pragma once

#include "population_loss/prepared_network-inl.h"

namespace lmc::LMC_TARGET {

// Where gradients are written; null: not wanted.
struct PopulationGradient {
  double *w1, *w2;  // (m,d), (c,m), overwritten
};

// The teacher, prepared once for any number of students. It carries the factor of the inputs'
// distribution (E[x_k^2]) and the constant part of the loss.
class PopulationTeacher {
 public:
  // v1 (M,d), v2 (c,M).
  PopulationTeacher(const NetworkSizes& z, const double* v1, const double* v2, double scale);
  const PreparedNetwork* network() const { return &network_; }
  double scale() const { return scale_; }
  // The loss of a student, of what its evaluation gives.
  double loss(double evaluated) const { return scale_ / (2 * kPi) * (evaluated + constant_); }

 private:
  AlignedBuffer<double> memory_;
  PreparedNetwork network_;
  double scale_, constant_;
};

// Doubles of scratch memory for one student.
int64_t population_scratch(const NetworkSizes& z);

// Loss of the student w1 (m,d), w2 (c,m); its gradients into gradient.w1 and gradient.w2 where not
// null.
double population_value_and_gradient(const PopulationTeacher& teacher, const NetworkSizes& z,
                                     const double* w1, const double* w2, double* scratch,
                                     const PopulationGradient& gradient);

}  // namespace lmc::LMC_TARGET
