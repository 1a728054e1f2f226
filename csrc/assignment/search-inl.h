// SPDX-License-Identifier: MIT
// Shortest augmenting paths (Jonker and Volgenant, A shortest augmenting path algorithm for dense
// and sparse linear assignment problems, Computing 38, 1987; Crouse, On implementing 2D rectangular
// assignment algorithms, IEEE Transactions on Aerospace and Electronic Systems 52, 2016): rows are
// assigned in order, each by Dijkstra's algorithm over reduced costs c_ij - u_i - v_j >= 0 from the
// row to the nearest free column, where u_i = c_ij - v_j of the column j that row i has.
//
// A row is scanned by its list. What lies beyond the list's bound is at least so far away: the row
// then waits in the heap, as number m + i, and is scanned whole only when that distance is reached
// before a free column is. As no column farther than the nearest free one matters, a scan ends at
// the first candidate that is; and a whole row is scanned for free columns first, so that few of
// the others get into the heap, above all where many tie.
#pragma once

#include "assignment/market-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

// Memory of searches, for one problem after the other.
struct SearchMemory {
  LMC_INLINE explicit SearchMemory(int64_t m)
      : heap(2 * m),
        distance(padded_columns(m)),
        taken(padded_columns(m)),
        reached_cost(m),
        own_cost(m),
        offset(m),
        reached_from(m),
        touched(m),
        tree(m) {
    for (int64_t j = 0; j < padded_columns(m); ++j) distance[j] = kNever;
  }
  Heap heap;                       // columns by distance, and rows that wait to be scanned whole
  AlignedBuffer<double> distance;  // of columns; kNever between searches
  AlignedBuffer<double> taken;     // of columns; 0: free, kUnlisted: assigned, or none at all
  AlignedBuffer<double> reached_cost;   // (m): c_ij of the step to column j
  AlignedBuffer<double> own_cost;       // (m): c_ij of the column that row i has
  AlignedBuffer<double> offset;         // (m): of a scanned row, its distance - u_i
  AlignedBuffer<int32_t> reached_from;  // (m): the row before column j
  AlignedBuffer<int32_t> touched;       // columns with a distance
  AlignedBuffer<int32_t> tree;          // columns that are settled, nearest first
};

template <class Costs>
class Search {
 public:
  LMC_INLINE Search(Market<Costs>& market, SearchMemory& memory, Watch& watch)
      : market_(market), memory_(memory), watch_(watch) {}

  // Assigns every row; false once the interrupt is requested.
  bool run() {
    for (int64_t j = 0; j < padded_columns(market_.m); ++j)
      memory_.taken[j] = j < market_.m ? 0 : kUnlisted;
    for (int64_t i = 0; i < market_.m; ++i)
      if (!assign(i)) return false;
    return true;
  }

 private:
  bool assign(int64_t root) {
    const int64_t m = market_.m;
    int64_t settled = 0;
    memory_.heap.clear();
    touched_ = 0;
    nearest_ = least_flat_offset_ = least_level_ = kNever;
    nearest_column_ = -1;
    memory_.offset[root] = 0;
    scan_list(root, -kNever);
    while (!memory_.heap.empty() && memory_.heap.first().key < nearest_) {
      if (watch_.stop(kListed)) return false;
      const Heap::Item next = memory_.heap.pop();
      if (next.id < m) {
        memory_.tree[settled++] = static_cast<int32_t>(next.id);
        const int64_t i = market_.row_of[next.id];
        memory_.offset[i] = next.key - (memory_.own_cost[i] - market_.price(next.id));
        scan_list(i, next.key);
      } else {
        scan_row(next.id - m, next.key);
      }
    }
    for (int64_t t = 0; t < settled; ++t) {
      const int64_t j = memory_.tree[t];
      market_.lower_price(j, nearest_ - memory_.distance[j]);
    }
    for (int64_t t = 0; t < touched_; ++t) memory_.distance[memory_.touched[t]] = kNever;
    take_path(root);
    return true;
  }

  // Every row on the path takes the column it reached; the one before loses its own to it.
  LMC_INLINE void take_path(int64_t root) {
    memory_.taken[nearest_column_] = kUnlisted;
    for (int32_t j = nearest_column_;;) {
      const int32_t i = memory_.reached_from[j], lost = market_.column_of[i];
      market_.row_of[j] = i;
      market_.column_of[i] = j;
      memory_.own_cost[i] = memory_.reached_cost[j];
      if (i == root) return;
      j = lost;
    }
  }

