// SPDX-License-Identifier: MIT
// A pair of tiles of neurons: its part of the population loss and of the gradient, by one block.
// neuron_block-inl.h has the formulas. With unit vectors u_i, b_i = a_i |w1_i| and A_ij = b_i.b_j,
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
// Of a tile with itself, blocks of 16 x 16 below the diagonal are not evaluated: their transposed
// ones are read. Columns without neurons are left out in eights, and rows in sixteens. More than
// kDims dimensions are taken kDims at a time. Nothing of size (m, m) exists.
#pragma once

#include "common/cuda/block_sums.cuh"
#include "population_loss/arc.cuh"
#include "population_loss/prepare.cuh"

namespace lmc::population_loss {

// What is computed: the loss; its gradient to w1 as well; to both layers.
enum Wanted { kLoss, kGradient1, kGradients };

// Whose neurons the right tile has: those of the left one, others of the student, the teacher's.
enum Relation { kSame, kOwn, kTeacher };

// Sums of a network's neurons.
struct PairSums {
  double* direction;  // (m, pitch_of(d)); null: no gradient
  double* half_sine;  // (m)
  double* shape;      // (c, m)
  bool empty;         // nothing yet: they are written, not added to
};

struct TilePair {
  Prepared left, right;  // networks
  int first, start;      // neurons
  Relation relation;
  bool left_is_there;   // in shared memory, from the pair before
  PairSums to, mirror;  // of the left tile's network, and of the right one's if it is kOwn

  __device__ int rows(int tile) const { return left.m - first < tile ? left.m - first : tile; }
  __device__ int columns(int tile) const { return right.m - start < tile ? right.m - start : tile; }
};

template <int Tile>
class PairTile {
 public:
  static constexpr int kBlocks = Tile / 16, kThreads = 64 * kBlocks;
  // Pitches are 4 modulo 8, so that neither rows nor columns of an operand meet in a bank.
  static constexpr int kDims = 16, kUnitPitch = kDims + 4, kPitch = Tile + 4;

  static LMC_HOST_DEVICE constexpr size_t shared_bytes(Wanted wanted) {
    return (2 * Tile * kUnitPitch + (kBlocks + 2) * Tile + 2 * kMostWarps +
            (wanted == kGradients ? 2 : 1) * Tile * kPitch) *
           sizeof(double);
  }

  __device__ explicit PairTile(unsigned char* shared)
      // From one lane, so that the compiler knows it to be the same for all lanes.
      : warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        g_(static_cast<int>(threadIdx.x) % 32 / 4),
        t_(static_cast<int>(threadIdx.x) % 4),
        left_(reinterpret_cast<double*>(shared)),
        right_(left_ + Tile * kUnitPitch),
        row_sums_(right_ + Tile * kUnitPitch),
        column_sums_(row_sums_ + 2 * Tile),
        scratch_(column_sums_ + kBlocks * Tile),
        turns_(scratch_ + 2 * kMostWarps),
        shapes_(turns_ + Tile * kPitch) {}

  __device__ double* scratch() const { return scratch_; }

  // This thread's part of the pair's share of the loss, without factor.
  template <Wanted kWanted>
  __device__ double add(const TilePair& p) {
    const int d = p.left.d;
    double share = 0;
    for (int k = 0; k == 0 || k < d; k += kDims) {
      if (!p.left_is_there || d > kDims) copy(p.left, p.first, p.rows(Tile), k, left_);
      if (p.relation != kSame) copy(p.right, p.start, p.columns(Tile), k, right_);
      __syncthreads();
      share = evaluate<kWanted>(p, k);
      __syncthreads();
    }
    if (kWanted == kLoss || p.to.direction == nullptr) return share;
    add_sines(p);
    if (kWanted == kGradients) add_shapes(p);
    for (int k = 0; k < d; k += kDims) {
      if (d > kDims) {
        if (p.relation != kTeacher) copy(p.left, p.first, p.rows(Tile), k, left_);
        if (p.relation != kSame) copy(p.right, p.start, p.columns(Tile), k, right_);
        __syncthreads();
      }
      if (p.relation == kOwn)
        add_directions<2>(p, k, 0);
      else
        add_directions<1>(p, k, second_half());
      __syncthreads();
    }
    return share;
  }

 private:
  __device__ int second_half() const { return warp_ / kBlocks; }

  __device__ const double* right(const TilePair& p) const {
    return p.relation == kSame ? left_ : right_;
  }

  // Dimensions from k on of the unit vectors of `count` neurons; zeros fill the last 16, and kDims.
  static __device__ void copy(const Prepared& net, int first, int count, int k, double* tile) {
    const int column = static_cast<int>(threadIdx.x) % kDims;
    const bool real = k + column < net.d;
    for (int row = static_cast<int>(threadIdx.x) / kDims; row < (count + 15) / 16 * 16;
         row += kThreads / kDims) {
      const int64_t i = first + row;
      tile[row * kUnitPitch + column] =
          real && row < count ? net.w1[i * net.d + k + column] * net.inverse[i] : 0.0;
    }
  }

