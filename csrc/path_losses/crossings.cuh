// SPDX-License-Identifier: MIT
// Crossing neurons of a tile: counted, located among the alphas and listed sample by sample by the
// threads that hold their pre-activations, then added to the bins by the bins' owners.
//
// The order of a list, and so of every bin's sum, follows from the columns alone: passes in order,
// in each the groups of the tile in order, in each the lanes of a row in order, in each the lane's
// columns of that pass in order.
#pragma once

#include <cmath>

#include "path_losses/path_memory.cuh"

namespace lmc::path_losses {

// An entry's key: with one output its bin, else that, whether the neuron dies, and its column in
// the tile. Lists are filled up to whole windows with entries that add nothing: their numbers are
// zero, their bin is the first, and the weight of their column is zero.
inline constexpr int kBinShift = 9;
inline constexpr uint32_t kDies = 256, kColumn = 255, kNoColumn = kTileColumns;
inline constexpr int kWindow = 4;  // entries whose bins are read at a time

// A number in each of the four bytes: how many bits are set in it.
LMC_HOST_DEVICE inline uint32_t bits_of_bytes(uint32_t bits) {
  bits -= bits >> 1 & 0x55555555u;
  bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
  return (bits + (bits >> 4)) & 0x0f0f0f0fu;
}
LMC_HOST_DEVICE inline uint32_t sum_of_bytes(uint32_t bytes) { return bytes * 0x01010101u >> 24; }

// The k that a crossing at t falls to on an equally spaced grid, but for rounding: at most A, and 0
// for NaN.
LMC_HOST_DEVICE inline int guess_bin(float t, float intervals) {
  constexpr float kIntegers = 8388608.0f;  // between this and its double there are no others
  const float shifted = std::fmax((t * intervals + 0.49999f) + kIntegers, kIntegers);
  return static_cast<int>(bits_of(std::fmin(shifted, kIntegers + (intervals + 1.0f))) -
                          bits_of(kIntegers));
}

// A thread's part of a tile: which of its pre-activations cross, and the places of its entries.
// Bit r 8 + c stands for z[r][c], byte r for row(r). To spread its stores over the banks a thread
// takes its rows in turn, beginning with another one than the lanes of the same rows: slot i is
// then row(turn(i)).
template <class Tile, bool Inside>
class Crossings {
  using T = typename Tile::Value;
  using Shared = PathShared<Tile>;
  static constexpr int kRows = Tile::kRows, kCols = Tile::kCols;
  static constexpr int kPasses = Shared::kPasses, kPassColumns = Shared::kPassColumns;
  static_assert(kCols == 8 && (kRows == 1 || kRows == 2 || kRows == 4) && Tile::kGroups <= 4);
  using Values = T[kRows][kCols];

 public:
  __device__ Crossings(unsigned char* shared, int entries)
      : counts_(reinterpret_cast<uint32_t*>(shared + Shared::kCounts)),
        numbers_(reinterpret_cast<T*>(shared + Shared::kLists)),
        entries_(entries) {}
  // From one of an entry's numbers to the next.
  __device__ int next_number() const {
    return Shared::numbers(Inside ? Shared::kEntries : entries_);
  }

  // Before the first tile: groups that do not exist count nothing.
  __device__ void start() {
    for (int e = threadIdx.x; e < (kPasses + 1) * Shared::kHeight; e += kThreads) counts_[e] = 0;
  }