  // `now` is the distance that is settled so far; nothing can be nearer but by rounding.
  LMC_INLINE void scan_list(int64_t i, double now) {
    const double offset = memory_.offset[i];
    if (market_.flat.count() > 0) scan_flat_columns(i, now);
    if (market_.flat.count() == market_.m) return;  // nothing is left for lists
    if (market_.flat_row[i] < kNever) {
      // All flat rows have the same reduced costs but for a shift: the nearest will do.
      const double level = offset + market_.flat_row[i];
      if (level >= least_level_) return;
      least_level_ = level;
    }
    const Candidate* end = market_.lists.end(i);
    for (const Candidate* c = market_.lists.begin(i); c < end; ++c) {
      if (offset + c->key >= nearest_) return;
      reach(c->column, i, c->cost, offset + (c->cost - market_.v[c->column]), now);
    }
    const double beyond = offset + market_.lists.bound(i);
    if (beyond < nearest_) memory_.heap.put(beyond < now ? now : beyond, market_.m + i);
  }

  // A flat column is as far from a row as the row's offset says: only the least one matters.
  LMC_INLINE void scan_flat_columns(int64_t i, double now) {
    FlatColumns& flat = market_.flat;
    const double offset = memory_.offset[i];
    if (offset >= least_flat_offset_) return;
    least_flat_offset_ = offset;
    for (const bool is_taken : {false, true}) {
      if (offset + flat.cheapest().key >= nearest_) return;
      for (int64_t k = 0; k < flat.count(); ++k) {
        const int64_t j = flat.column(k);
        if ((market_.row_of[j] != kNobody) == is_taken)
          reach(j, i, flat.cost(j), offset + flat.key(j), now);
      }
    }
  }

  // All columns that are not flat; and since their reduced costs are at hand, a better list.
  __attribute__((noinline)) void scan_row(int64_t i, double now) {
    watch_.stop(market_.reader.row_work());
    const auto* row = market_.reader.row(i);
    reduced_costs(row, market_.v, market_.m, market_.keys);
    const double offset = memory_.offset[i];
    const auto reach_those = [&](LaneBits nearer, int64_t j) {
      for (; nearer; nearer &= nearer - 1) {
        const int64_t at = j + __builtin_ctz(nearer);
        reach(at, i, static_cast<double>(row[at]), offset + market_.keys[at], now);
      }
    };
    for (int64_t j = 0; j < market_.m; j += kLanes<double>) {
      const Vec<double> free = load(market_.keys + j) + load(&memory_.taken[j]);
      reach_those(active_lanes(nearest_ - (offset + free)), j);
    }
    for (int64_t j = 0; j < market_.m; j += kLanes<double>) {
      const Vec<double> before = load(&memory_.distance[j]);
      const Vec<double> limit = before < nearest_ ? before : broadcast(nearest_);
      reach_those(active_lanes(limit - (offset + load(market_.keys + j))), j);
    }
    market_.lists.make(i, row, market_.keys);
  }

  LMC_INLINE void reach(int64_t j, int64_t i, double cost, double distance, double now) {
    if (distance < now) distance = now;
    if (distance >= nearest_ || distance >= memory_.distance[j]) return;
    memory_.reached_from[j] = static_cast<int32_t>(i);
    memory_.reached_cost[j] = cost;
    if (market_.row_of[j] == kNobody) {
      nearest_ = distance;
      nearest_column_ = static_cast<int32_t>(j);
      return;
    }
    if (memory_.distance[j] == kNever) memory_.touched[touched_++] = static_cast<int32_t>(j);
    memory_.distance[j] = distance;
    memory_.heap.put(distance, j);
  }

  Market<Costs>& market_;
  SearchMemory& memory_;
  Watch& watch_;
  double nearest_ = kNever;            // distance of the nearest free column, nearest_column_
  double least_flat_offset_ = kNever;  // least offset of the rows from which flat columns were seen
  double least_level_ = kNever;        // the least of the scanned flat rows: offset + cost
  int32_t nearest_column_ = -1;
  int64_t touched_ = 0;
};

}  // namespace lmc::LMC_TARGET
