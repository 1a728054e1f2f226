// SPDX-License-Identifier: MIT
// The product of masked_product.cuh that sums over samples, for one output, by the matrix
// instructions of warpgroups.
//
// Block (x, y, z) owns `kRows` neurons and `Columns` columns of G, of part y of the sum, of network
// z; x runs over the row blocks first. Warpgroup g (of two) has neurons 64 (g Blocks + b), b <
// Blocks. The left operand never lies in memory: a thread makes what it holds of it, four samples
// of two neurons for every 16 samples, from the sign words. The right one is a column image.
//
// The order of a sum is TensorProduct's: 16 samples from zero, smallest terms first, and those sums
// in order by ordinary additions. They run as in warpgroup_tile.cuh, stages too.
#pragma once

#include "common/cuda/warpgroup_tile.cuh"
#include "two_layer_relu/masked_product.cuh"

namespace lmc::two_layer_relu {

template <int Columns_, int Terms_>
struct WarpgroupProduct {
  static constexpr int kColumns = Columns_, kTerms = Terms_;
  static constexpr int kBlocks = 128 / kColumns;  // of 64 neurons, of a warpgroup
  static constexpr int kRows = 128 * kBlocks;
  static constexpr int kDepth = kImageDepth, kStages = 8, kAhead = kStages - 2;
  static constexpr int kStage = kColumns / 64 * kTerms * kColumnPiece;
  static constexpr size_t kBarriers = kStages * kStage * sizeof(uint16_t);
  static constexpr size_t kBytes = kBarriers + 128;
};

template <class S>
class WarpgroupProductBlock {
  using P = MaskedProduct<uint16_t, float>;

 public:
  __device__ WarpgroupProductBlock(const P& p, unsigned char* shared)
      : p_(p),
        stages_(reinterpret_cast<uint16_t*>(shared)),
        landed_(reinterpret_cast<CopyBarrier*>(shared + S::kBarriers)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        neurons_(static_cast<int>(p.m)),
        first_(static_cast<int>(blockIdx.y) * static_cast<int>(p.depth_per_part)) {
    const int n = static_cast<int>(p.n), part = static_cast<int>(p.depth_per_part);
    const unsigned row_blocks = static_cast<unsigned>(blocks_of(p.m, S::kRows));
    last_ = n - first_ < part ? n : first_ + part;
    // Warp w of its warpgroup has 16 neurons of each of its blocks.
    const int warp = static_cast<int>(threadIdx.x) / 32;
    first_neuron_ = static_cast<int>(blockIdx.x % row_blocks) * S::kRows +
                    warp / 4 * (64 * S::kBlocks) + warp % 4 * 16;
    first_column_ = static_cast<int>(blockIdx.x / row_blocks) * S::kColumns;
    const int64_t step = padded(p.columns, S::kColumns) / 64 * (S::kTerms * kColumnPiece);
    right_step_ = step;
    right_ = p.b + blockIdx.z * p.b_network + first_ / S::kDepth * step +
             first_column_ / 64 * (S::kTerms * kColumnPiece);
    signs_ = reinterpret_cast<const uint16_t*>(
                 p.signs + (blockIdx.z * blocks_of(p.m, 64) + first_neuron_ / 64) * p.n) +
             first_neuron_ % 64 / 16;
  }

  __device__ void run() {
    if (threadIdx.x == 0) {
      for (int s = 0; s < S::kStages; ++s) copy_barrier_start(landed_ + s);
      for (int s = 0; s < S::kAhead; ++s) fetch(s);
    }
    __syncthreads();
    fetch_signs(0);
    walk_in_two_sums((last_ - first_ + 15) / 16, *this);
    write();
  }

  // For walk_in_two_sums.
  __device__ void pass() {
    copy_barrier_wait(landed_ + step_ % S::kStages, step_ / S::kStages % 2);
    __syncthreads();
    if (threadIdx.x == 0) fetch(step_ + S::kAhead);
  }
  struct Unit {
    float sum[64];
    uint32_t left[S::kBlocks][4];
  };
  __device__ void prepare(Unit& unit, int half) {
#pragma unroll
    for (int block = 0; block < S::kBlocks; ++block) make_left(block, unit.left[block]);
    fetch_signs(2 * step_ + half + 1);
  }
  __device__ void multiply(Unit& unit, int half) {
    const uint16_t* const stage = stages_ + step_ % S::kStages * S::kStage;
    constexpr int kN = S::kColumns;
    warpgroup_begin();
#pragma unroll
    for (int b = S::kTerms - 1; b >= 0; --b) {
      const SharedMatrix right =
          matrix_of_columns(stage + b * kColumnPiece, half, 2 * S::kTerms * kColumnPiece);
      if (b == S::kTerms - 1) {
        warpgroup_multiply<kN, 0, false>(unit.sum, unit.left[0], right);
        if constexpr (S::kBlocks == 2)
          warpgroup_multiply<kN, 32, false>(unit.sum, unit.left[1], right);
      } else {
        warpgroup_multiply<kN, 0, true>(unit.sum, unit.left[0], right);
        if constexpr (S::kBlocks == 2)
          warpgroup_multiply<kN, 32, true>(unit.sum, unit.left[1], right);
      }
    }
    warpgroup_commit();
  }
  template <int Pending>
  __device__ void add(Unit& unit) {
    warpgroup_wait<Pending>(unit.sum);
#pragma unroll
    for (int e = 0; e < 64; ++e) total_[e] += unit.sum[e];
  }
  __device__ void done() { ++step_; }

 private:
  // Starts to copy the step's rows of the right operand, if there are any. By one thread.
  __device__ void fetch(int step) {
    if (first_ + step * S::kDepth >= last_) return;
    constexpr uint32_t kBytes = S::kStage * sizeof(uint16_t);
    CopyBarrier* const landed = landed_ + step % S::kStages;
    copy_barrier_announce(landed, kBytes);
    copy_bulk(stages_ + step % S::kStages * S::kStage, right_ + step * right_step_, kBytes, landed);
  }

  // Sample q (of four) of this thread, of a unit of 16.
  __device__ int sample(int unit, int q) const {
    return first_ + unit * 16 + q / 2 * 8 + lane_ % 4 * 2 + q % 2;
  }
  // Reads the signs of this warp's neurons, 16 bits a sample.
  __device__ void fetch_signs(int unit) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int i = sample(unit, q);
      const uint16_t* const own = signs_ + int64_t{4} * i;
#pragma unroll
      for (int block = 0; block < S::kBlocks; ++block)
        next_signs_[block][q] =
            i < last_ && first_neuron_ + 64 * block < neurons_ ? __ldg(own + block * 4 * p_.n) : 0u;
    }
  }

