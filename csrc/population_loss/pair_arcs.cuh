// SPDX-License-Identifier: MIT
// The second phase of a pair of tiles (pairs.cuh): scalar products, and what follows from them.
#pragma once

#include "population_loss/arc.cuh"
#include "population_loss/pair_memory.cuh"

namespace lmc::population_loss {

template <int Tile>
class PairArcs : protected PairMemory<Tile> {
 protected:
  using Memory = PairMemory<Tile>;
  using Memory::kBlocks;
  using Memory::kDims;
  using Memory::kFewPitch;
  using Memory::kPitch;
  using Memory::kUnitPitch;
  using Memory::Memory;

  // The products u.v over kDims dimensions from k on, and once they are complete all that follows
  // from them. Returns this thread's part of the loss.
  template <Wanted kWanted>
  __device__ double evaluate(const TilePair& p, int k) {
    const Prepared& student = this->student();
    const int r = warp_ / 2, row = 16 * r + g_, columns = this->columns(p), dims = student.d - k;
    if (16 * r >= this->rows(p)) return 0;
    const double* const own = left_weights_ + row;
    double share = 0, sine[2] = {};
    const int begin = p.relation == kSame ? r : 0, end = (columns + 15) / 16;
    const int all = this->few(p) > 0 && warp_ % 2 == 0 ? end + 1 : end;
    int column = 16 * begin + warp_ % 2 * 8, below = 8 * kPitch;
    double* turns = turns_ + row * kPitch + column + 2 * t_;
    const double* const u = left_ + row * kUnitPitch + t_;
    const double* v = this->right(p) + (column + g_) * kUnitPitch + t_;
    const double* weight = (p.relation == kSame ? left_weights_ : right_weights_) + column + 2 * t_;
#pragma unroll 1
    for (int block = begin; block < all; ++block) {
      double cosine[4] = {};
      const bool along = block == end;  // the teacher's few
      if (along) {
        column = 0, below = 8 * kFewPitch;
        turns = few_turns_ + row * kFewPitch + 2 * t_;
        v = right_ + g_ * kUnitPitch + t_;
        weight = right_weights_ + 2 * t_;
      } else if (column >= columns) {  // the last eight of sixteen, without neurons
        store(turns, below, cosine);
        if (kWanted == kGradients) store(turns + (shapes_ - turns_), below, cosine);
        continue;
      }
      const bool of_teacher = along || p.relation == kTeacher;
      const int other = (along ? 0 : p.start + column) + 2 * t_;
      if (k > 0) load(turns, below, cosine);
#pragma unroll
      for (int q = 0; q < kDims / 4; ++q)
        if (4 * q < dims) multiply_add(cosine, u[4 * q], u[8 * kUnitPitch + 4 * q], v[4 * q]);
      if (dims > kDims) {
        store(turns, below, cosine);
      } else {
        const double2 b = *reinterpret_cast<const double2*>(weight);
        double h[4];
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          h[i] = fma(-0.5, fabs(cosine[i]), 0.5);
          const uint32_t word = upper_word(cosine[i]);
          largest = word > largest ? word : largest;
        }
        if (largest > kNearlyOpposite) sum_opposite(p.first + row, of_teacher, other, cosine, h);
        double A[4] = {own[0] * b.x, own[0] * b.y, own[8] * b.x, own[8] * b.y};
        if (student.c > 1) add_outputs(p.first + row, of_teacher, other, A);
        const bool on_diagonal = p.relation == kSame && block == r;
        double sum = 0, columns[2] = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const double two[2] = {cosine[2 * i], cosine[2 * i + 1]};
          const double h_two[2] = {h[2 * i], h[2 * i + 1]};
          const Arcs<2> arcs = arcs_of(two, h_two);
          sum = fma(A[2 * i], arcs.shape[0], sum);
          sum = fma(A[2 * i + 1], arcs.shape[1], sum);
          if constexpr (kWanted != kLoss) {
            double* const at = turns + i * below;
            if (kWanted == kGradients)
              *reinterpret_cast<double2*>(along ? at + (few_shapes_ - few_turns_)
                                                : at + (shapes_ - turns_)) = {arcs.shape[0],
                                                                              arcs.shape[1]};
            *reinterpret_cast<double2*>(at) = {A[2 * i] * arcs.turn[0],
                                               A[2 * i + 1] * arcs.turn[1]};
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const double part = A[2 * i + e] * arcs.half_sine[e];
              sine[i] += part;
              columns[e] += part;
            }
          }
        }
        share = fma(on_diagonal ? 0.5 : 1.0, sum, share);
        if (kWanted != kLoss && !of_teacher && !on_diagonal) add_columns(columns, r, column);
      }
      column += 16, turns += 16, v += 16 * kUnitPitch, weight += 16;
    }
    if (kWanted != kLoss && dims <= kDims) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sine[i] += __shfl_xor_sync(~0u, sine[i], 1);
        sine[i] += __shfl_xor_sync(~0u, sine[i], 2);
        if (t_ == 0) row_sums_[warp_ % 2 * Tile + row + 8 * i] = sine[i];
      }
    }
    return share;
  }

  using Memory::column_sums_;
  using Memory::few_shapes_;
  using Memory::few_turns_;
  using Memory::g_;
  using Memory::left_;
  using Memory::left_weights_;
  using Memory::right_;
  using Memory::right_weights_;
  using Memory::row_sums_;
  using Memory::shapes_;
  using Memory::t_;
  using Memory::turns_;
  using Memory::warp_;

 private:
  // A lane's four numbers of a matrix, from its upper left one and so much further: as multiply_add
  // has them.
  static __device__ void load(const double* from, int below, double (&values)[4]) {
    const double2 upper = *reinterpret_cast<const double2*>(from);
    const double2 lower = *reinterpret_cast<const double2*>(from + below);
    values[0] = upper.x, values[1] = upper.y, values[2] = lower.x, values[3] = lower.y;
  }
  static __device__ void store(double* to, int below, const double (&values)[4]) {
    *reinterpret_cast<double2*>(to) = {values[0], values[1]};
    *reinterpret_cast<double2*>(to + below) = {values[2], values[3]};
  }

  // Adds to A_ij of a lane's four pairs, of neurons `row` and `other` and those beside them, all
  // outputs but the first one.
  __device__ void add_outputs(int row, bool of_teacher, int other, double (&A)[4]) const {
    const Prepared& student = this->student();
    const Prepared& partners = of_teacher ? this->networks_->teacher : student;
    const double *left = student.weight + row, *right = partners.weight + other;
#pragma unroll 1
    for (int o = 1; o < student.c; ++o) {
      left += student.rows, right += partners.rows;
      const double2 b = *reinterpret_cast<const double2*>(right);
      A[0] = fma(left[0], b.x, A[0]);
      A[1] = fma(left[0], b.y, A[1]);
      A[2] = fma(left[8], b.x, A[2]);
      A[3] = fma(left[8], b.y, A[3]);
    }
  }

  // The warp's 16 rows of A sin t / 2, of which a lane has two columns' parts: they become one
  // column's, of 8 lanes together.
  __device__ void add_columns(const double (&parts)[2], int r, int column) {
    const bool upper = g_ >= 4;
    double sum =
        (upper ? parts[1] : parts[0]) + __shfl_xor_sync(~0u, upper ? parts[0] : parts[1], 16);
    sum += __shfl_xor_sync(~0u, sum, 8);
    sum += __shfl_xor_sync(~0u, sum, 4);
    if (g_ % 4 == 0) column_sums_[r * Tile + column + 2 * t_ + g_ / 4] = sum;
  }

  // h = |u + v|^2 / 4 for those of a lane's four pairs that are nearly opposite.
  __device__ void sum_opposite(int row, bool of_teacher, int other, const double (&cosine)[4],
                               double (&h)[4]) const {
    const Prepared& student = this->student();
    const Prepared& partners = of_teacher ? this->networks_->teacher : student;
    const double *u[2], *v[2];
    double inverse_u[2], inverse_v[2], q[4] = {};
    const int d = student.d;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int64_t left = row + 8 * i, right = other + i;
      left = left < student.m ? left : student.m - 1;  // the lane has pairs of no neurons, too
      right = right < partners.m ? right : partners.m - 1;
      u[i] = student.w1 + left * d, inverse_u[i] = student.inverse[left];
      v[i] = partners.w1 + right * d, inverse_v[i] = partners.inverse[right];
    }
#pragma unroll 1
    for (int k = 0; k < d; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const double sum = u[i / 2][k] * inverse_u[i / 2] + v[i % 2][k] * inverse_v[i % 2];
        q[i] += sum * sum;
      }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (upper_word(cosine[i]) > kNearlyOpposite) h[i] = 0.25 * q[i];
  }
};

}  // namespace lmc::population_loss