  // The products u.v over kDims dimensions from k on, and once they are complete all that follows
  // from them.
  template <Wanted kWanted>
  __device__ double evaluate(const TilePair& p, int k) {
    const int r = warp_ / 2, columns = p.columns(Tile), dims = p.left.d - k;
    if (16 * r >= p.rows(Tile)) return 0;
    const double* const u = left_ + (16 * r + g_) * kUnitPitch + t_;
    double a[kDims / 4][2];
#pragma unroll
    for (int q = 0; q < kDims / 4; ++q) {
      a[q][0] = u[4 * q];
      a[q][1] = u[8 * kUnitPitch + 4 * q];
    }
    const double* const own = p.left.weight + p.first + 16 * r + g_;
    const double own_weights[2] = {own[0], own[8]};
    double share = 0, sine[2] = {};
    const int begin = p.relation == kSame ? r : 0;
    int column = 16 * begin + warp_ % 2 * 8;
    double* turns = turns_ + (16 * r + g_) * kPitch + column + 2 * t_;
    const double* v = right(p) + (column + g_) * kUnitPitch + t_;
    const double* weight = p.right.weight + p.start + column + 2 * t_;
#pragma unroll 1
    for (int block = begin; block < kBlocks && column < columns; ++block) {
      double cosine[4] = {};
      if (k > 0) load(turns, cosine);
#pragma unroll
      for (int q = 0; q < kDims / 4; ++q)
        if (4 * q < dims) multiply_add(cosine, a[q][0], a[q][1], v[4 * q]);
      if (dims > kDims) {
        store(turns, cosine);
      } else {
        double A[4];
        weights(p, own_weights, own, weight, A);
        double h[4];
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          h[i] = fma(-0.5, fabs(cosine[i]), 0.5);
          const uint32_t word = upper_word(cosine[i]);
          largest = word > largest ? word : largest;
        }
        if (largest > kNearlyOpposite) sum_opposite(p, r, column, cosine, h);
        const Arcs<4> arcs = arcs_of(cosine, h);
        const bool on_diagonal = p.relation == kSame && block == r;
        share = fma(on_diagonal ? 0.5 : 1.0, dot(A, arcs.shape), share);
        if constexpr (kWanted != kLoss) {
          if (kWanted == kGradients) store(turns + (shapes_ - turns_), arcs.shape);
          double turned[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) turned[i] = A[i] * arcs.turn[i];
          store(turns, turned);
#pragma unroll
          for (int i = 0; i < 4; ++i) sine[i / 2] = fma(A[i], arcs.half_sine[i], sine[i / 2]);
          if (p.relation != kTeacher && !on_diagonal) {
            // Over the warp's 16 rows: a lane's two columns become one, of 8 lanes together.
            const double low = fma(A[0], arcs.half_sine[0], A[2] * arcs.half_sine[2]);
            const double high = fma(A[1], arcs.half_sine[1], A[3] * arcs.half_sine[3]);
            const bool upper = g_ >= 4;
            double sines = (upper ? high : low) + __shfl_xor_sync(~0u, upper ? low : high, 16);
            sines += __shfl_xor_sync(~0u, sines, 8);
            sines += __shfl_xor_sync(~0u, sines, 4);
            if (g_ % 4 == 0) column_sums_[r * Tile + column + 2 * t_ + g_ / 4] = sines;
          }
        }
      }
      column += 16, turns += 16, v += 16 * kUnitPitch, weight += 16;
    }
    if (kWanted != kLoss && dims <= kDims) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sine[i] += __shfl_xor_sync(~0u, sine[i], 1);
        sine[i] += __shfl_xor_sync(~0u, sine[i], 2);
        if (t_ == 0) row_sums_[warp_ % 2 * Tile + 16 * r + g_ + 8 * i] = sine[i];
      }
    }
    return share;
  }

  // A lane's four numbers of a matrix, from its upper left one: as multiply_add has them.
  static __device__ void load(const double* from, double (&values)[4]) {
    const double2 upper = *reinterpret_cast<const double2*>(from);
    const double2 lower = *reinterpret_cast<const double2*>(from + 8 * kPitch);
    values[0] = upper.x, values[1] = upper.y, values[2] = lower.x, values[3] = lower.y;
  }
  static __device__ void store(double* to, const double (&values)[4]) {
    *reinterpret_cast<double2*>(to) = {values[0], values[1]};
    *reinterpret_cast<double2*>(to + 8 * kPitch) = {values[2], values[3]};
  }
  static __device__ double dot(const double (&a)[4], const double (&b)[4]) {
    return fma(a[0], b[0], a[1] * b[1]) + fma(a[2], b[2], a[3] * b[3]);
  }

  // A_ij of a lane's four pairs. `first` are its rows' weights of the first output, which are at
  // `left`; those of its columns are at `right`.
  static __device__ void weights(const TilePair& p, const double (&first)[2], const double* left,
                                 const double* right, double (&A)[4]) {
    const double2 b = *reinterpret_cast<const double2*>(right);
    A[0] = first[0] * b.x, A[1] = first[0] * b.y, A[2] = first[1] * b.x, A[3] = first[1] * b.y;
#pragma unroll 1
    for (int o = 1; o < p.left.c; ++o) {
      left += p.left.rows, right += p.right.rows;
      const double2 more = *reinterpret_cast<const double2*>(right);
      A[0] = fma(left[0], more.x, A[0]);
      A[1] = fma(left[0], more.y, A[1]);
      A[2] = fma(left[8], more.x, A[2]);
      A[3] = fma(left[8], more.y, A[3]);
    }
  }

  // h = |u + v|^2 / 4 for those of a lane's four pairs that are nearly opposite.
  __device__ void sum_opposite(const TilePair& p, int r, int column, const double (&cosine)[4],
                               double (&h)[4]) const {
    const double *u[2], *v[2];
    double inverse_u[2], inverse_v[2], q[4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int64_t row = p.first + 16 * r + g_ + 8 * i, other = p.start + column + 2 * t_ + i;
      row = row < p.left.m ? row : p.left.m - 1;  // the lane has pairs of no neurons, too
      other = other < p.right.m ? other : p.right.m - 1;
      u[i] = p.left.w1 + row * p.left.d, inverse_u[i] = p.left.inverse[row];
      v[i] = p.right.w1 + other * p.left.d, inverse_v[i] = p.right.inverse[other];
    }
#pragma unroll 1
    for (int k = 0; k < p.left.d; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const double sum = u[i / 2][k] * inverse_u[i / 2] + v[i % 2][k] * inverse_v[i % 2];
        q[i] += sum * sum;
      }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (upper_word(cosine[i]) > kNearlyOpposite) h[i] = 0.25 * q[i];
  }

  // Thread i < Tile owns neuron i of both tiles.
  __device__ void add_sines(const TilePair& p) {
    const int i = static_cast<int>(threadIdx.x), rows = p.rows(Tile);
    if (i < rows) {
      double sum = row_sums_[i] + row_sums_[Tile + i];
      if (p.relation == kSame)
        for (int r = 0; r < i / 16; ++r) sum += column_sums_[r * Tile + i];
      double* const to = p.to.half_sine + p.first + i;
      *to = p.to.empty ? sum : *to + sum;
    }
    if (p.relation == kOwn && i < p.columns(Tile)) {
      double sum = 0;
      for (int r = 0; 16 * r < rows; ++r) sum += column_sums_[r * Tile + i];
      double* const to = p.mirror.half_sine + p.start + i;
      *to = p.mirror.empty ? sum : *to + sum;
    }
  }

  // What a warp adds to: 16 neurons of one tile, over those of the other.
  struct Part {
    bool mirrored;        // the neurons are the right tile's
    int i;                // a lane's first neuron; the second one is 8 further
    int neuron;           // its number in the network
    int neurons, others;  // of the two tiles
  };
  __device__ Part part(const TilePair& p) const {
    const bool mirrored = p.relation == kOwn && second_half() == 1;
    const int i = warp_ % kBlocks * 16 + g_, rows = p.rows(Tile), columns = p.columns(Tile);
    return {mirrored, i, i + (mirrored ? p.start : p.first), mirrored ? columns : rows,
            mirrored ? rows : columns};
  }

  // sum[n](i, k) += sum over the others j of matrix(i, j) right(j, 8 n + k), of which right(j, n)
  // gives the numbers of column g.
  template <int N, class Right>
  __device__ void multiply(const TilePair& p, const Part& part, const double* matrix,
                           const Right& right, double (&sum)[N][4]) const {
    const int block = warp_ % kBlocks;
#pragma unroll 1
    for (int j = 0; j < part.others; j += 16) {
      const bool transposed = part.mirrored || (p.relation == kSame && j < 16 * block);
      const double* left =
          matrix + (transposed ? (j + t_) * kPitch + part.i : part.i * kPitch + j + t_);
      const int step = transposed ? 4 * kPitch : 4, below = transposed ? 8 : 8 * kPitch;
#pragma unroll
      for (int q = 0; q < 4; ++q, left += step)
        if (j + 4 * q < part.others) {
          const double a0 = left[0], a1 = left[below];
#pragma unroll
          for (int n = 0; n < N; ++n) multiply_add(sum[n], a0, a1, right(j + 4 * q + t_, n));
        }
    }
  }

  // For N eights of dimensions, from the n-th of those that lie in shared memory on.
  template <int N>
  __device__ void add_directions(const TilePair& p, int k, int n) const {
    if (k + 8 * n >= p.left.d) return;
    const Part part = this->part(p);
    if (part.i - g_ >= part.neurons) return;
    const int pitch = pitch_of(p.left.d), column = k + 8 * n + 2 * t_;
    double* const to = part.mirrored ? p.mirror.direction : p.to.direction;
    const bool empty = part.mirrored ? p.mirror.empty : p.to.empty;
    double* const out = to + static_cast<int64_t>(part.neuron) * pitch + column;
    double2* const rows[2] = {reinterpret_cast<double2*>(out),
                              reinterpret_cast<double2*>(out + 8 * pitch)};
    double sum[N][4] = {};
#pragma unroll
    for (int e = 0; e < 2 * N; ++e) {
      const bool there = part.i + e % 2 * 8 < part.neurons && column + e / 2 * 8 < pitch;
      if (there && !empty) {
        const double2 two = rows[e % 2][e / 2 * 4];
        sum[e / 2][e % 2 * 2] = two.x, sum[e / 2][e % 2 * 2 + 1] = two.y;
      }
    }
    const double* const unit = (part.mirrored ? left_ : right(p)) + 8 * n + g_;
    multiply<N>(p, part, turns_, [&](int j, int e) { return unit[j * kUnitPitch + 8 * e]; }, sum);
#pragma unroll
    for (int e = 0; e < 2 * N; ++e) {
      const bool there = part.i + e % 2 * 8 < part.neurons && column + e / 2 * 8 < pitch;
      if (there) rows[e % 2][e / 2 * 4] = {sum[e / 2][e % 2 * 2], sum[e / 2][e % 2 * 2 + 1]};
    }
  }

  // As the directions, with outputs for dimensions; two warps with the same neurons take every
  // other eight of them.
  __device__ void add_shapes(const TilePair& p) const {
    const Part part = this->part(p);
    if (part.i - g_ >= part.neurons) return;
    const bool empty = part.mirrored ? p.mirror.empty : p.to.empty;
    double* const to = part.mirrored ? p.mirror.shape : p.to.shape;
    const int c = p.left.c, m = p.left.m, rows = part.mirrored ? p.left.rows : p.right.rows;
    const double* const weight = part.mirrored ? p.left.weight + p.first : p.right.weight + p.start;
    const bool both = p.relation != kOwn;
#pragma unroll 1
    for (int o = both ? 8 * second_half() : 0; o < c; o += both ? 16 : 8) {
      double* const out = to + static_cast<int64_t>(o + 2 * t_) * m + part.neuron;
      const auto there = [&](int e) {
        return part.i + e / 2 * 8 < part.neurons && o + 2 * t_ + e % 2 < c;
      };
      double sum[1][4] = {};
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (there(e) && !empty) sum[0][e] = out[e % 2 * m + e / 2 * 8];
      const double* const column = weight + static_cast<int64_t>(o + g_) * rows;
      multiply<1>(p, part, shapes_, [&](int j, int) { return o + g_ < c ? column[j] : 0.0; }, sum);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (there(e)) out[e % 2 * m + e / 2 * 8] = sum[0][e];
    }
  }

  const int warp_, g_, t_;
  double *left_, *right_;  // (Tile, kUnitPitch): unit vectors of the tiles
  double* row_sums_;       // (2, Tile): half sines, by the warps of a row
  double* column_sums_;    // (kBlocks, Tile): the same, by rows in sixteens
  double* scratch_;        // of block_sums
  double* turns_;          // (Tile, kPitch): u.v, then A (pi - t)
  double* shapes_;         // (Tile, kPitch)
};

inline constexpr int kSmallTile = 32, kLargeTile = 64;

// It follows from a student's width, and with it the order of sums; except on GPUs with less shared
// memory than any since 8.0, which take small tiles.
inline int tile_of(int64_t m, const Device& device) {
  constexpr auto kWanted = static_cast<int64_t>(PairTile<kLargeTile>::shared_bytes(kGradients));
  return m > 96 && kWanted <= device.shared_memory ? kLargeTile : kSmallTile;
}

inline int tiles_of(int64_t m, const Device& device) {
  return static_cast<int>(blocks_of(m, tile_of(m, device)));
}

// For the trainer: prepares a teacher v1 (M, d), which `teacher` knows, and v2 (c, M), and writes
// its tiles' shares of the loss. Defined in population_loss.cu.
const char* prepare_teacher(const Prepared& teacher, const double* v2, double* shares,
                            const Device& device, void* stream);

}  // namespace lmc::population_loss
