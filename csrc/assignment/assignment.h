// SPDX-License-Identifier: MIT
// Linear assignment, exactly: for each of P problems the permutation of m columns that minimises
// sum_i c[i][perm[i]], with a dual solution that proves it. Costs are given as matrices (m,m), or
// as factors: c_ij = -a_i.b_j, of which no matrix is ever made.
//
// Letters: P problems, m rows and columns, d length of the factors' rows. All arrays are dense,
// row-major; costs and start must be finite and at most kLargest in size, which first_unfit tells.
// Results do not depend on the number of threads, nor on the other problems of the call.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"
#include "common/interrupt.h"

namespace lmc::assignment {

inline constexpr double kLargest = 1e300;
inline constexpr int64_t kMostColumns = 1 << 24;  // numbers of columns are kept in 32 bits

// All overwritten. With u_i + v_j <= c_ij + violation for all i, j, no permutation costs less than
// objective - gap - m violation; gap is the sum of c_ij - u_i - v_j over the assigned entries. The
// differences are exact but for a few eps of themselves.
struct Results {
  int64_t* perm;            // (P,m)
  double* objective;        // (P)
  double *u, *v;            // (P,m)
  double *gap, *violation;  // (P)
};

template <class T>
struct Matrices {
  int64_t P, m;
  const T* cost;        // (P,m,m)
  const double* start;  // (P,m), prices to start from; null: none are known
  Results results;
};

template <class T>
struct Factors {
  int64_t P, m, d;
  const T *a, *b;       // (P,m,d)
  const double* start;  // as above
  Results results;
};

template <class T>
struct Kernels {
  // The first of n values that is not finite or exceeds `largest` in size; -1: none.
  int64_t (*first_unfit)(const T* values, int64_t n, double largest, int threads);
  // Both return early, with results that mean nothing, once the interrupt is requested.
  void (*solve_matrices)(const Matrices<T>&, int threads, Interrupt&);
  void (*solve_factors)(const Factors<T>&, int threads, Interrupt&);
};

LMC_DECLARE_TABLE(Kernels<float>, kernels_float32)
LMC_DECLARE_TABLE(Kernels<double>, kernels_float64)

}  // namespace lmc::assignment
