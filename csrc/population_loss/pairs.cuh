// SPDX-License-Identifier: MIT
// A pair of tiles of neurons: its part of the population loss and of the gradient, by one block.
// evaluation-inl.h has the formulas. With unit vectors u_i, b_i = a_i |w1_i| and A_ij = b_i.b_j,
// what a neuron's gradient needs is
//   direction_i = sum_j A_ij (pi - t) u_j,  half_sine_i = sum_j A_ij sin t / 2,
//   shape_i = sum_j shape_ij b_j,
// and A_ij, t and shape_ij are symmetric: of a student's pairs (i, j) and (j, i) one is evaluated.
//
// A block has two warps for every 16 neurons of a tile. A pair of tiles, left and right, goes
// through three phases, with a barrier after each:
//   - all threads copy unit vectors to shared memory;
//   - warp 2 r + h owns neurons 16 r ... 16 r + 15 on the left with every other 8 on the right: u.v
//     by matrix instructions, in the order of dimensions; then lane 4 g + t owns rows g and g + 8,
//     columns 2 t and 2 t + 1. It adds to its part of the loss, writes A (pi - t) to shared memory,
//     and its sines are added by row and by column: over lanes in a tree, over warps in order;
//   - a warp adds to the directions of 16 neurons, of the left tile for the first warps and of the
//     right one for the others: sums over the other tile's neurons, in order, by matrix
//     instructions, onto what memory holds. Where the right tile has no gradient, two warps share
//     the dimensions.
// Of a tile with itself, blocks of 16 x 16 below the diagonal are not evaluated: those above it are
// read transposed; and a teacher of at most kFewNeurons is taken at the same time. Columns without
// neurons are left out in eights, and rows in sixteens. More than kDims dimensions are taken kDims
// at a time. Nothing of size (m, m) exists.
#pragma once

#include "population_loss/pair_products.cuh"

namespace lmc::population_loss {

template <int Tile>
class PairTile : PairProducts<Tile> {
 public:
  using Memory = PairMemory<Tile>;
  using Memory::kThreads;
  using Memory::shared_bytes;

  __device__ PairTile(unsigned char* shared, const PairNetworks& networks)
      : PairProducts<Tile>(shared) {
    if (threadIdx.x == 0) *this->networks_ = networks;
    __syncthreads();
  }

  __device__ double* scratch() const { return this->scratch_; }

  // This thread's part of the pair's share of the loss, without factor. The gradient is added to
  // sums of slot 0, and of right tiles of another slot written there.
  template <Wanted kWanted>
  __device__ double add(const TilePair& p) {
    const int d = this->student().d;
    double share = 0;
    for (int k = 0; k == 0 || k < d; k += Memory::kDims) {
      copy_tiles(p, k, !p.left_is_there || d > Memory::kDims);
      share = this->template evaluate<kWanted>(p, k);
      __syncthreads();
    }
    if (kWanted == kLoss || this->networks_->sums.direction == nullptr) return share;
    this->add_sines(p);
    if (kWanted == kGradients) this->add_shapes(p);
    for (int k = 0; k < d; k += Memory::kDims) {
      if (d > Memory::kDims) copy_tiles(p, k, p.relation != kTeacher);
      this->add_directions(p, k);
      __syncthreads();
    }
    return share;
  }

 private:
  __device__ void copy_tiles(const TilePair& p, int k, bool left) {
    if (left)
      this->template copy<16>(this->student(), p.first, k, this->left_, this->left_weights_);
    if (p.relation != kSame)
      this->template copy<16>(this->partners(p), p.start, k, this->right_, this->right_weights_);
    else if (this->few(p) > 0)
      this->template copy<kFewNeurons>(this->networks_->teacher, 0, k, this->right_,
                                       this->right_weights_);
    __syncthreads();
  }
};

inline constexpr int kSmallTile = 32, kLargeTile = 64;

// Blocks of an SM that registers are left for.
LMC_HOST_DEVICE constexpr int resident_blocks(int tile) {
  return !kTensorCores ? 1 : tile == kLargeTile ? 2 : 4;
}

// It follows from a student's width, and with it the order of sums; except on GPUs with less shared
// memory than any since 8.0, which take small tiles.
inline int tile_of(int64_t m, const Device& device) {
  constexpr auto kWanted = static_cast<int64_t>(PairTile<kLargeTile>::shared_bytes(kGradients));
  return m > 64 && kWanted <= device.shared_memory ? kLargeTile : kSmallTile;
}

inline int tiles_of(int64_t m, int tile) {
  return m == 0 ? 1 : static_cast<int>(blocks_of(m, tile));
}

// For the trainer: prepares a teacher v1 (M, d), which `teacher` knows, and v2 (c, M), and writes
// its tiles' shares of the loss. Defined in population_loss.cu.
const char* prepare_teacher(const Prepared& teacher, const double* v2, double* shares,
                            const Device& device, void* stream);

}  // namespace lmc::population_loss
