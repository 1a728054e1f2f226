// SPDX-License-Identifier: MIT
// A tile of z_tile.cuh by the matrix instructions of warpgroups: the products, the order of the
// sums and the groups of columns are TensorTile's.
#pragma once

#include "common/cuda/image.cuh"
#include "common/cuda/z_tile.cuh"

namespace lmc::cuda {

// Walks a sum in units of 16, two of them a step. A Unit is what the products of one hold: their
// sums, and operands in registers.
//   pass()               lets the next step be multiplied
//   prepare(unit, half)  makes the operands
//   multiply(unit, half) issues the products, as a group
//   add<Pending>(unit)   waits until no more than Pending groups run, and adds its sums
//   done()               ends a step
//
// The sums of a unit are added while the products of the next one run. So two sets of sums take
// turns, also from one step to the next.
template <class Work>
__device__ __forceinline__ void walk_in_two_sums(int units, Work& work) {
  if (units == 0) return;
  typename Work::Unit even, odd;
  work.pass();
  work.prepare(even, 0);
  work.multiply(even, 0);
  for (int unit = 0;; unit += 2) {
    if (unit + 1 == units) {
      work.template add<0>(even);
      break;
    }
    work.prepare(odd, 1);
    work.multiply(odd, 1);
    work.template add<1>(even);
    if (unit + 2 == units) {
      work.template add<0>(odd);
      break;
    }
    work.done();
    work.pass();
    work.prepare(even, 0);
    work.multiply(even, 0);
    work.template add<1>(odd);
  }
  work.done();
}

// Warpgroup g (of two) holds rows 64 g ... 64 g + 63 and all columns. The operands are images
// (image.cuh), of which a step is one piece: Step's first rows are multiples of 128, x_term and
// w_term lead from the image of one 128 rows to the next.
//
// Stages: step s lands, is passed by a barrier, and its products are issued; while they run, step
// s + 1 is passed, behind which nobody reads step s - 1 any more. So step s + Stages - 1 may be
// copied into its place then.
template <int Terms, int Stages>
struct WarpgroupTile {
  using Value = float;
  using Element = uint16_t;
  static constexpr int kTileRows = 128;
  static constexpr int kRows = 2, kCols = 32;
  static constexpr int kLanesPerRow = 4, kGroups = 4, kHeldGroups = 4, kColumnsPerWord = 8;
  static constexpr int kDepth = kImageDepth;
  static constexpr bool kTensor = true, kCompiled = kWarpgroups;

  float z[kRows][kCols];

  static constexpr size_t shared_bytes() { return kBarriers + 128; }

  __device__ WarpgroupTile(unsigned char* shared, int64_t depth, int64_t x_term, int64_t w_term)
      : stages_(reinterpret_cast<uint16_t*>(shared)),
        landed_(reinterpret_cast<CopyBarrier*>(shared + kBarriers)),
        x_term_(x_term),
        w_term_(w_term),
        depth_(static_cast<int>(depth)) {}

  static __device__ int row(int r) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    return warp * 16 + r * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
  }
  static __device__ int column(int c) {
    return c / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + c % 2;
  }
  static __device__ int group() { return 0; }

  __device__ int steps() const { return (depth_ + kDepth - 1) / kDepth; }

  // Passes a barrier.
  template <class Source>
  __device__ void begin(const Source& source, int total) {
    done_ = 0;
    total_ = total;
    if (threadIdx.x == 0) {
      for (int s = 0; s < Stages; ++s) copy_barrier_start(landed_ + s);
      for (int s = 0; s < kAhead && s < total; ++s) fetch(s, source(s));
    }
    __syncthreads();
  }

  template <class Source>
  __device__ void product(const Source& source) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c) z[r][c] = 0.0f;
    add_product(source);
  }
  // To z as it is.
  template <class Source>
  __device__ void add_product(const Source& source) {
    Work<Source> work{*this, source};
    walk_in_two_sums((depth_ + 15) / 16, work);
  }

 private:
  static constexpr int kAhead = Stages - 2;          // steps on their way while one is multiplied
  static constexpr int kPiece = kImagePiece;         // a term of an operand's step
  static constexpr int kStage = 2 * Terms * kPiece;  // x, then w
  static constexpr size_t kBarriers = Stages * kStage * sizeof(uint16_t);

  // By one thread.
  __device__ void fetch(int step, const Step<uint16_t>& from) {
    constexpr uint32_t kBytes = Terms * kPiece * sizeof(uint16_t);
    uint16_t* const stage = stages_ + step % Stages * kStage;
    CopyBarrier* const landed = landed_ + step % Stages;
    const int64_t piece = from.k / kDepth * (Terms * kPiece);
    copy_barrier_announce(landed, 2 * kBytes);
    copy_bulk(stage, from.x + from.x_first / 128 * x_term_ + piece, kBytes, landed);
    copy_bulk(stage + Terms * kPiece, from.w + from.w_first / 128 * w_term_ + piece, kBytes,
              landed);
  }

  template <class Source>
  struct Work {
    WarpgroupTile& tile;
    const Source& source;

    __device__ void pass() {
      copy_barrier_wait(tile.landed_ + tile.done_ % Stages, tile.done_ / Stages % 2);
      __syncthreads();
      const int next = tile.done_ + kAhead;
      if (threadIdx.x == 0 && next < tile.total_) tile.fetch(next, source(next));
    }
    struct Unit {
      float sum[64];
    };
    __device__ void prepare(Unit&, int) const {}
    __device__ void multiply(Unit& unit, int half) const { tile.multiply(unit.sum, half); }
    template <int Pending>
    __device__ void add(Unit& unit) const {
      warpgroup_wait<Pending>(unit.sum);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int c = 0; c < kCols; ++c) tile.z[r][c] += unit.sum[c / 2 * 4 + r * 2 + c % 2];
    }
    __device__ void done() const { ++tile.done_; }
  };

  __device__ void multiply(float (&sum)[64], int half) const {
    const uint16_t* const stage = stages_ + done_ % Stages * kStage;
    const uint16_t* const x = stage + threadIdx.x / 128 * (64 * kDepth);
    const uint16_t* const w = stage + Terms * kPiece;
    warpgroup_begin();
#pragma unroll
    for (int a = Terms - 1; a >= 0; --a)
#pragma unroll
      for (int b = Terms - 1 - a; b >= 0; --b) {
        const SharedMatrix left = matrix_of_rows(x + a * kPiece, half);
        const SharedMatrix right = matrix_of_rows(w + b * kPiece, half);
        if (a == Terms - 1)
          warpgroup_multiply<false>(sum, left, right);
        else
          warpgroup_multiply<true>(sum, left, right);
      }
    warpgroup_commit();
  }

  uint16_t* stages_;
  CopyBarrier* landed_;
  int64_t x_term_, w_term_;
  int depth_, done_ = 0, total_ = 0;
};

}  // namespace lmc::cuda