  // Finds the crossings and tells the block how many there are, behind a barrier.
  __device__ void count(const Values& z_a, const Values& z_b, bool count_active) {
    crossing_ = 0;
    uint32_t active = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c)
        if (!(z_a[r][c] <= T(0)) != !(z_b[r][c] <= T(0))) crossing_ |= 1u << (r * 8 + c);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      before_[pass] =
          lanes_before(bits_of_bytes(crossing_ & kPassMask << pass * kPassColumns), pass);
    if (!count_active) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c)
        if (!(z_a[r][c] <= T(0))) active |= 1u << (r * 8 + c);
    lanes_before(bits_of_bytes(active), kPasses);
  }

  // Into the order of slots.
  __device__ void turn(Values& z_a, Values& z_b) {
    turn_values(z_a);
    turn_values(z_b);
    crossing_ = turned(crossing_);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) before_[pass] = turned(before_[pass]);
  }

  // Lists the crossings of a pass in rows first ... first + rows - 1, into lists of so many rows.
  // The numbers are -|z_a|, |z_b| and -(|z_a| + |z_b|): with one output times `weights`, the three
  // kinds of it. `list` counts the lists before these.
  __device__ void gather(const Values& z_a, const Values& z_b, int pass, int list, int first,
                         int rows, const Interval<T>* intervals, int A, const T* weights) {
    const bool one = weights != nullptr;
    const uint32_t bin_unit = one ? 1 : 1 << kBinShift;
    fill_up(pass, list, first, rows, one ? 0 : kNoColumn);
    uint32_t bits = crossing_;
    T* place[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = Tile::row(turn(i));
      const uint32_t counts = counts_[pass * Shared::kHeight + row];
      const uint32_t groups = sum_of_bytes(counts & ((1u << 8 * Tile::group()) - 1u));
      const auto before = static_cast<int>(groups + (before_[pass] >> 8 * i & 255u));
      if (row < first || row >= first + rows) bits &= ~(255u << 8 * i);
      place[i] = numbers_ + ((list * Shared::kListLength + before) * rows + row - first);
    }
    int bins[kPassColumns][kRows];
    locate(z_a, z_b, pass, intervals, A, bins);
#pragma unroll
    for (int q = 0; q < kPassColumns; ++q) {
      const int c = pass * kPassColumns + q;
      const auto column = static_cast<uint32_t>(Tile::column(c));
      T factor[3];
#pragma unroll
      for (int kind = 0; kind < 3; ++kind)
        factor[kind] = (kind == 1 ? T(1) : T(-1)) *
                       (one ? weights[kind * kWeightPitch + static_cast<int>(column)] : T(1));
      const uint32_t birth = one ? 0 : column, death = one ? 0 : column + kDies;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const T size_a = std::fabs(z_a[i][c]), size_b = std::fabs(z_b[i][c]);
        const T numbers[3] = {size_a * factor[0], size_b * factor[1],
                              (size_a + size_b) * factor[2]};
        const uint32_t key =
            static_cast<uint32_t>(bins[q][i]) * bin_unit + (z_a[i][c] <= T(0) ? birth : death);
        if (bits >> (8 * i + c) & 1u) {
          place[i][0] = numbers[0];
          place[i][next_number()] = numbers[1];
          place[i][2 * next_number()] = numbers[2];
          key_of(place[i]) = key;
          place[i] += rows;
        }
      }
    }
  }

  // How many entries a row has in a pass, and how many of its neurons are active in a.
  __device__ int length(int pass, int row) const {
    return static_cast<int>(sum_of_bytes(counts_[pass * Shared::kHeight + row]));
  }
  __device__ int active(int row) const { return length(kPasses, row); }

  // Adds list `list` of a row to bins that this thread owns, `stride` doubles from one to the next.
  // Where two bins of a window are the same, the later entry takes over the sum of the earlier one.
  template <class Term>
  __device__ void add_list(double* bins, int stride, int list, int row, int rows, int count,
                           const Term& term) const {
    const T* entry = numbers_ + (list * Shared::kListLength * rows + row);
    uint32_t key[kWindow];
    T number[kWindow];
    const auto fetch = [&] {
#pragma unroll
      for (int e = 0; e < kWindow; ++e) {
        key[e] = key_of(entry + e * rows);
        number[e] = term.number(entry + e * rows, key[e]);
      }
      entry += kWindow * rows;
    };
    int place[kWindow];
    double added[kWindow];
    const auto prepare = [&] {
#pragma unroll
      for (int e = 0; e < kWindow; ++e) {
        place[e] = static_cast<int>(term.bin(key[e])) * stride;
        added[e] = static_cast<double>(term.value(number[e], key[e]));
      }
    };
    if (count > 0) fetch(), prepare();
    while (count > 0) {
      double sum[kWindow];
#pragma unroll
      for (int e = 0; e < kWindow; ++e) sum[e] = bins[place[e]];
      fetch();  // meanwhile; behind the last window nothing is made of it
#pragma unroll
      for (int e = 0; e < kWindow; ++e) {
#pragma unroll
        for (int f = 0; f < e; ++f)
          if (place[f] == place[e]) sum[e] = sum[f];
        sum[e] += added[e];
      }
#pragma unroll
      for (int e = 0; e < kWindow; ++e) bins[place[e]] = sum[e];
      if ((count -= kWindow) > 0) prepare();
    }
  }

 private:
  static constexpr uint32_t kPassMask = ((1u << kPassColumns) - 1u) * 0x01010101u;

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % Tile::kLanesPerRow; }
  static __device__ int turn(int i) { return (i + lane()) % kRows; }

  static __device__ void turn_values(Values& z) {
#pragma unroll
    for (int by = 1; by < kRows; by *= 2) {
      const bool moves = (lane() & by) != 0;
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
        T old[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) old[r] = z[r][c];
#pragma unroll
        for (int r = 0; r < kRows; ++r) z[r][c] = moves ? old[(r + by) % kRows] : old[r];
      }
    }
  }
  static __device__ uint32_t turned(uint32_t bytes) {
    constexpr int kBits = 8 * kRows;
    const int by = 8 * turn(0);
    return by == 0 ? bytes : bytes >> by | bytes << (kBits - by);  // what is above kBits is unused
  }

  // Thread t fills up the list of row first + t.
  __device__ void fill_up(int pass, int list, int first, int rows, uint32_t key) {
    const int row = static_cast<int>(threadIdx.x);
    if (row >= rows) return;
    for (int e = length(pass, first + row); e % kWindow != 0; ++e) {
      T* const entry = numbers_ + ((list * Shared::kListLength + e) * rows + row);
#pragma unroll
      for (int kind = 0; kind < 3; ++kind) entry[kind * next_number()] = 0;
      key_of(entry) = key;
    }
  }

  // Keys take as much room as numbers, so that one address leads to all of an entry.
  __device__ uint32_t& key_of(T* entry) const {
    return *reinterpret_cast<uint32_t*>(entry + 3 * next_number());
  }
  __device__ uint32_t key_of(const T* entry) const {
    return *reinterpret_cast<const uint32_t*>(entry + 3 * next_number());
  }

  // From numbers by row to the sums of the lanes before this one in the same rows; all lanes' are
  // this group's count.
  __device__ uint32_t lanes_before(uint32_t own, int count) {
    uint32_t before = 0, total = own;
#pragma unroll
    for (int distance = 1; distance < Tile::kLanesPerRow; distance *= 2) {
      const uint32_t other = __shfl_xor_sync(~0u, total, distance);
      if (lane() & distance) before += other;
      total += other;
    }
    if (lane() == 0) {
      auto* const bytes = reinterpret_cast<unsigned char*>(counts_ + count * Shared::kHeight);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        bytes[Tile::row(r) * 4 + Tile::group()] = static_cast<unsigned char>(total >> 8 * r);
    }
    return before;
  }

  // For each pre-activation of a pass the first k with alphas[k] size >= size_a, A if there is
  // none; 0 where that is NaN. A guess is checked; if one of a thread's is wrong, it looks for all.
  static __device__ void locate(const Values& z_a, const Values& z_b, int pass,
                                const Interval<T>* intervals, int A,
                                int (&bins)[kPassColumns][kRows]) {
    const auto interval_count = static_cast<float>(A - 1);
    int wrong = 0;
#pragma unroll
    for (int q = 0; q < kPassColumns; ++q)
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const T size_a = std::fabs(z_a[i][pass * kPassColumns + q]);
        const T size = size_a + std::fabs(z_b[i][pass * kPassColumns + q]);
        const float t = approximate_quotient(static_cast<float>(size_a), static_cast<float>(size));
        bins[q][i] = guess_bin(t, interval_count);
        const Interval<T> interval = intervals[bins[q][i]];
        // Not short-circuited: branches would keep the guesses from being made side by side.
        wrong |= static_cast<int>(interval.before * size >= size_a) |
                 static_cast<int>(interval.at * size < size_a);
      }
    if (wrong == 0) return;
    int most = 1;
    while (most <= A / 2) most *= 2;
#pragma unroll
    for (int q = 0; q < kPassColumns; ++q) {
      int k[kRows] = {};
      for (int by = most; by > 0; by /= 2)
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const T size_a = std::fabs(z_a[i][pass * kPassColumns + q]);
          const T size = size_a + std::fabs(z_b[i][pass * kPassColumns + q]);
          // intervals[k + by].before is the alpha before it.
          if (k[i] + by <= A && intervals[k[i] + by].before * size < size_a) k[i] += by;
        }
#pragma unroll
      for (int i = 0; i < kRows; ++i) bins[q][i] = k[i];
    }
  }

  uint32_t* counts_;  // (passes and active, height): a byte each group
  T* numbers_;        // (3 and the key, lists, entries, rows)
  int entries_;
  uint32_t crossing_ = 0, before_[kPasses];
};

}  // namespace lmc::path_losses
