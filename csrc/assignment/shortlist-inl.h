// SPDX-License-Identifier: MIT
// Of every row the few columns that are cheapest under the prices v, in ascending order, and a
// lower bound on the reduced costs c_ij - v_j of all other columns. Prices only fall, so reduced
// costs only rise: a list and its bound stay valid, they only grow less useful, and a list is made
// anew when its row needs what lies beyond the bound.
#pragma once

#include "assignment/reduced_costs-inl.h"

namespace lmc::LMC_TARGET {

struct Candidate {
  double key;   // c_ij - v_j when the list was made; at most what it is now
  double cost;  // c_ij
  int64_t column;
};

// A list holds the columns below the kRank-th smallest of the groups' minima: kRank of them at
// least, and 45 on average where the order of columns means nothing.
inline constexpr int kRank = 32;
inline constexpr int kListed = 56;  // at most

// values sorted ascending by counting, for each, the smaller ones; equal ones keep their order.
// n <= kGroups; `values` is padded with kNever to whole vectors.
inline __attribute__((noinline)) void ranks(const double* values, int n, int64_t* rank) {
  constexpr int L = kLanes<double>;
  for (int e = 0; e < n; e += 2 * L) {
    const Vec<double> low = load(values + e), high = load(values + e + L);
    IntVec<double> below_low{}, below_high{};
    for (int k = 0; k < n; ++k) {
      const Vec<double> value = broadcast(values[k]);
      below_low -= value < low;
      below_high -= value < high;
    }
    memcpy(rank + e, &below_low, sizeof below_low);
    memcpy(rank + e + L, &below_high, sizeof below_high);
  }
}

// The smallest entry of every group.
inline __attribute__((noinline)) void group_minima(const double* keys, int64_t padded,
                                                   double* minima) {
  constexpr int L = kLanes<double>, kVectors = kGroups / L;
  Vec<double> least[kVectors];
  for (int g = 0; g < kVectors; ++g) least[g] = load(keys + g * L);
  for (int64_t j = kGroups; j < padded; j += kGroups)
#pragma GCC unroll 8
    for (int g = 0; g < kVectors; ++g) {
      const Vec<double> key = load(keys + j + g * L);
      least[g] = key < least[g] ? key : least[g];
    }
  for (int g = 0; g < kVectors; ++g) store(minima + g * L, least[g]);
}

class Shortlists {
 public:
  LMC_INLINE explicit Shortlists(int64_t m)
      : m_(m), listed_(m * kListed), count_(m), bound_(m), chosen_(padded_columns(m)) {}

  LMC_INLINE void clear() {
    for (int64_t i = 0; i < m_; ++i) count_[i] = 0, bound_[i] = -kNever;
  }
  LMC_INLINE const Candidate* begin(int64_t i) { return &listed_[i * kListed]; }
  LMC_INLINE const Candidate* end(int64_t i) { return begin(i) + count_[i]; }
  LMC_INLINE double bound(int64_t i) { return bound_[i]; }

  // Makes row i's list anew from its reduced costs; at least two columns, where there are two.
  template <class T>
  LMC_INLINE void make(int64_t i, const T* row, const double* keys) {
    double minima[kGroups], sorted[kGroups];
    int64_t rank[kGroups];
    const int64_t padded = padded_columns(m_);
    group_minima(keys, padded, minima);
    sort(minima, kGroups, rank, sorted);
    // Fewer where they do not fit, which takes columns in some regular order.
    int64_t n = 0;
    int r = kRank;
    double bound;
    for (;; r /= 2) {
      bound = sorted[r];
      n = choose_below(keys, bound);
      if (n <= kListed || r == 0) break;
    }
    if (n < 2) n = choose_ties(keys, bound, n);
    if (n == m_) bound = kNever;
    double values[kGroups];
    for (int64_t e = 0; e < n; ++e) values[e] = keys[chosen_[e]];
    for (int64_t e = n; e < kGroups; ++e) values[e] = kNever;
    ranks(values, static_cast<int>(n), rank);
    int8_t taken[kGroups] = {};
    Candidate* list = &listed_[i * kListed];
    for (int64_t e = 0; e < n; ++e) {
      const int64_t j = chosen_[e];
      list[rank[e] + taken[rank[e]]++] = {keys[j], static_cast<double>(row[j]), j};
    }
    count_[i] = static_cast<int32_t>(n);
    bound_[i] = bound;
  }

  LMC_INLINE double spacing_bound(const double* keys) {
    double minima[kGroups], sorted[kGroups];
    int64_t rank[kGroups];
    group_minima(keys, padded_columns(m_), minima);
    sort(minima, kGroups, rank, sorted);
    return sorted[kRank];
  }

  // How far the kRank-th of the groups' minima lies above the first.
  LMC_INLINE double spacing(const double* keys) {
    double minima[kGroups], sorted[kGroups];
    int64_t rank[kGroups];
    group_minima(keys, padded_columns(m_), minima);
    sort(minima, kGroups, rank, sorted);
    int64_t r = smaller(8, m_ - 1);
    while (r > 0 && sorted[r] >= kNever) --r;
    return sorted[0] >= kNever ? 0 : sorted[r] - sorted[0];
  }

 private:
  static __attribute__((noinline)) void sort(const double* values, int n, int64_t* rank,
                                             double* sorted) {
    ranks(values, n, rank);
    int8_t taken[kGroups] = {};
    for (int e = 0; e < n; ++e) sorted[rank[e] + taken[rank[e]]++] = values[e];
  }

  // Writes the columns below `bound`, ascending, to chosen_ and returns how many there are.
  __attribute__((noinline)) int64_t choose_below(const double* keys, double bound) {
    constexpr int L = kLanes<double>;
    int64_t n = 0;
    for (int64_t j = 0; j < padded_columns(m_); j += L) {
      LaneBits below = active_lanes(bound - load(keys + j));
      for (; below; below &= below - 1)
        chosen_[n++] = static_cast<int32_t>(j + __builtin_ctz(below));
    }
    return n;
  }

  // Appends columns at `bound` itself.
  LMC_INLINE int64_t choose_ties(const double* keys, double bound, int64_t n) {
    for (int64_t j = 0; j < m_ && n < kRank; ++j)
      if (keys[j] == bound) chosen_[n++] = static_cast<int32_t>(j);
    return n;
  }

  const int64_t m_;
  AlignedBuffer<Candidate> listed_;  // (m, kListed)
  AlignedBuffer<int32_t> count_;     // (m)
  AlignedBuffer<double> bound_;      // (m)
  AlignedBuffer<int32_t> chosen_;    // (padded m)
};

}  // namespace lmc::LMC_TARGET
