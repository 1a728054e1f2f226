// SPDX-License-Identifier: MIT
// The register tile: R neurons of the one network, each a scalar broadcast, times V vectors of
// neurons of the other, and the three sums of every pair. r = a - b is z' turned round and clamped
// to where z and zero lie; of a and b one is zero, so that
//
//     a^2 + b^2 = r^2,  a p - b p' = r (p + p'):
//
// seven operations per pair and sample.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

// Three sums per pair, the lanes, a row and two temporaries fit the registers.
inline constexpr int kDeficitRows = LMC_REGISTERS == 32 ? 4 : 3;
inline constexpr int kDeficitVectors = LMC_REGISTERS == 32 ? 2 : 1;
inline constexpr int kDeficitLanes = kDeficitVectors * kLanes<double>;

struct DeficitTile {
  static constexpr int R = kDeficitRows, V = kDeficitVectors, L = kLanes<double>;
  static constexpr int kSums = 3 * R * V * L;  // numbers

  // total += the sums over K samples, made from zero. Per sample `rows` holds p and -q of R
  // neurons, `lanes` p' and -z' of V vectors of them.
  static LMC_INLINE void add_samples(int64_t K, const double* __restrict rows,
                                     const double* __restrict lanes, double* __restrict total) {
    Vec<double> squares[R][V] = {}, mixed[R][V] = {}, turned[R][V] = {};
    for (int64_t k = 0; k < K; ++k, rows += 2 * R, lanes += 2 * V * L) {
      Vec<double> minus_z[V], on[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        on[v] = load(lanes + v * L);
        minus_z[v] = load(lanes + (V + v) * L);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec<double> p = broadcast(rows[r]), minus_q = broadcast(rows[R + r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec<double> above = minus_z[v] > minus_q ? minus_z[v] : minus_q;
          const Vec<double> lost = above < p ? above : p;
          const Vec<double> turn = p - on[v];
          squares[r][v] += lost * lost;
          mixed[r][v] += lost * (p + on[v]);
          turned[r][v] += turn * turn;
        }
      }
    }
    const auto add = [&](const Vec<double>(&sums)[R][V], int first) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          double* at = total + first + (r * V + v) * L;
          store(at, load(at) + sums[r][v]);
        }
    };
    add(squares, 0);
    add(mixed, R * V * L);
    add(turned, 2 * R * V * L);
  }
};

}  // namespace lmc::LMC_TARGET
