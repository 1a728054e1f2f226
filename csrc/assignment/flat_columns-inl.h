// SPDX-License-Identifier: MIT
// Columns whose costs are the same in every row, as those of dead neurons: they would crowd all
// lists, being equally good for all. Their reduced costs are one number each, f_j = c_j - v_j, kept
// in a heap.
#pragma once

#include "assignment/heap-inl.h"
#include "assignment/reduced_costs-inl.h"
#include "assignment/start-inl.h"

namespace lmc::LMC_TARGET {

class FlatColumns {
 public:
  LMC_INLINE explicit FlatColumns(int64_t m) : m_(m), keys_(m), column_(m), cost_(m), price_(m) {}

  // Finds them and takes their prices out of v, so that no list wants them.
  LMC_INLINE void find(ColumnFacts& columns, double* v) {
    keys_.clear();
    count_ = 0;
    for (int64_t j = 0; j < m_; ++j) {
      if (!columns.is_flat(j)) continue;
      column_[count_++] = static_cast<int32_t>(j);
      cost_[j] = columns.cost(j);
      price_[j] = v[j];
      v[j] = -kUnlisted;
      keys_.put(key(j), j);
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
