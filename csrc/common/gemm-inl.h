// SPDX-License-Identifier: MIT
// The micro-kernels under every dense product here. A tile of sums stays in registers while terms
// are added to it in order: R rows, each a scalar broadcast, times V vectors.
// "Rows" and "lanes" are whatever the caller lays out so: samples and neurons in the forward
// product, input dimensions and neurons in the weight gradient.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

// Neurons (lanes) in one packed panel, and rows in one tile. Chosen so that kTileRows *
// kPanelVectors accumulators, the panel's vectors and one broadcast fit the registers. A panel is
// never narrower than a byte of sign bits.
template <class T>
inline constexpr int kPanelVectors = kLanes<T> < 4 ? 4 : 2;
template <class T>
inline constexpr int kPanel = kPanelVectors<T> * kLanes<T>;
template <class T>
inline constexpr int kTileRows = LMC_REGISTERS == 32 ? 12 : (kPanelVectors<T> == 2 ? 6 : 3);

template <class T, int R, int V>
struct Tile {
  Vec<T> sum[R][V];

  // sum[r][:] += the same V vectors (a bias) for every row.
  LMC_INLINE void add_to_rows(const T* values) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] += load(values + v * kLanes<T>);
  }
  // sum[r][:] = sum over k of a[k][r] * b[k][:], with a (K,R) and b (K, V lanes), both contiguous.
  LMC_INLINE void set_product(int64_t K, const T* __restrict a, const T* __restrict b) {
    in_runs(K, [&](int64_t from, int64_t to) {
      for (int64_t k = from; k < to; ++k) {
        Vec<T> lanes[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) lanes[v] = load(b + (k * V + v) * kLanes<T>);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Vec<T> row = broadcast(a[k * R + r]);
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sum[r][v] += row * lanes[v];
        }
      }
    });
  }
  // The same with b[k][:] = 0 or 1, read from bits: lane l of vector v is bit first_bit + v lanes +
  // l of words[k].
  LMC_INLINE void set_masked(int64_t K, const T* __restrict a, const uint64_t* __restrict words,
                             int first_bit) {
    in_runs(K, [&](int64_t from, int64_t to) {
      for (int64_t k = from; k < to; ++k) {
        const uint64_t word = words[k] >> first_bit;
        LaneSet<T> set[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          set[v] = lane_set<T>(static_cast<LaneBits>(word >> (v * kLanes<T>)));
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Vec<T> row = broadcast(a[k * R + r]);
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sum[r][v] = add_in<T>(set[v], sum[r][v], row);
        }
      }
    });
  }

 private:
  // Calls add_terms(from, to) over [0, K) in runs of kRun terms, each summed from zero and then
  // added to those before: rounding grows like the square root of kRun + K / kRun, not of K. The
  // total waits in memory, so that the terms have all registers to themselves.
  static constexpr int64_t kRun = 64;
  template <class AddTerms>
  LMC_INLINE void in_runs(int64_t K, const AddTerms& add_terms) {
    alignas(64) T total[R * V * kLanes<T>];
    for (int64_t from = 0;; from += kRun) {
      for_each([&](Vec<T>& s, int) { s = Vec<T>{}; });
      add_terms(from, smaller(from + kRun, K));
      if (from > 0) for_each([&](Vec<T>& s, int e) { s += load(total + e); });
      if (from + kRun >= K) return;
      for_each([&](Vec<T>& s, int e) { store(total + e, s); });
    }
  }
  template <class Body>
  LMC_INLINE void for_each(const Body& body) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) body(sum[r][v], (r * V + v) * kLanes<T>);
  }
};

// Heights R for tiles whose rows would not fill kTileRows.
template <class T>
inline constexpr int kTileHeights[] = {kTileRows<T>, kTileRows<T> * 5 / 6, kTileRows<T> * 2 / 3,
                                       kTileRows<T> / 3, 1};

template <int R>
struct TileHeight {
  static constexpr int rows = R;
};

// Calls body(TileHeight<height>{}).
template <class T, class Body>
LMC_INLINE void with_tile_height(int height, const Body& body) {
  constexpr const auto& h = kTileHeights<T>;
  if (height == h[0]) return body(TileHeight<h[0]>{});
  if (height == h[1]) return body(TileHeight<h[1]>{});
  if (height == h[2]) return body(TileHeight<h[2]>{});
  if (height == h[3]) return body(TileHeight<h[3]>{});
  body(TileHeight<1>{});
}

// The height that covers `rows` at the least cost: padding is computed for nothing, and every tile
// loads its lanes anew, which costs about half a row.
template <class T>
LMC_INLINE int tile_height(int64_t rows) {
  int best = kTileRows<T>;
  for (int height : kTileHeights<T>)
    if (ceil_div(rows, height) * (2 * height + 1) < ceil_div(rows, best) * (2 * best + 1))
      best = height;
  return best;
}

// Packs a (rows, K) matrix with row stride `stride` as panels of N rows: out[panel][k][row in
// panel]. Rows beyond the last are zero. Panels [first, last) only, so that callers can share the
// work.
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
