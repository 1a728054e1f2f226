// SPDX-License-Identifier: MIT
// Narrow problems: augmenting row reduction, then shortest augmenting paths as in search-inl.h
// (Jonker and Volgenant, A shortest augmenting path algorithm for dense and sparse linear
// assignment problems, Computing 38, 1987), over all columns at once: so few are scanned faster
// than lists of them are made.
#pragma once

#include "assignment/reduced_costs-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

class NarrowSolver {
 public:
  static constexpr int64_t kWidest = 256;  // beyond, lists pay

  // For problems of m columns, one after the other.
  LMC_INLINE explicit NarrowSolver(int64_t m)
      : m_(m),
        padded_(round_up(m, kLanes<double>)),
        cost_(m * padded_),
        v_(padded_),
        distance_(padded_),
        closed_(padded_),
        taken_(padded_),
        reached_from_(padded_),
        row_of_(m),
        waiting_(m),
        settled_(m) {}

  // Writes the permutation and the prices v; nothing of meaning once the watch has stopped. Begins
  // with the prices `start`; where it is null, with those of the reduction.
  template <class Costs>
  void solve(const Costs& costs, const double* start, int64_t* perm, double* v, Watch& watch) {
    typename Costs::Reader reader(costs);
    for (int64_t i = 0; i < m_; ++i) {
      if (watch.stop(reader.row_work())) return;
      const auto* row = reader.row(i);
      for (int64_t j = 0; j < padded_; ++j)
        cost_[i * padded_ + j] = j < m_ ? static_cast<double>(row[j]) : kUnlisted;
    }
    for (int64_t j = 0; j < padded_; ++j) {
      v_[j] = start && j < m_ ? start[j] : 0;
      taken_[j] = j < m_ ? 0 : kUnlisted;
    }
    for (int64_t i = 0; i < m_; ++i) perm[i] = row_of_[i] = kNone;
    if (!start) reduce(perm);
    for (int64_t i = 0; i < m_; ++i) {
      if (perm[i] != kNone) continue;
      if (watch.stop(m_ * m_)) return;
      assign(i, perm);
    }
    for (int64_t j = 0; j < m_; ++j) v[j] = v_[j];
  }

 private:
  static constexpr int32_t kNone = -1;
  static constexpr int64_t kScans = 2;  // of the reduction, per row: more leave less to the search

  // Gives rows their cheapest columns, each for the price at which the row would as soon have its
  // next; who had the column before looks for another. A row with two as cheap gives way, and may
  // have none in the end.
  LMC_INLINE void reduce(int64_t* perm) {
    int64_t waiting = 0;
    for (int64_t i = m_ - 1; i >= 0; --i) waiting_[waiting++] = static_cast<int32_t>(i);
    for (int64_t left = kScans * m_; left > 0 && waiting > 0; --left) {
      const int32_t i = waiting_[--waiting];
      const double* cost = &cost_[i * padded_];
      const CheapestTwo key = cheapest_two(cost);
      const int64_t j = first_equal(key.first, [&](int64_t at) { return reduced(cost, at); });
      const int32_t loser = row_of_[j];
      if (loser != kNone && key.second <= key.first) continue;
      if (key.second < kNever) v_[j] -= key.second - key.first;
      row_of_[j] = i;
      perm[i] = j;
      taken_[j] = kUnlisted;
      if (loser == kNone) continue;
      perm[loser] = kNone;
      waiting_[waiting++] = loser;
    }
  }

  // Dijkstra's algorithm from row `root` to the nearest free column.
  LMC_INLINE void assign(int64_t root, int64_t* perm) {
    for (int64_t j = 0; j < padded_; ++j) {
      distance_[j] = kNever;
      closed_[j] = j < m_ ? 0 : kUnlisted;
    }
    double now = -kNever, offset = 0;  // settled so far; of row i, its distance - u_i
    int64_t i = root, settled = 0;
    for (;;) {
      const Nearest nearest = scan(i, offset, now);
      if (nearest.free <= nearest.open) {
        now = nearest.free;
        break;
      }
      now = nearest.open;
      const int64_t j = first_at(now, closed_.data());
      closed_[j] = kUnlisted;
      settled_[settled++] = static_cast<int32_t>(j);
      i = row_of_[j];
      offset = now - (cost_[i * padded_ + j] - v_[j]);
    }
    for (int64_t s = 0; s < settled; ++s) v_[settled_[s]] -= now - distance_[settled_[s]];
    // Every row on the path takes the column it reached; the one before loses its own to it.
    int64_t j = first_at(now, taken_.data());
    taken_[j] = kUnlisted;
    for (;;) {
      const auto from = static_cast<int64_t>(reached_from_[j]);
      const int64_t lost = perm[from];
      row_of_[j] = static_cast<int32_t>(from);
      perm[from] = j;
      if (lost == kNone) return;
      j = lost;
    }
  }

