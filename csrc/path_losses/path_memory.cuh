// SPDX-License-Identifier: MIT
// What the kernel of path_losses is given, and what a block of it keeps in shared memory. Nothing
// here changes a bit of the result: it says how much is done at a time, not in what order a sum
// runs.
#pragma once

#include "common/cuda/z_tile.cuh"

namespace lmc::path_losses {

using namespace cuda;

inline constexpr int kUnit = 16;  // samples whose losses make one sum, whatever the tile's height
inline constexpr int kMostOutputs = 10;  // whose weights are in shared memory at a time
inline constexpr int kSumsAtOnce = 4;    // sums over neurons between two barriers
inline constexpr int64_t kMostAlphas = 1 << 20;
inline constexpr int kWeightPitch = kTileColumns + 1;  // spreads a neuron's weights over the banks

// Bin k: from alpha k - 1 to alpha k, as T; minus infinity before the first, plus infinity behind
// the last.
template <class T>
struct alignas(2 * sizeof(T)) Interval {
  T before, at;
};

template <class Element, class T>
struct PathKernel {
  int64_t n, m, d, c, A;
  int64_t units, first_block;    // of samples: sums in all, and the first block of this launch
  const Element *x, *w_a, *w_b;  // (n, d), (P, m, d), or in terms
  int64_t w_pair, x_term, w_term;
  const T *b1_a, *b1_b, *w2_a, *w2_b, *b2_a, *b2_b;
  const T* y;
  const int64_t* labels;
  const double* alphas;
  int64_t tiles_per_part;    // of two_layer_relu's sum over neurons
  int outputs;               // whose weights are in shared memory at a time
  int listed;                // rows whose crossings are listed at a time, bins in the workspace
  bool cached;               // bins in the workspace: a thread copies those it adds to
  double* sums;              // (blocks, 5, c, height): f(0), f(1), F_c, and parts of the first two
  double* bins;              // (blocks, height, A + 1, coefficients); null: in shared memory
  Interval<T>* intervals;    // (blocks, A + 1); null: in shared memory
  double *losses, *correct;  // (P, units, A); correct null for squares
  bool count_active;         // classes tie where no neuron is active: count how many are
};

// A bin holds (F_a, F_b, F_c) of every output, and perhaps a number of neurons.
LMC_HOST_DEVICE inline int64_t coefficients(int64_t c, bool count_active) {
  return 3 * c + (count_active ? 1 : 0);
}

// A tile's crossings are listed in passes over its columns: pass p takes columns p kPassColumns ...
// of those each thread holds. A list is a sample's, of one pass; an entry is three numbers and a
// key. Bins in shared memory take the lists of all samples pass by pass; bins in the workspace the
// lists of all passes for some rows of the tile, `listed`, after the other.
template <class Tile>
struct PathShared {
  using T = typename Tile::Value;
  static constexpr int kHeight = Tile::kTileRows;
  static constexpr int kPasses = Tile::kTensor ? 2 : 4;
  static constexpr int kPassColumns = Tile::kCols / kPasses;
  static constexpr int kListLength = kTileColumns / kPasses;
  static constexpr int kEntries = kHeight * kListLength;
  static constexpr int kSums = kSumsAtOnce * Tile::kGroups * kHeight;

  static constexpr int64_t kScratch = Tile::shared_bytes();
  static constexpr int64_t kCounts = kScratch + 2 * kSums * sizeof(T);
  static constexpr int64_t kLists = kCounts + (kPasses + 1) * kHeight * 4;

  // The numbers of an entry are as far apart as these are in an array: so much, and a bit more to
  // spread the banks.
  static LMC_HOST_DEVICE int numbers(int entries) { return entries + 8; }

  int64_t intervals, weights, bins, bytes;

  LMC_HOST_DEVICE PathShared(int entries, int64_t interval_count, int64_t outputs, int64_t doubles)
      : intervals(kLists + 4 * numbers(entries) * static_cast<int64_t>(sizeof(T))),
        weights(intervals + padded(interval_count * static_cast<int64_t>(sizeof(Interval<T>)), 16)),
        bins(weights +
             padded((3 * outputs + 3) * kWeightPitch * static_cast<int64_t>(sizeof(T)), 16)),
        bytes(bins + doubles * 8) {}
};

}  // namespace lmc::path_losses