  // The left operand's registers, ones where a neuron is active: row lane / 4 with samples 0 and 1
  // of this thread, row lane / 4 + 8 with them; both rows with samples 2 and 3.
  __device__ void make_left(int block, uint32_t (&left)[4]) const {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const uint32_t bits =
          (next_signs_[block][2 * pair] | next_signs_[block][2 * pair + 1] << 16) >> lane_ / 4;
      left[2 * pair] = (bits & 0x00010001u) * 0x3f80u;
      left[2 * pair + 1] = (bits >> 8 & 0x00010001u) * 0x3f80u;
    }
  }

  __device__ void write() const {
    float* const out = p_.partial + (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) *
                                        p_.m * p_.columns;
#pragma unroll
    for (int e = 0; e < 64; ++e) {
      const int block = e / (S::kColumns / 2), own = e % (S::kColumns / 2);
      const int64_t j = first_neuron_ + 64 * block + own / 2 % 2 * 8 + lane_ / 4;
      const int k = first_column_ + own / 4 * 8 + lane_ % 4 * 2 + own % 2;
      if (j < p_.m && k < p_.columns) out[j * p_.columns + k] = total_[e];
    }
  }

  const P& p_;
  uint16_t* const stages_;
  CopyBarrier* const landed_;
  const int lane_, neurons_, first_;
  int last_, first_neuron_, first_column_, step_ = 0;
  int64_t right_step_;
  const uint16_t* right_;
  const uint16_t* signs_;  // of this warp's neurons in block 0: a sample's every fourth number
  uint32_t next_signs_[S::kBlocks][4];
  float total_[64] = {};
};

template <class S>
__global__ void __launch_bounds__(kThreads, 1)
    warpgroup_product_kernel(MaskedProduct<uint16_t, float> p) {
  if constexpr (!kWarpgroups) return;
  WarpgroupProductBlock<S> block(p, dynamic_shared());
  block.run();
}

}  // namespace lmc::two_layer_relu
