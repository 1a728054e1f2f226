// SPDX-License-Identifier: MIT
// What proves an assignment, from costs, permutation and prices alone: u_i = min_j (c_ij - v_j),
// and how far c_ij - u_i - v_j lies above 0 where assigned, and below it anywhere.
//
// These are differences of numbers that may be far larger than the costs that matter: where a pair
// is forbidden by a cost of 1e18, c - (u + v) in float64 is 0 for whatever c. So they are taken as
// if exactly.
#pragma once

#include "assignment/costs-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

struct Proof {
  const int64_t* perm;                  // (m)
  const double* v;                      // (m)
  double* u;                            // (m), overwritten
  double *objective, *gap, *violation;  // one number each, overwritten
};

// c - u - v but for a few eps of the result: u + v is a sum and what its rounding lost (Knuth, The
// Art of Computer Programming, volume 2, section 4.2.2).
template <class Number>
LMC_INLINE Number exact_slack(Number c, Number u, Number v) {
  const Number sum = u + v, part = sum - u, lost = (u - (sum - part)) + (v - part);
  return (c - sum) - lost;
}

template <class Row>
LMC_INLINE double least_reduced_cost(const Row* row, const double* v, int64_t m) {
  constexpr int64_t L = kLanes<double>;
  double least = static_cast<double>(row[0]) - v[0];
  int64_t j = 0;
  if (m >= L) {
    Vec<double> lanes = broadcast(least);
    for (; j + L <= m; j += L) {
      const Vec<double> key = load_double(row + j) - load(v + j);
      lanes = key < lanes ? key : lanes;
    }
    least = lane_minimum(lanes);
  }
  for (; j < m; ++j) {
    const double key = static_cast<double>(row[j]) - v[j];
    least = key < least ? key : least;
  }
  return least;
}

// The least of c_ij - (u + v_j): below 0 by rounding alone.
template <class Row>
LMC_INLINE double least_slack(const Row* row, double u, const double* v, int64_t m) {
  constexpr int64_t L = kLanes<double>;
  double least = 0;
  int64_t j = 0;
  Vec<double> lanes{};
  for (; j + L <= m; j += L) {
    const Vec<double> slack = exact_slack(load_double(row + j), broadcast(u), load(v + j));
    lanes = slack < lanes ? slack : lanes;
  }
  least = lane_minimum(lanes);
  for (; j < m; ++j) {
    const double slack = exact_slack(static_cast<double>(row[j]), u, v[j]);
    least = slack < least ? slack : least;
  }
  return least;
}

// Of the assigned costs' sizes: a proof that leaves no more open is as good as exact.
inline constexpr double kNegligible = 1e-9;

// Objective and gap are summed over rows in order. Rows are read in blocks, on the threads; with
// one thread that is `worker` of the call. Returns whether what is left open is negligible. Once
// the interrupt is requested nothing has a meaning.
template <class Costs>
bool prove(const Costs& costs, const Proof& p, int threads, Interrupt& interrupt, int worker) {
  constexpr int64_t kBlock = 64;
  const int64_t m = costs.m;
  AlignedBuffer<double> assigned(m), violated(m);
  for_each_task(ceil_div(m, kBlock), threads, [&](int64_t block, int helper) {
    Watch watch(interrupt, threads > 1 ? helper : worker);
    typename Costs::Reader reader(costs);
    for (int64_t i = block * kBlock; i < smaller(m, (block + 1) * kBlock); ++i) {
      if (watch.stop(reader.row_work())) return;
      const auto* row = reader.row(i);
      p.u[i] = least_reduced_cost(row, p.v, m);
      violated[i] = -least_slack(row, p.u[i], p.v, m);
      assigned[i] = static_cast<double>(row[p.perm[i]]);
    }
  });
  if (interrupt.requested()) return false;
  *p.objective = *p.gap = *p.violation = 0;
  double size = 0;
  for (int64_t i = 0; i < m; ++i) {
    *p.objective += assigned[i];
    *p.gap += exact_slack(assigned[i], p.u[i], p.v[p.perm[i]]);
    if (violated[i] > *p.violation) *p.violation = violated[i];
    size += assigned[i] < 0 ? -assigned[i] : assigned[i];
  }
  return *p.gap + static_cast<double>(m) * *p.violation <= kNegligible * size;
}

}  // namespace lmc::LMC_TARGET
