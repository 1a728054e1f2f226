// SPDX-License-Identifier: MIT
// Prices to begin with, where none are given: none at all, the columns' mean costs, or a typical
// row. Where the columns' own costs tell more than the pairs', all rows want the same columns until
// prices say so. (The columns' least costs, the usual start, make clustered costs many times
// slower.)
#pragma once

#include "assignment/certificate-inl.h"
#include "assignment/reduced_costs-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

// What the costs in each column are; mean is summed over rows in order.
class ColumnFacts {
 public:
  LMC_INLINE explicit ColumnFacts(int64_t m)
      : m_(m), least_(m), largest_(m), mean_(m), typical_(m), rows_(kRows * m) {}

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

  // In each column the median of some rows, each less its mean: what most rows think of the
  // columns.
  template <class Reader>
  LMC_INLINE const double* typical(Reader& reader, Watch& watch) {
    constexpr int64_t L = kLanes<double>;
    const int64_t rows = smaller(m_, kRows);
    for (int64_t s = 0; s < rows; ++s) {
      if (watch.stop(reader.row_work())) break;
      const auto* row = reader.row(s * m_ / rows);
      double mean = 0;
      for (int64_t j = 0; j < m_; ++j) mean += static_cast<double>(row[j]);
      mean /= static_cast<double>(m_);
      for (int64_t j = 0; j < m_; ++j) rows_[s * m_ + j] = static_cast<double>(row[j]) - mean;
    }
    // Sorts every column by exchanging neighbours.
    for (int64_t round = 0; round < rows; ++round)
      for (int64_t s = round % 2; s + 1 < rows; s += 2) {
        double *low = &rows_[s * m_], *high = low + m_;
        int64_t j = 0;
        for (; j + L <= m_; j += L) {
          const Vec<double> a = load(low + j), b = load(high + j);
          store(low + j, a < b ? a : b);
          store(high + j, a < b ? b : a);
        }
        for (; j < m_; ++j)
          if (high[j] < low[j]) {
            const double a = low[j];
            low[j] = high[j];
            high[j] = a;
          }
      }
    for (int64_t j = 0; j < m_; ++j) typical_[j] = rows_[rows / 2 * m_ + j];
    return typical_.data();
  }

 private:
  static constexpr int64_t kRows = 31;

  const int64_t m_;
  AlignedBuffer<double> least_, largest_, mean_, typical_;
  AlignedBuffer<double> rows_;  // (kRows, m): those that typical_ is found from
};

// An estimate of the dual objective sum_i min_j (c_ij - v_j) + sum_j v_j, whose sum over rows is
// taken from some of them, evenly spread.
template <class Reader>
LMC_INLINE double dual_objective(Reader& reader, const double* v, int64_t m, Watch& watch) {
  constexpr int64_t kLeastSample = 256, kSampled = 8;
  const int64_t samples = smaller(m, larger(kLeastSample, m / kSampled));
  double rows = 0, prices = 0;
  for (int64_t s = 0; s < samples && !watch.stop(reader.row_work()); ++s)
    rows += least_reduced_cost(reader.row(s * m / samples), v, m);
  for (int64_t j = 0; j < m; ++j) prices += v[j];
  return rows * (static_cast<double>(m) / static_cast<double>(samples)) + prices;
}

// Writes them to v, where zeros stand: zeros, unless the columns' means have a dual objective that
// is clearly larger; then those, or a typical row's, which are better where a few rows make the
// means.
//
// "Clearly" is a share of how far above the dual objective of zeros a random assignment is, whose
// cost is that of the means together. Where some rows hardly care which column they get, as those
// of neurons nearly dead, prices of a mean that is not theirs make them all want the same; the
// little they gain for the others is not worth that.
template <class Reader>
LMC_INLINE void choose_start(Reader& reader, ColumnFacts& columns, int64_t m, double* v,
                             Watch& watch) {
  constexpr double kClearly = 0.1;
  const double* best = columns.mean();
  double random = 0;
  for (int64_t j = 0; j < m; ++j) random += best[j];
  const double with_none = dual_objective(reader, v, m, watch);
  const double with_mean = dual_objective(reader, best, m, watch);
  if (watch.stopped() || with_mean - with_none <= kClearly * (random - with_none)) return;
  const double* typical = columns.typical(reader, watch);
  if (dual_objective(reader, typical, m, watch) > with_mean) best = typical;
  for (int64_t j = 0; j < m; ++j) v[j] = best[j];
}

}  // namespace lmc::LMC_TARGET
