// SPDX-License-Identifier: MIT
// Of every row the few columns that are cheapest under the prices v, in ascending order, and a
// lower bound on the reduced costs c_ij - v_j of all other columns. Prices only fall, so reduced
// costs only rise: a list and its bound stay true, they only grow less useful, and a list is made
// anew when its row needs what lies beyond the bound.
#pragma once

#include "assignment/reduced_costs-inl.h"

namespace lmc::LMC_TARGET {

struct Candidate {
  double key;   // c_ij - v_j when the list was made: at most what it is now
  double cost;  // c_ij
  int64_t column;
};

// A list holds the columns below the kRank-th of the groups' minima: kRank of them at least, and 45
// on average where the order of columns means nothing.
inline constexpr int kRank = 32;
inline constexpr int kListed = 56;  // at most; no more than kGroups

class Shortlists {
 public:
  LMC_INLINE explicit Shortlists(int64_t m)
      : m_(m),
        listed_(m * kListed),
        bound_(m),
        count_(m),
        chosen_(padded_columns(m)),
        packed_(padded_columns(m)) {}

  LMC_INLINE void clear() {
    for (int64_t i = 0; i < m_; ++i) {
      bound_[i] = -kNever;
      count_[i] = 0;
    }
  }
  LMC_INLINE const Candidate* begin(int64_t i) { return &listed_[i * kListed]; }
  LMC_INLINE const Candidate* end(int64_t i) { return begin(i) + count_[i]; }
  LMC_INLINE double bound(int64_t i) { return bound_[i]; }  // kNever: all columns are listed

  // Makes row i's list anew from its reduced costs.
  template <class T>
  LMC_INLINE void make(int64_t i, const T* row, const double* keys) {
    double sorted[kGroups], values[kGroups];
    int64_t rank[kGroups];
    sorted_minima(keys, m_, sorted);
    double bound = smaller_of(sorted[kRank], kNever);
    int64_t n = choose_below(keys, bound);
    // Where they do not fit, as when few groups have all the cheap columns: the same among those.
    while (n > kListed) {
      for (int64_t e = 0; e < padded_columns(n); ++e)
        packed_[e] = e < n ? keys[chosen_[e]] : kUnlisted;
      sorted_minima(packed_.data(), n, sorted);
      bound = sorted[kRank];
      int64_t kept = 0;
      for (int64_t e = 0; e < n; ++e)
        if (packed_[e] < bound) chosen_[kept++] = chosen_[e];
      n = kept;
    }
    if (n == 0) n = choose_equal(keys, bound);
    for (int64_t e = 0; e < n; ++e) values[e] = keys[chosen_[e]];
    ranks(values, n, rank);
    Candidate* list = &listed_[i * kListed];
    for (int64_t e = 0; e < n; ++e)
      list[rank[e]] = {values[e], static_cast<double>(row[chosen_[e]]), chosen_[e]};
    bound_[i] = bound;
    count_[i] = static_cast<int32_t>(n);
  }

 private:
  static LMC_INLINE double smaller_of(double a, double b) { return a < b ? a : b; }

  // Writes the columns below `bound`, ascending, to chosen_ and returns how many there are.
  LMC_INLINE int64_t choose_below(const double* keys, double bound) {
    int64_t n = 0;
    for (int64_t j = 0; j < m_; j += kLanes<double>)
      for (LaneBits set = active_lanes(bound - load(keys + j)); set; set &= set - 1)
        chosen_[n++] = static_cast<int32_t>(j + __builtin_ctz(set));
    return n;
  }

  // The first columns at `bound` itself.
  LMC_INLINE int64_t choose_equal(const double* keys, double bound) {
    int64_t n = 0;
    for (int64_t j = 0; j < m_ && n < kRank; ++j)
      if (keys[j] == bound) chosen_[n++] = static_cast<int32_t>(j);
    return n;
  }

  const int64_t m_;
  AlignedBuffer<Candidate> listed_;  // (m, kListed)
  AlignedBuffer<double> bound_;      // (m)
  AlignedBuffer<int32_t> count_;     // (m)
  AlignedBuffer<int32_t> chosen_;    // (padded m): columns on their way into a list
  AlignedBuffer<double> packed_;     // (padded m): and their keys
};

}  // namespace lmc::LMC_TARGET
