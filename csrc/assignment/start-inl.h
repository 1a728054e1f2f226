// SPDX-License-Identifier: MIT
// Prices to begin with, where none are given: none at all, or the columns' mean costs, whichever
// has the larger dual objective sum_i min_j (c_ij - v_j) + sum_j v_j. Where the columns' own costs
// tell more than the pairs', all rows want the same columns until prices say so. (The columns'
// least costs, the usual start, make clustered costs many times slower.)
#pragma once

#include "assignment/certificate-inl.h"
#include "assignment/reduced_costs-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

// What the costs in each column are; mean is summed over rows in order.
class ColumnFacts {
 public:
  LMC_INLINE explicit ColumnFacts(int64_t m) : m_(m), least_(m), largest_(m), mean_(m) {}

  // Also writes the cost of each row whose costs are all the same, kNever for the others.
  template <class Reader>
  LMC_INLINE void read(Reader& reader, double* flat_row, Watch& watch) {
    constexpr int64_t L = kLanes<double>;
    for (int64_t i = 0; i < m_; ++i) {
      if (watch.stop(reader.row_work())) return;
      const auto* row = reader.row(i);
      int64_t j = 0;
      if (i > 0)
        for (; j + L <= m_; j += L) {
          const Vec<double> c = load_double(row + j), low = load(&least_[j]),
                            high = load(&largest_[j]);
          store(&least_[j], c < low ? c : low);
          store(&largest_[j], c > high ? c : high);
          store(&mean_[j], load(&mean_[j]) + c);
        }
      for (; j < m_; ++j) {
        const double c = static_cast<double>(row[j]);
        if (i == 0 || c < least_[j]) least_[j] = c;
        if (i == 0 || c > largest_[j]) largest_[j] = c;
        mean_[j] = (i == 0 ? 0 : mean_[j]) + c;
      }
      j = 1;
      while (j < m_ && row[j] == row[0]) ++j;
      flat_row[i] = j == m_ ? static_cast<double>(row[0]) : kNever;
    }
    for (int64_t j = 0; j < m_; ++j) mean_[j] /= static_cast<double>(m_);
  }

  LMC_INLINE bool is_flat(int64_t j) { return least_[j] == largest_[j]; }
  LMC_INLINE double cost(int64_t j) { return least_[j]; }  // of a flat column
  LMC_INLINE const double* least() { return least_.data(); }
  LMC_INLINE const double* mean() { return mean_.data(); }

 private:
  const int64_t m_;
  AlignedBuffer<double> least_, largest_, mean_;
};

// Writes the better of the two to v, where zeros stand. The sum over rows is taken from some of
// them, evenly spread.
template <class Reader>
LMC_INLINE void choose_start(Reader& reader, ColumnFacts& columns, int64_t m, double* v,
                             Watch& watch) {
  constexpr int64_t kLeastSample = 256, kSampled = 8;
  const int64_t samples = smaller(m, larger(kLeastSample, m / kSampled));
  const double* const mean = columns.mean();
  double with_none = 0, with_mean = 0;
  for (int64_t s = 0; s < samples; ++s) {
    if (watch.stop(reader.row_work())) return;
    const auto* row = reader.row(s * m / samples);
    with_none += least_reduced_cost(row, v, m);
    with_mean += least_reduced_cost(row, mean, m);
  }
  double prices = 0;
  for (int64_t j = 0; j < m; ++j) prices += mean[j];
  if ((with_mean - with_none) * static_cast<double>(m) + prices * static_cast<double>(samples) > 0)
    for (int64_t j = 0; j < m; ++j) v[j] = mean[j];
}

}  // namespace lmc::LMC_TARGET
