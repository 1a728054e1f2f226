// SPDX-License-Identifier: MIT
// The state of one problem, on which the auction and the search work in turn: prices, lists, and
// who has which column. Prices only fall.
#pragma once

#include "assignment/flat_columns-inl.h"
#include "assignment/shortlists-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int32_t kNobody = -1;

// The arrays of problems of m columns, for one after the other.
struct MarketMemory {
  LMC_INLINE explicit MarketMemory(int64_t m)
      : m(m),
        lists(m),
        columns(m),
        flat(m),
        v(padded_columns(m)),
        keys(padded_columns(m)),
        flat_row(m),
        row_of(m),
        column_of(m) {}
  const int64_t m;
  Shortlists lists;
  ColumnFacts columns;
  FlatColumns flat;
  AlignedBuffer<double> v;         // prices; -kUnlisted for flat columns
  AlignedBuffer<double> keys;      // a row's reduced costs, for whoever scans it
  AlignedBuffer<double> flat_row;  // (m): the cost of a row whose costs are all the same, or kNever
  AlignedBuffer<int32_t> row_of, column_of;  // (m): who has column j, and what row i has
};

template <class Costs>
class Market {
 public:
  // A problem at its beginning: prices `start`, or good ones where it is null; nothing assigned.
  // Not to be used once the watch has stopped.
  LMC_INLINE Market(MarketMemory& memory, const Costs& costs, const double* start, Watch& watch)
      : m(memory.m),
        reader(costs),
        lists(memory.lists),
        flat(memory.flat),
        v(memory.v.data()),
        keys(memory.keys.data()),
        flat_row(memory.flat_row.data()),
        row_of(memory.row_of.data()),
        column_of(memory.column_of.data()) {
    for (int64_t j = 0; j < padded_columns(m); ++j) v[j] = start && j < m ? start[j] : 0.0;
    lists.clear();
    memory.columns.read(reader, flat_row, watch);
    if (watch.stopped()) return;
    if (!start) choose_start(reader, memory.columns, m, v, watch);
    if (watch.stopped()) return;
    flat.find(memory.columns, v);
    give_all_back();
  }

  LMC_INLINE double price(int64_t j) { return v[j] == -kUnlisted ? flat.price(j) : v[j]; }
  LMC_INLINE void lower_price(int64_t j, double by) {
    if (v[j] == -kUnlisted)
      flat.lower_price(j, by);
    else
      v[j] -= by;
  }
  LMC_INLINE void give_all_back() {
    for (int64_t j = 0; j < m; ++j) row_of[j] = column_of[j] = kNobody;
  }
  __attribute__((noinline)) void make_list(int64_t i) {
    const auto* row = reader.row(i);
    reduced_costs(row, v, m, keys);
    lists.make(i, row, keys);
  }

  const int64_t m;
  typename Costs::Reader reader;
  Shortlists& lists;
  FlatColumns& flat;
  double* const v;  // these as in MarketMemory
  double* const keys;
  double* const flat_row;
  int32_t *const row_of, *const column_of;
};

}  // namespace lmc::LMC_TARGET
