// SPDX-License-Identifier: MIT
// The micro-kernels under every dense product here. A tile of sums stays in registers while K terms
// are added to it, in the order k = 0, 1, 2, ...: R rows, each a scalar broadcast, times V vectors.
// "Rows" and "lanes" are whatever the caller lays out so: samples and neurons in the forward product,
// input dimensions and neurons in the weight gradient.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

// Neurons (lanes) in one packed panel, and rows in one tile. Chosen so that kTileRows * kPanelVectors
// accumulators, the panel's vectors and one broadcast fit the registers. A panel is never narrower than a
// byte of sign bits.
template <class T>
inline constexpr int kPanelVectors = kLanes<T> < 4 ? 4 : 2;
template <class T>
inline constexpr int kPanel = kPanelVectors<T> * kLanes<T>;
template <class T>
inline constexpr int kTileRows = LMC_REGISTERS == 32 ? 12 : (kPanelVectors<T> == 2 ? 6 : 3);

template <class T, int R, int V>
struct Tile {
  Vec<T> sum[R][V];

  LMC_INLINE void set_zero() {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = Vec<T>{};
  }
  // Every row starts from the same V vectors (a bias).
  LMC_INLINE void set_rows(const T* values) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = load(values + v * kLanes<T>);
  }
  // sum[r][:] += sum over k of a[k][r] * b[k][:], with a (K,R) and b (K, V lanes), both contiguous.
  LMC_INLINE void add_product(int64_t K, const T* __restrict a, const T* __restrict b) {
    Tile t = *this;
    for (int64_t k = 0; k < K; ++k) {
      Vec<T> lanes[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) lanes[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> row = broadcast(a[r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) t.sum[r][v] += row * lanes[v];
      }
      a += R;
      b += V * kLanes<T>;
    }
    *this = t;
  }
  // The same with b[k][:] = 0 or 1, read from bits: lane l of vector v is bit first_bit + v lanes + l of
  // words[k].
  LMC_INLINE void add_masked(int64_t K, const T* __restrict a, const uint64_t* __restrict words,
                             int first_bit) {
    Tile t = *this;
    for (int64_t k = 0; k < K; ++k) {
      const uint64_t word = words[k] >> first_bit;
      LaneSet<T> set[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) set[v] = lane_set<T>(static_cast<LaneBits>(word >> (v * kLanes<T>)));
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> row = broadcast(a[r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) t.sum[r][v] = add_in<T>(set[v], t.sum[r][v], row);
      }
      a += R;
    }
    *this = t;
  }
};

// Packs a (rows, K) matrix with row stride `stride` as panels of N rows: out[panel][k][row in panel].
// Rows beyond the last are zero. Panels [first, last) only, so that callers can share the work.
template <class T, int N>
LMC_INLINE void pack_panels(const T* in, int64_t rows, int64_t K, int64_t stride, int64_t first,
                            int64_t last, T* out) {
  for (int64_t p = first; p < last; ++p) {
    T* panel = out + p * K * N;
    const int64_t filled = smaller(N, rows - p * N);
    for (int64_t row = 0; row < filled; ++row) {
      const T* from = in + (p * N + row) * stride;
      for (int64_t k = 0; k < K; ++k) panel[k * N + row] = from[k];
    }
    for (int64_t row = filled; row < N; ++row)
      for (int64_t k = 0; k < K; ++k) panel[k * N + row] = 0;
  }
}

}  // namespace lmc::LMC_TARGET