  struct Nearest {
    double open,
        free;  // distances: of all columns that are not settled, and of those without a row
  };

  // Columns that are nearer by way of row i; nothing can be nearer than `now` but by rounding.
  LMC_INLINE Nearest scan(int64_t i, double offset, double now) {
    const double* cost = &cost_[i * padded_];
    const Vec<double> row = broadcast(static_cast<double>(i)), settled = broadcast(now);
    Vec<double> open = broadcast(kUnlisted), free = open;
    for (int64_t j = 0; j < padded_; j += kLanes<double>) {
      const Vec<double> closed = load(&closed_[j]), before = load(&distance_[j]);
      Vec<double> by_row = offset + reduced(cost, j);
      by_row = (by_row < settled ? settled : by_row) + closed;
      const Vec<double> distance = by_row < before ? by_row : before;
      store(&distance_[j], distance);
      store(&reached_from_[j], by_row < before ? row : load(&reached_from_[j]));
      const Vec<double> to_open = distance + closed, to_free = distance + load(&taken_[j]);
      open = to_open < open ? to_open : open;
      free = to_free < free ? to_free : free;
    }
    return {lane_minimum(open), lane_minimum(free)};
  }

  struct CheapestTwo {
    double first, second;  // the least reduced costs of two columns; kUnlisted where there is none
  };

  LMC_INLINE CheapestTwo cheapest_two(const double* cost) {
    Vec<double> first = broadcast(kUnlisted), second = first;
    for (int64_t j = 0; j < padded_; j += kLanes<double>) {
      const Vec<double> key = reduced(cost, j), larger = key < first ? first : key;
      second = larger < second ? larger : second;
      first = key < first ? key : first;
    }
    CheapestTwo found{kUnlisted, lane_minimum(second)};
    for (int64_t l = 0; l < kLanes<double>; ++l) {
      const double larger = first[l] < found.first ? found.first : first[l];
      if (larger < found.second) found.second = larger;
      if (first[l] < found.first) found.first = first[l];
    }
    return found;
  }

  LMC_INLINE Vec<double> reduced(const double* cost, int64_t j) {
    return load(cost + j) - load(&v_[j]);
  }

  // The first column at a distance, of those that `left_out` is 0 for.
  LMC_INLINE int64_t first_at(double distance, double* left_out) {
    return first_equal(distance,
                       [&](int64_t j) { return load(&distance_[j]) + load(left_out + j); });
  }

  // The first column with the value that is the least of all, by vectors of them.
  template <class Values>
  LMC_INLINE int64_t first_equal(double least, const Values& values) {
    constexpr LaneBits kAll = (LaneBits{1} << kLanes<double>)-1;
    for (int64_t j = 0;; j += kLanes<double>) {
      const LaneBits larger = active_lanes(values(j) - least);
      if (larger != kAll) return j + __builtin_ctz(~larger);
    }
  }

  const int64_t m_, padded_;
  AlignedBuffer<double> cost_;  // (m, padded_); kUnlisted in the padding
  // Of columns, (padded_): their prices; distances from the root; and kUnlisted where they are
  // settled, or have a row, 0 elsewhere.
  AlignedBuffer<double> v_, distance_, closed_, taken_;
  AlignedBuffer<double> reached_from_;  // (padded_): the row before column j
  AlignedBuffer<int32_t> row_of_;       // (m): who has column j
  AlignedBuffer<int32_t> waiting_;      // (m): rows without a column, a stack
  AlignedBuffer<int32_t> settled_;      // (m): columns, nearest first
};

}  // namespace lmc::LMC_TARGET
