// SPDX-License-Identifier: MIT
// The product of masked_product.cuh that sums over samples, by the matrix instructions of
// warpgroups.
//
// Block (x, y, z) owns `kRows` neurons and `Columns` columns of G, of part y of the sum, of network
// z; x runs over the row blocks first. Warpgroup g (of two) has neurons 64 (g Blocks + b), b <
// Blocks. The right operand comes through shared memory. Of the left one a thread makes four
// samples of two neurons for every 16 samples, from the sign words. With one output that is what it
// holds of the operand of a product, which never lies in memory. With several, when much is to be
// computed for it, it passes through shared memory, a step ahead of the products: the compiler
// gives registers away that products still read.
//
// The order of a sum is TensorProduct's: 16 samples from zero, smallest terms first, and those sums
// in order by ordinary additions. They run as in warpgroup_tile.cuh, stages too.
#pragma once

#include "common/cuda/warpgroup_tile.cuh"
#include "two_layer_relu/masked_product.cuh"

namespace lmc::two_layer_relu {

template <int Columns_, bool OneOutput_, int Terms_>
struct WarpgroupProduct {
  static constexpr int kColumns = Columns_, kTerms = Terms_;
  static constexpr bool kOneOutput = OneOutput_;
  static constexpr int kBlocks = 128 / kColumns;  // of 64 neurons, of a warpgroup
  static constexpr int kRows = 128 * kBlocks;
  static constexpr int kDepth = 32, kStages = kOneOutput ? 8 : 6, kAhead = kStages - 2;
  static constexpr int kChunk = kDepth * 64;  // 64 columns of a term
  static constexpr int kTerm = kColumns / 64 * kChunk;
  static constexpr int kLeft = 64 * kDepth;  // a term of 64 neurons
  static constexpr int kRight =
      kStages * kTerms * kTerm;  // before the left operand: two steps of it
  static constexpr size_t kBytes =
      (kRight + (kOneOutput ? 0 : 2 * 2 * kTerms * kLeft)) * sizeof(uint16_t);
  static_assert(kOneOutput || kBlocks == 1, "several outputs have one block");
};

template <class S>
class WarpgroupProductBlock {
  using P = MaskedProduct<uint16_t, float>;

 public:
  __device__ WarpgroupProductBlock(const P& p, unsigned char* shared)
      : p_(p),
        stages_(reinterpret_cast<uint16_t*>(shared)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        pitch_(static_cast<int>(padded(p.columns, kPitchUnit))),
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
    right_ = p.b + blockIdx.z * p.b_network;
    signs_ = reinterpret_cast<const uint16_t*>(
                 p.signs + (blockIdx.z * blocks_of(p.m, 64) + first_neuron_ / 64) * p.n) +
             first_neuron_ % 64 / 16;
    df_ = p.df + static_cast<int64_t>(blockIdx.z) * p.n * p.c;
    w2_ = p.w2 + static_cast<int64_t>(blockIdx.z) * p.c * p.m;
  }

  __device__ void run() {
#pragma unroll
    for (int s = 0; s < S::kAhead; ++s) {
      fetch(s);
      copy_commit();
    }
    fetch_signs(0);
    const int units = (last_ - first_ + 15) / 16;
    if constexpr (S::kOneOutput)
      walk_in_two_sums(units, *this);
    else
      walk(units);
    write();
  }

