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

// The median of some of a row's costs, which a few forbidden pairs do not move.
template <class Row>
LMC_INLINE double typical_cost(const Row* row, int64_t m) {
  constexpr int64_t kEntries = 31;
  double found[kEntries];
  const int64_t n = smaller(m, kEntries);
  for (int64_t s = 0; s < n; ++s) insert_sorted(found, s, static_cast<double>(row[s * m / n]));
  return found[n / 2];
}

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

  LMC_INLINE const double* typical() { return typical_.data(); }

  // Writes what most rows think of the columns: in each the median of some rows, each less its
  // own typical cost. False once the watch has stopped.
  template <class Reader>
  LMC_INLINE bool find_typical(Reader& reader, Watch& watch) {
    constexpr int64_t L = kLanes<double>;
    const int64_t rows = smaller(m_, kRows);
    for (int64_t s = 0; s < rows; ++s) {
      if (watch.stop(reader.row_work())) return false;
      const auto* row = reader.row(s * m_ / rows);
      const double own = typical_cost(row, m_);
      for (int64_t j = 0; j < m_; ++j) rows_[s * m_ + j] = static_cast<double>(row[j]) - own;
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
    return true;
  }

 private:
  static constexpr int64_t kRows = 31;

  const int64_t m_;
  AlignedBuffer<double> least_, largest_, mean_, typical_;
  AlignedBuffer<double> rows_;  // (kRows, m): those that typical_ is found from
};

// Writes them to v, where zeros stand: those with the largest dual objective sum_i min_j (c_ij -
// v_j)
// + sum_j v_j, but zeros unless that is clearly more than theirs. The sums over rows are taken from
// some of them, evenly spread.
//
// "Clearly" is a share of the rows' spreads, from the least cost to the typical. Where some rows
// hardly care which column they get, as those of neurons nearly dead, prices that are not theirs
// make them all want the same; the little these gain for the others is not worth that. No row
// counts for much more than others do, though its costs be huge.
template <class Reader>
LMC_INLINE void choose_start(Reader& reader, ColumnFacts& columns, int64_t m, double* v,
                             Watch& watch) {
  constexpr int64_t kSpreads = 256, kSampled = 8;
  constexpr double kClearly = 0.1, kMuchMore = 10;
  if (!columns.find_typical(reader, watch)) return;
  const double *const mean = columns.mean(), *const typical = columns.typical();
  const int64_t samples = smaller(m, larger(kSpreads, m / kSampled));
  const int64_t every = ceil_div(samples, kSpreads);  // spreads are taken from
  double with_none = 0, with_mean = 0, with_typical = 0, sorted[kSpreads];
  int64_t spreads = 0;
  for (int64_t s = 0; s < samples; ++s) {
    if (watch.stop(reader.row_work())) return;
    const auto* row = reader.row(s * m / samples);
    const double least = least_reduced_cost(row, v, m);
    with_none += least;
    with_mean += least_reduced_cost(row, mean, m);
    with_typical += least_reduced_cost(row, typical, m);
    if (s % every == 0) insert_sorted(sorted, spreads++, typical_cost(row, m) - least);
  }
  const double most = kMuchMore * sorted[spreads * 9 / 10];
  double spread = 0;
  for (int64_t k = 0; k < spreads; ++k)
    spread += (sorted[k] < most ? sorted[k] : most) / static_cast<double>(spreads);
  const double share = static_cast<double>(samples) / static_cast<double>(m);
  for (int64_t j = 0; j < m; ++j) {
    with_mean += share * mean[j];
    with_typical += share * typical[j];
  }
  const bool mean_is_best = with_mean > with_typical;
  const double* const best = mean_is_best ? mean : typical;
  const double gain = (mean_is_best ? with_mean : with_typical) - with_none;
  if (gain > kClearly * spread * static_cast<double>(samples))
    for (int64_t j = 0; j < m; ++j) v[j] = best[j];
}

}  // namespace lmc::LMC_TARGET
