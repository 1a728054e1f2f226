// SPDX-License-Identifier: MIT
// The op's kernel, for the target the including file is compiled for. A task is a block of kHeight
// x kWidth pairs at most, whose sums no other task touches: all samples, in runs of kRun. A run's
// sums are made from zero and added to the block's total, and that to the outputs, so that rounding
// grows like the square root of kRun + n / kRun, not of n.
#pragma once

#include "sampled_deficits/deficit_tile-inl.h"
#include "sampled_deficits/sampled_deficits.h"

namespace lmc::LMC_TARGET {

class DeficitBlocks {
 public:
  LMC_INLINE DeficitBlocks(const sampled_deficits::Sums& sums, int threads)
      : sums_(sums),
        across_(ceil_div(sums.m, kWidth)),
        height_(round_up(ceil_div(sums.m, ceil_div(sums.m, kHeight)), R)),
        rows_(height_ * kRun * 2),
        lanes_(round_up(smaller(sums.m, kWidth), N) * kRun * 2),
        totals_(height_ * round_up(smaller(sums.m, kWidth), N) * 3),
        memory_(threads * (rows_ + lanes_ + totals_)) {}

  LMC_INLINE int64_t count() const { return ceil_div(sums_.m, height_) * across_; }

  void add(int64_t block, int worker) {
    const int64_t i0 = block / across_ * height_, j0 = block % across_ * kWidth;
    const int64_t height = smaller(height_, sums_.m - i0), width = smaller(kWidth, sums_.m - j0);
    double* rows = &memory_[worker * (rows_ + lanes_ + totals_)];
    double *lanes = rows + rows_, *totals = lanes + lanes_;
    memset(totals, 0, static_cast<size_t>(totals_) * sizeof(double));
    for (int64_t from = 0; from < sums_.n; from += kRun) {
      const int64_t K = smaller(kRun, sums_.n - from);
      pack_rows(K, sums_.z + from * sums_.m + i0, height, rows);
      pack_lanes(K, sums_.z_other + from * sums_.m + j0, width, lanes);
      double* total = totals;
      for (int64_t j = 0; j < width; j += N)
        for (int64_t i = 0; i < height; i += R, total += DeficitTile::kSums)
          DeficitTile::add_samples(K, rows + i * K * 2, lanes + j * K * 2, total);
    }
    const double* total = totals;
    for (int64_t j = 0; j < width; j += N)
      for (int64_t i = 0; i < height; i += R, total += DeficitTile::kSums)
        unpack(total, i0 + i, smaller(R, height - i), j0 + j, smaller(N, width - j));
  }

 private:
  static constexpr int R = kDeficitRows, N = kDeficitLanes;
  static constexpr int64_t kHeight = 32, kWidth = 64, kRun = 64;

  // p and -q of `count` neurons at K samples: [tile][k][p or -q][R], zero beyond the last neuron.
  LMC_INLINE void pack_rows(int64_t K, const double* z, int64_t count, double* out) const {
    for_each_strip<R>(K, z, count, out, [](const double* __restrict from, double* __restrict at) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        at[r] = from[r] < 0 ? 0 : from[r];  // NaN for NaN
        at[R + r] = from[r] < 0 ? from[r] : 0;
      }
    });
  }
  // p' and -z' likewise: [panel][k][p' or -z'][N].
  LMC_INLINE void pack_lanes(int64_t K, const double* z, int64_t count, double* out) const {
    for_each_strip<N>(K, z, count, out, [](const double* from, double* at) {
#pragma GCC unroll 4
      for (int l = 0; l < N; l += kLanes<double>) {
        const Vec<double> value = load(from + l);
        store(at + l, relu<double>(value));
        store(at + N + l, -value);
      }
    });
  }
  // Calls body(from, to) for W of z's neurons and a sample; those beyond the last are zero there.
  template <int W, class Body>
  LMC_INLINE void for_each_strip(int64_t K, const double* z, int64_t count, double* out,
                                 const Body& body) const {
    for (; count >= W; count -= W, z += W, out += K * 2 * W)
      for (int64_t k = 0; k < K; ++k) body(z + k * sums_.m, out + k * 2 * W);
    if (count <= 0) return;
    for (int64_t k = 0; k < K; ++k) {
      double last[W] = {};
      for (int64_t e = 0; e < count; ++e) last[e] = z[k * sums_.m + e];
      body(last, out + k * 2 * W);
    }
  }
  LMC_INLINE void unpack(const double* total, int64_t i, int64_t rows, int64_t j,
                         int64_t lanes) const {
    double* const outs[] = {sums_.squares, sums_.mixed, sums_.turned};
    for (double* out : outs)
      for (int64_t r = 0; r < R; ++r, total += N)
        if (r < rows)
          for (int64_t l = 0; l < lanes; ++l) out[(i + r) * sums_.m + j + l] += total[l];
  }

  const sampled_deficits::Sums& sums_;
  const int64_t across_, height_, rows_, lanes_, totals_;
  AlignedBuffer<double> memory_;
};

inline void add_sampled_deficits(const sampled_deficits::Sums& sums, int threads) {
  if (sums.m == 0) return;
  DeficitBlocks blocks(sums, threads);
  for_each_task(blocks.count(), threads,
                [&](int64_t block, int worker) { blocks.add(block, worker); });
}

}  // namespace lmc::LMC_TARGET

namespace lmc::sampled_deficits::LMC_TARGET {

extern const Kernels kernels{lmc::LMC_TARGET::add_sampled_deficits};

}  // namespace lmc::sampled_deficits::LMC_TARGET
