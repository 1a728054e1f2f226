// SPDX-License-Identifier: MIT
// One row's reduced costs c_ij - v_j, v the columns' prices: what every scan of a row begins with.
#pragma once

#include "assignment/costs-inl.h"

namespace lmc::LMC_TARGET {

// Larger than every finite sum of costs and prices met here (assignment.h bounds the costs), and
// itself finite, so that differences are numbers.
inline constexpr double kNever = 1e308;

// The reduced cost of what is no column of the lists: padding, and flat columns
// (flat_columns-inl.h). It stays above kNever whatever a distance is added to it.
inline constexpr double kUnlisted = 1.5e308;

// Columns are seen in kGroups interleaved groups: column j belongs to group j mod kGroups. Arrays
// of a number per column are padded to whole groups.
inline constexpr int64_t kGroups = 64;
LMC_INLINE int64_t padded_columns(int64_t m) { return round_up(m, kGroups); }

// keys[j] = row[j] - v[j], and kUnlisted in the padding.
template <class T>
LMC_INLINE void reduced_costs(const T* row, const double* v, int64_t m, double* keys) {
  constexpr int64_t L = kLanes<double>;
  int64_t j = 0;
  for (; j + L <= m; j += L) store(keys + j, load_double(row + j) - load(v + j));
  for (; j < m; ++j) keys[j] = static_cast<double>(row[j]) - v[j];
  for (; j < padded_columns(m); ++j) keys[j] = kUnlisted;
}

// The smallest key of every group.
LMC_INLINE void group_minima(const double* keys, int64_t m, double* minima) {
  constexpr int L = kLanes<double>, kVectors = kGroups / L;
  Vec<double> least[kVectors];
#pragma GCC unroll 32
  for (int g = 0; g < kVectors; ++g) least[g] = load(keys + g * L);
  for (int64_t j = kGroups; j < padded_columns(m); j += kGroups)
#pragma GCC unroll 32
    for (int g = 0; g < kVectors; ++g) {
      const Vec<double> key = load(keys + j + g * L);
      least[g] = key < least[g] ? key : least[g];
    }
#pragma GCC unroll 32
  for (int g = 0; g < kVectors; ++g) store(minima + g * L, least[g]);
}

// Where each of n <= kGroups values stands in ascending order: equal ones in their own order.
// `values` has room for kGroups; those after n are overwritten with kNever.
LMC_INLINE void ranks(double* values, int64_t n, int64_t* rank) {
  constexpr int64_t L = kLanes<double>;
  for (int64_t e = n; e < kGroups; ++e) values[e] = kNever;
  for (int64_t e = 0; e < n; e += 2 * L) {
    const Vec<double> low = load(values + e), high = load(values + e + L);
    IntVec<double> below_low{}, below_high{};
    for (int64_t k = 0; k < n; ++k) {
      const Vec<double> value = broadcast(values[k]);
      below_low -= value < low;
      below_high -= value < high;
    }
    memcpy(rank + e, &below_low, sizeof below_low);
    memcpy(rank + e + L, &below_high, sizeof below_high);
  }
  int8_t equal[kGroups] = {};
  for (int64_t e = 0; e < n; ++e) rank[e] += equal[rank[e]]++;
}

// The groups' minima in ascending order.
LMC_INLINE void sorted_minima(const double* keys, int64_t m, double* sorted) {
  double minima[kGroups];
  int64_t rank[kGroups];
  group_minima(keys, m, minima);
  ranks(minima, kGroups, rank);
  for (int64_t g = 0; g < kGroups; ++g) sorted[rank[g]] = minima[g];
}

// Puts a value in its place among n sorted ones.
LMC_INLINE void insert_sorted(double* sorted, int64_t n, double value) {
  for (; n > 0 && sorted[n - 1] > value; --n) sorted[n] = sorted[n - 1];
  sorted[n] = value;
}

}  // namespace lmc::LMC_TARGET
