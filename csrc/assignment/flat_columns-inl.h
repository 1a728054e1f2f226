// SPDX-License-Identifier: MIT
// Columns whose costs are the same in every row, as those of dead neurons: they would crowd all
// lists, being equally good for all. Their reduced costs are one number each, f_j = c_j - v_j, kept
// in a heap.
#pragma once

#include "assignment/heap-inl.h"
#include "assignment/reduced_costs-inl.h"

namespace lmc::LMC_TARGET {

class FlatColumns {
 public:
  LMC_INLINE explicit FlatColumns(int64_t m) : m_(m), keys_(m), column_(m), cost_(m), price_(m) {}

  // Finds them and takes their prices out of v, so that no list wants them. Writes the cost of each
  // row that is flat, kNever for the others.
  template <class Reader>
  LMC_INLINE void find(Reader& reader, double* v, double* flat_row) {
    keys_.clear();
    count_ = m_;
    for (int64_t i = 0; i < m_; ++i) {
      const auto* row = reader.row(i);
      if (i == 0)
        for (int64_t j = 0; j < m_; ++j) {
          column_[j] = static_cast<int32_t>(j);
          cost_[j] = static_cast<double>(row[j]);
        }
      int64_t kept = 0;
      for (int64_t k = 0; k < count_; ++k) {
        const int32_t j = column_[k];
        if (static_cast<double>(row[j]) == cost_[j]) column_[kept++] = j;
      }
      count_ = kept;
      int64_t j = 1;
      while (j < m_ && row[j] == row[0]) ++j;
      flat_row[i] = j == m_ ? static_cast<double>(row[0]) : kNever;
    }
    for (int64_t k = 0; k < count_; ++k) {
      const int32_t j = column_[k];
      price_[j] = v[j];
      v[j] = -kUnlisted;
      keys_.put(cost_[j] - price_[j], j);
    }
  }

  LMC_INLINE int64_t count() const { return count_; }
  LMC_INLINE int64_t column(int64_t k) { return column_[k]; }
  LMC_INLINE double cost(int64_t j) { return cost_[j]; }
  LMC_INLINE double price(int64_t j) { return price_[j]; }
  LMC_INLINE double key(int64_t j) { return cost_[j] - price_[j]; }
  LMC_INLINE Heap::Item cheapest() { return keys_.first(); }
  LMC_INLINE double second_key() {
    double second = kNever;
    for (int64_t at = 1; at < smaller(3, keys_.size()); ++at)
      if (keys_.at(at).key < second) second = keys_.at(at).key;
    return second;
  }
  LMC_INLINE void lower_price(int64_t j, double by) {
    price_[j] -= by;
    keys_.raise(key(j), j);
  }

 private:
  const int64_t m_;
  Heap keys_;                           // f_j
  AlignedBuffer<int32_t> column_;       // the flat ones, ascending
  AlignedBuffer<double> cost_, price_;  // (m), of flat columns only
  int64_t count_ = 0;
};

}  // namespace lmc::LMC_TARGET
