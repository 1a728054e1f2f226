// SPDX-License-Identifier: MIT
// What a block knows of the pair of tiles that it works on, and where in shared memory it lies.
#pragma once

#include "common/cuda/block_sums.cuh"
#include "population_loss/prepare.cuh"

namespace lmc::population_loss {

// What is computed: the loss; its gradient to w1 as well; to both layers.
enum Wanted { kLoss, kGradient1, kGradients };

// Whose neurons the right tile has: those of the left one, others of the student, the teacher's. A
// teacher of at most kFewNeurons comes along with kSame.
enum Relation { kSame, kOwn, kTeacher };
inline constexpr int kFewNeurons = 8;

// Sums of a student's neurons, see pairs.cuh. Behind those of one slot follow those of the next.
struct PairSums {
  double* direction;  // (m, pitch_of(d)); null: no gradient
  double* half_sine;  // (m)
  double* shape;      // (c, m)

  LMC_HOST_DEVICE PairSums of_slot(int64_t slot, int64_t m, int64_t d, int64_t c) const {
    return {direction + slot * m * pitch_of(d), half_sine + slot * m, shape + slot * c * m};
  }
};

// A block's networks. They lie in shared memory, because registers are short.
struct PairNetworks {
  Prepared student, teacher;  // without a teacher its m is 0
  PairSums sums;
};

struct TilePair {
  Relation relation;
  int first, start;    // neurons of the left and the right tile
  bool left_is_there;  // from the pair before
  int slot;            // of the right tile's sums, if kOwn; only those of slot 0 hold numbers
};

template <int Tile>
class PairMemory {
 public:
  static constexpr int kBlocks = Tile / 16, kThreads = 64 * kBlocks;
  // Pitches are 4 modulo 8, so that neither rows nor columns of an operand meet in a bank.
  static constexpr int kDims = 16, kUnitPitch = kDims + 4, kPitch = Tile + 4;
  static constexpr int kFewPitch = kFewNeurons + 4;
  static_assert(kFewNeurons * kUnitPitch + Tile * kFewPitch <= Tile * kUnitPitch, "few_turns");

  static constexpr size_t kNetworksBytes = (sizeof(PairNetworks) + 15) / 16 * 16;

  static LMC_HOST_DEVICE constexpr size_t shared_bytes(Wanted wanted) {
    return kNetworksBytes + (2 * Tile * (kUnitPitch + 1) + (kBlocks + 2) * Tile + 2 * kMostWarps +
                             (wanted == kGradients ? 2 * kPitch + kFewPitch : kPitch) * Tile) *
                                sizeof(double);
  }

  __device__ explicit PairMemory(unsigned char* shared)
      // From one lane, so that the compiler knows it to be the same for all lanes.
      : warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        g_(static_cast<int>(threadIdx.x) % 32 / 4),
        t_(static_cast<int>(threadIdx.x) % 4),
        networks_(reinterpret_cast<PairNetworks*>(shared)),
        left_(reinterpret_cast<double*>(shared + kNetworksBytes)),
        right_(left_ + Tile * kUnitPitch),
        left_weights_(right_ + Tile * kUnitPitch),
        right_weights_(left_weights_ + Tile),
        row_sums_(right_weights_ + Tile),
        column_sums_(row_sums_ + 2 * Tile),
        scratch_(column_sums_ + kBlocks * Tile),
        turns_(scratch_ + 2 * kMostWarps),
        shapes_(turns_ + Tile * kPitch),
        few_turns_(right_ + kFewNeurons * kUnitPitch),
        few_shapes_(shapes_ + Tile * kPitch) {}

 protected:
  __device__ const Prepared& student() const { return networks_->student; }
  __device__ const Prepared& partners(const TilePair& p) const {
    return p.relation == kTeacher ? networks_->teacher : networks_->student;
  }
  __device__ const double* right(const TilePair& p) const {
    return p.relation == kSame ? left_ : right_;
  }
  // Of the teacher's neurons that come along.
  __device__ int few(const TilePair& p) const {
    const int M = networks_->teacher.m;
    return p.relation == kSame && M <= kFewNeurons ? M : 0;
  }
  __device__ int rows(const TilePair& p) const { return count(student().m - p.first); }
  __device__ int columns(const TilePair& p) const { return count(partners(p).m - p.start); }

  // From neuron `first` on, the unit vectors' dimensions from k on and the first output's weights.
  // Zeros fill kDims and the last `Unit` neurons.
  template <int Unit>
  static __device__ void copy(const Prepared& net, int first, int k, double* tile,
                              double* weights) {
    constexpr int kStep = kThreads / kDims;
    const int d = net.d, neurons = count(net.m - first);
    const int filled = (neurons + Unit - 1) / Unit * Unit;
    const int thread = static_cast<int>(threadIdx.x), column = thread % kDims;
    if (thread < filled) weights[thread] = net.weight[first + thread];
    int row = thread / kDims;
    const bool real = k + column < d;
    const double* w = net.w1 + static_cast<int64_t>(first + row) * d + k + column;
    const double* inverse = net.inverse + first + row;
    double* to = tile + row * kUnitPitch + column;
#pragma unroll
    for (; row < Tile; row += kStep) {
      if (row >= filled) break;
      *to = real && row < neurons ? *w * *inverse : 0.0;
      w += kStep * d, inverse += kStep, to += kStep * kUnitPitch;
    }
  }

  const int warp_, g_, t_;  // lane = 4 g + t
  PairNetworks* networks_;
  double *left_, *right_;                  // (Tile, kUnitPitch): unit vectors of the tiles
  double *left_weights_, *right_weights_;  // (Tile): of the first output
  double* row_sums_;                       // (2, Tile): half sines of rows, by warps
  double* column_sums_;                    // (kBlocks, Tile): of columns, by rows in sixteens
  double* scratch_;                        // of block_sums
  double* turns_;                          // (Tile, kPitch): u.v, then A (pi - t)
  double* shapes_;                         // (Tile, kPitch)
  // The same with a teacher's few neurons, (Tile, kFewPitch); the turns, behind their unit vectors.
  double *few_turns_, *few_shapes_;

 private:
  static __device__ int count(int neurons) { return neurons < Tile ? neurons : Tile; }
};

}  // namespace lmc::population_loss