  // For walk_in_two_sums.
  __device__ void pass() {
    copy_wait<S::kAhead - 1>();
    publish_to_warpgroups();
    __syncthreads();
    fetch(step_ + S::kAhead);
    copy_commit();
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
    const uint16_t* const stage = stages_ + step_ % S::kStages * (S::kTerms * S::kTerm);
    constexpr int kN = S::kColumns;
    warpgroup_begin();
#pragma unroll
    for (int b = S::kTerms - 1; b >= 0; --b) {
      const SharedMatrix right = matrix_of_columns(stage + b * S::kTerm, half, 2 * S::kChunk);
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
    add<Pending>(unit.sum);
  }
  __device__ void done() { ++step_; }

 private:
  template <int Pending>
  __device__ void add(float (&sum)[64]) {
    warpgroup_wait<Pending>(sum);
#pragma unroll
    for (int e = 0; e < 64; ++e) total_[e] += sum[e];
  }

  // With several outputs: while the products of a unit run, the left operand of the unit two later
  // is made. pass() makes it visible, behind which the one it takes the place of is not read.
  __device__ void walk(int units) {
    float sum[64];
    make_and_keep_left(0);
    make_and_keep_left(1);
    for (int unit = 0; unit < units; ++unit) {
      const int half = unit % 2;
      if (half == 0) pass();
      const uint16_t* const stage = stages_ + step_ % S::kStages * (S::kTerms * S::kTerm);
      warpgroup_begin();
#pragma unroll
      for (int a = S::kTerms - 1; a >= 0; --a)
#pragma unroll
        for (int b = S::kTerms - 1 - a; b >= 0; --b) {
          const SharedMatrix left = matrix_of_rows(left_of(step_) + a * S::kLeft, half);
          const SharedMatrix right = matrix_of_columns(stage + b * S::kTerm, half, 2 * S::kChunk);
          if (a == S::kTerms - 1)
            warpgroup_multiply<true, false>(sum, left, right);
          else
            warpgroup_multiply<true, true>(sum, left, right);
        }
      warpgroup_commit();
      if (unit + 2 < units) make_and_keep_left(unit + 2);
      add<0>(sum);
      if (half == 1) ++step_;
    }
  }

  // Where this warpgroup keeps the left operand of a step: terms of 64 neurons, 32 samples of each.
  __device__ uint16_t* left_of(int step) const {
    const int warpgroup = static_cast<int>(threadIdx.x) / 128;
    return stages_ + S::kRight + (step % 2 * 2 + warpgroup) * (S::kTerms * S::kLeft);
  }
  __device__ void make_and_keep_left(int unit) {
    float values[4][2];  // by sample and row
    products(unit, values);
    uint32_t bits[2];
    active(0, bits);
    fetch_signs(unit + 1);
    const int first = static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane_ / 4;
    uint16_t* const to = left_of(unit / 2);
#pragma unroll
    for (int q = 0; q < 4; ++q) {  // row q % 2, samples 2 (q / 2) and the next
      uint16_t terms[2][S::kTerms];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool is_active = bits[q / 2] >> (e * 16 + q % 2 * 8) & 1u;
        split<S::kTerms>(is_active ? values[q / 2 * 2 + e][q % 2] : 0.0f, terms[e]);
      }
      const int row = first + q % 2 * 8, chunk = unit % 2 * 2 + q / 2;
      const int at = TermStage<64, S::kTerms>::place(row, chunk) + lane_ % 4 * 2;
#pragma unroll
      for (int a = 0; a < S::kTerms; ++a)
        *reinterpret_cast<uint32_t*>(to + a * S::kLeft + at) = terms[0][a] | terms[1][a] * 0x10000u;
    }
  }

  // Starts to copy the step's rows of the right operand; zeros beyond the last.
  __device__ void fetch(int step) {
    constexpr int kChunks = S::kColumns / 8;  // of 16 bytes, of a row
    const int k0 = first_ + step * S::kDepth, chunk = static_cast<int>(threadIdx.x) % kChunks;
    if (k0 >= last_) return;
    uint16_t* const stage = stages_ + step % S::kStages * (S::kTerms * S::kTerm);
    const int column = first_column_ + 8 * chunk;
    const int64_t term_stride = p_.n * pitch_;
#pragma unroll
    for (int first = 0; first < S::kDepth; first += kThreads / kChunks) {
      const int row = first + static_cast<int>(threadIdx.x) / kChunks;
      const bool valid = k0 + row < last_ && column < pitch_;
      const uint16_t* const from = right_ + static_cast<int64_t>(k0 + row) * pitch_ + column;
      uint16_t* const to = stage + chunk / 8 * S::kChunk + row * 64 + (chunk % 8 ^ (row & 7)) * 8;
#pragma unroll
      for (int term = 0; term < S::kTerms; ++term)
        copy_async(to + term * S::kTerm, valid ? from + term * term_stride : right_, valid);
    }
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

  // Of the first row of this thread, lane / 4: bits 0 and 16; of the second, lane / 4 + 8: bits 8
  // and
  // 24. For samples 0 and 1, and for samples 2 and 3.
  __device__ void active(int block, uint32_t (&bits)[2]) const {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair)
      bits[pair] =
          (next_signs_[block][2 * pair] | next_signs_[block][2 * pair + 1] << 16) >> lane_ / 4 &
          0x01010101u;
  }
  // The left operand's registers with one output: ones where a neuron is active. The first row with
  // samples 0 and 1, the second with them; both with samples 2 and 3.
  __device__ void make_left(int block, uint32_t (&left)[4]) const {
    uint32_t bits[2];
    active(block, bits);
#pragma unroll
    for (int q = 0; q < 4; ++q) left[q] = (bits[q / 2] >> q % 2 * 8 & 0x00010001u) * 0x3f80u;
  }

  // sum_o df(i, o) w2(o, j) for this thread's samples and neurons; any number for those that are
  // not there.
  __device__ void products(int unit, float (&values)[4][2]) const {
    const float* df[4];
    const float* w2[2];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int64_t i = sample(unit, q);
      df[q] = df_ + (i < last_ ? i : 0) * p_.c;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int j = first_neuron_ + 8 * r + lane_ / 4;
      w2[r] = w2_ + (j < neurons_ ? j : 0);
#pragma unroll
      for (int q = 0; q < 4; ++q) values[q][r] = 0.0f;
    }
    for (int o = 0; o < static_cast<int>(p_.c); ++o)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float weight = __ldg(w2[r] + int64_t{o} * p_.m);
#pragma unroll
        for (int q = 0; q < 4; ++q) values[q][r] += __ldg(df[q] + o) * weight;
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
  const int lane_, pitch_, neurons_, first_;
  int last_, first_neuron_, first_column_, step_ = 0;
  const uint16_t* right_;
  const uint16_t* signs_;  // of this warp's neurons in block 0: a sample's every fourth number
  const float *df_, *w2_;
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
