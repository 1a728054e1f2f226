// SPDX-License-Identifier: MIT
// Good prices to start the search from: a few rounds of the auction algorithm (Bertsekas, The
// auction algorithm: a distributed relaxation method for the assignment problem, Annals of
// Operations Research 14, 1988), each with smaller bids. Any prices are legal for what follows, so
// a round may be cut short, and only the prices are kept.
#pragma once

#include "assignment/market-inl.h"
#include "common/watch-inl.h"

namespace lmc::LMC_TARGET {

template <class Costs>
class Auction {
 public:
  LMC_INLINE Auction(Market<Costs>& market, int32_t* waiting, Watch& watch)
      : market_(market), waiting_(waiting), watch_(watch) {}

  LMC_INLINE void run() {
    double step = kFirstStep * spacing();
    for (int round = 0; round < kRounds && step > 0; ++round, step *= kShrink) {
      const bool done = hold_round(step);
      market_.give_all_back();
      if (!done) return;
    }
  }

 private:
  // Measured on clustered and on Gaussian costs: fewer rounds or larger steps leave the search more
  // to do where costs nearly tie, more rounds take longer where they do not.
  static constexpr double kFirstStep = 0.05, kShrink = 0.2;
  static constexpr int kRounds = 3;
  static constexpr int64_t kBidsPerRow = 64;  // of a round, on average, before it is cut short
  static constexpr int64_t kListBids = 8;     // as much work as making a list
  static constexpr int kSamples = 32, kSampleRank = 8;
  static constexpr double kIndifferent = 0.001, kFewBid = 0.005;

  // How far a row's kSampleRank-th cheapest column lies above its cheapest, more or less: the
  // median of some rows. Rows with far less than the mean hardly care which column they get, and do
  // not bid; 0 where a quarter has little, for then the search does better alone.
  double spacing() {
    double found[kSamples], sorted[kGroups];
    int64_t n = 0;
    const int64_t m = market_.m, samples = smaller(m, kSamples);
    for (int64_t s = 0; s < samples; ++s) {
      reduced_costs(market_.reader.row(s * m / samples), market_.v, m, market_.keys);
      sorted_minima(market_.keys, m, sorted);
      int r = kSampleRank;
      while (r > 0 && sorted[r] >= kNever) --r;
      const double width = sorted[r] - sorted[0];
      if (width <= 0) continue;
      insert_sorted(found, n++, width);
    }
    if (n == 0) return 0;
    double mean = 0;
    for (int64_t s = 0; s < n; ++s) mean += found[s] / static_cast<double>(n);
    indifferent_ = kIndifferent * mean;
    return found[n / 4] < kFewBid * mean ? 0 : found[n / 2];
  }

  // The last row that lost its column bids next. Returns false when cut short.
  bool hold_round(double step) {
    int64_t count = 0, budget = kBidsPerRow * market_.m;
    for (int64_t i = market_.m - 1; i >= 0; --i) waiting_[count++] = static_cast<int32_t>(i);
    while (count > 0) {
      if (--budget < 0 || watch_.stop(kListed)) return false;
      const int32_t i = waiting_[--count];
      const Bid bid = best_bid(i, budget);
      if (is_indifferent(i)) continue;
      market_.lower_price(bid.column, bid.second - bid.first + step);
      const int32_t loser = market_.row_of[bid.column];
      market_.row_of[bid.column] = i;
      if (loser != kNobody) waiting_[count++] = loser;
    }
    return true;
  }

  LMC_INLINE bool is_indifferent(int64_t i) {
    const Candidate *list = market_.lists.begin(i), *end = market_.lists.end(i);
    if (list == end) return true;
    const double far = list + kSampleRank < end ? list[kSampleRank].key : market_.lists.bound(i);
    return far - list->key < indifferent_;
  }

  // The column with the lowest reduced cost `first`, and at most the next lowest, `second`.
  struct Bid {
    double first, second;
    int64_t column;
  };

  LMC_INLINE Bid best_bid(int64_t i, int64_t& budget) {
    Bid bid = best_listed(i);
    if (bid.second > market_.lists.bound(i)) {
      budget -= kListBids;
      watch_.stop(market_.reader.row_work());
      market_.make_list(i);
      bid = best_listed(i);
      // A list may still be too short where columns tie; a lower bid is a bid.
      if (bid.second > market_.lists.bound(i)) bid.second = market_.lists.bound(i);
    }
    if (market_.flat.count() > 0) {
      const Heap::Item flat = market_.flat.cheapest();
      if (flat.key < bid.first) {
        const double other = market_.flat.second_key();
        bid = {flat.key, bid.first < other ? bid.first : other, flat.id};
      } else if (flat.key < bid.second) {
        bid.second = flat.key;
      }
    }
    if (bid.second < bid.first || bid.second >= kNever) bid.second = bid.first;
    return bid;
  }

  LMC_INLINE Bid best_listed(int64_t i) {
    Bid bid{kNever, kNever, -1};
    const Candidate* end = market_.lists.end(i);
    for (const Candidate* c = market_.lists.begin(i); c < end && c->key < bid.second; ++c) {
      const double now = c->cost - market_.v[c->column];
      if (now < bid.first)
        bid = {now, bid.first, c->column};
      else if (now < bid.second)
        bid.second = now;
    }
    return bid;
  }

  double indifferent_ = 0;  // a width like spacing()'s, of rows that do not bid
  Market<Costs>& market_;
  int32_t* waiting_;  // (m): rows without a column, a stack
  Watch& watch_;
};

}  // namespace lmc::LMC_TARGET
