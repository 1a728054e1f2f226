// SPDX-License-Identifier: MIT
// The third phase of a pair of tiles (pairs.cuh): what is added to the sums of their neurons.
#pragma once

#include "population_loss/pair_arcs.cuh"

namespace lmc::population_loss {

template <int Tile>
class PairProducts : protected PairArcs<Tile> {
 protected:
  using Memory = PairMemory<Tile>;
  using Memory::kBlocks;
  using Memory::kFewPitch;
  using Memory::kPitch;
  using Memory::kUnitPitch;
  using PairArcs<Tile>::PairArcs;

  // Thread i < Tile owns neuron i of both tiles.
  __device__ void add_sines(const TilePair& p) const {
    const int i = static_cast<int>(threadIdx.x), rows = this->rows(p);
    if (i < rows) {
      double sum = row_sums_[i] + row_sums_[Tile + i];
      if (p.relation == kSame) sum += sum_of_columns(i, i / 16);
      this->networks_->sums.half_sine[p.first + i] += sum;
    }
    if (p.relation == kOwn && i < this->columns(p)) {
      const double sum = sum_of_columns(i, (rows + 15) / 16);
      double* const to = sums(p, true).half_sine + p.start + i;
      *to = p.slot > 0 ? sum : *to + sum;
    }
  }

  // Dimensions from k on, of those that lie in shared memory.
  __device__ void add_directions(const TilePair& p, int k) const {
    if (p.relation == kOwn)
      add_eights<2>(p, k, 0);
    else
      add_eights<1>(p, k, second_half());
  }

  // As the directions, with outputs for dimensions; two warps with the same neurons take every
  // other eight of them.
  __device__ void add_shapes(const TilePair& p) const {
    const Part part = this->part(p);
    if (part.i - g_ >= part.neurons) return;
    double* const to = sums(p, part.mirrored).shape;
    const Prepared& others = part.mirrored ? this->student() : this->partners(p);
    const int c = others.c, m = this->student().m, rows = others.rows;
    const double* const weight = others.weight + (part.mirrored ? p.first : p.start);
    const int step = p.relation == kOwn ? 8 : 16;
#pragma unroll 1
    for (int o = p.relation == kOwn ? 0 : 8 * second_half(); o < c; o += step) {
      double* const out = to + static_cast<int64_t>(o + 2 * t_) * m + part.neuron;
      const auto there = [&](int e) {
        return part.i + e / 2 * 8 < part.neurons && o + 2 * t_ + e % 2 < c;
      };
      double sum[1][4] = {};
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (there(e) && !part.empty) sum[0][e] = out[e % 2 * m + e / 2 * 8];
      const double* const column = weight + static_cast<int64_t>(o + g_) * rows + t_;
      const bool real = o + g_ < c;
      multiply<1>(p, part, shapes_, [&](int j, int) { return real ? column[j] : 0.0; }, sum);
      if (this->few(p) > 0) {
        const Prepared& teacher = this->networks_->teacher;
        const double* const few = teacher.weight + static_cast<int64_t>(o + g_) * teacher.rows + t_;
        multiply_few<1>(part, few_shapes_, [&](int j, int) { return real ? few[j] : 0.0; }, sum);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (there(e)) out[e % 2 * m + e / 2 * 8] = sum[0][e];
    }
  }

  using Memory::column_sums_;
  using Memory::few_shapes_;
  using Memory::few_turns_;
  using Memory::g_;
  using Memory::left_;
  using Memory::right_;
  using Memory::row_sums_;
  using Memory::shapes_;
  using Memory::t_;
  using Memory::turns_;
  using Memory::warp_;

 private:
  __device__ int second_half() const { return warp_ / kBlocks; }

  __device__ double sum_of_columns(int i, int blocks) const {
    double sum = 0;
#pragma unroll
    for (int r = 0; r < kBlocks; ++r)
      if (r < blocks) sum += column_sums_[r * Tile + i];
    return sum;
  }

  __device__ PairSums sums(const TilePair& p, bool mirrored) const {
    const Prepared& student = this->student();
    return this->networks_->sums.of_slot(mirrored ? p.slot : 0, student.m, student.d, student.c);
  }

  // What a warp adds to: 16 neurons of one tile, over those of the other.
  struct Part {
    bool mirrored;        // the neurons are the right tile's
    bool empty;           // their sums hold nothing yet: they are written, not added to
    int i;                // a lane's first neuron; the second one is 8 further
    int neuron;           // its number in the network
    int neurons, others;  // of the two tiles
  };
  __device__ Part part(const TilePair& p) const {
    const bool mirrored = p.relation == kOwn && second_half() == 1;
    const int i = warp_ % kBlocks * 16 + g_, rows = this->rows(p), columns = this->columns(p);
    return {mirrored,
            mirrored && p.slot > 0,
            i,
            i + (mirrored ? p.start : p.first),
            mirrored ? columns : rows,
            mirrored ? rows : columns};
  }

  // For N eights of dimensions, from the n-th of those that lie in shared memory on.
  template <int N>
  __device__ void add_eights(const TilePair& p, int k, int n) const {
    const int d = this->student().d, pitch = pitch_of(d), column = k + 8 * n + 2 * t_;
    const Part part = this->part(p);
    if (k + 8 * n >= d || part.i - g_ >= part.neurons) return;
    double* const out =
        sums(p, part.mirrored).direction + static_cast<int64_t>(part.neuron) * pitch + column;
    double2* const rows[2] = {reinterpret_cast<double2*>(out),
                              reinterpret_cast<double2*>(out + 8 * pitch)};
    double sum[N][4] = {};
#pragma unroll
    for (int e = 0; e < 2 * N; ++e) {
      const bool there = part.i + e % 2 * 8 < part.neurons && column + e / 2 * 8 < pitch;
      if (there && !part.empty) {
        const double2 two = rows[e % 2][e / 2 * 4];
        sum[e / 2][e % 2 * 2] = two.x, sum[e / 2][e % 2 * 2 + 1] = two.y;
      }
    }
    const int at = t_ * kUnitPitch + 8 * n + g_;
    const double* const unit = (part.mirrored ? left_ : this->right(p)) + at;
    multiply<N>(p, part, turns_, [&](int j, int e) { return unit[j * kUnitPitch + 8 * e]; }, sum);
    if (this->few(p) > 0) {
      const double* const teacher = right_ + at;
      multiply_few<N>(
          part, few_turns_, [&](int j, int e) { return teacher[j * kUnitPitch + 8 * e]; }, sum);
    }
#pragma unroll
    for (int e = 0; e < 2 * N; ++e) {
      const bool there = part.i + e % 2 * 8 < part.neurons && column + e / 2 * 8 < pitch;
      if (there) rows[e % 2][e / 2 * 4] = {sum[e / 2][e % 2 * 2], sum[e / 2][e % 2 * 2 + 1]};
    }
  }

  // sum[n](i, k) += sum over the others j of matrix(i, j) right(j, 8 n + k). Of j + t, column g,
  // right(j, n) gives the numbers.
  template <int N, class Right>
  __device__ void multiply(const TilePair& p, const Part& part, const double* matrix,
                           const Right& right, double (&sum)[N][4]) const {
    // Blocks below the diagonal are read as those above it, transposed.
    const int above = part.mirrored ? part.others : p.relation == kSame ? part.i - g_ : 0;
    const double* left = matrix + t_ * kPitch + part.i;
    int j = 0;
#pragma unroll 1
    for (; j < above; j += 16, left += 16 * kPitch)
      multiply_fours<4, 4 * kPitch, 8>(left, j, right, sum);
    left = matrix + part.i * kPitch + j + t_;
#pragma unroll 1
    for (; j < part.others; j += 16, left += 16)
      multiply_fours<4, 4, 8 * kPitch>(left, j, right, sum);
  }
  // The same of the teacher's few.
  template <int N, class Right>
  __device__ void multiply_few(const Part& part, const double* matrix, const Right& right,
                               double (&sum)[N][4]) const {
    multiply_fours<kFewNeurons / 4, 4, 8 * kFewPitch>(matrix + part.i * kFewPitch + t_, 0, right,
                                                      sum);
  }

  // So many fours of others, from j on. `left` is at row i and column j + t; four columns and eight
  // rows further it is by so much.
  template <int Fours, int Step, int Below, int N, class Right>
  static __device__ void multiply_fours(const double* left, int j, const Right& right,
                                        double (&sum)[N][4]) {
#pragma unroll
    for (int q = 0; q < Fours; ++q)
#pragma unroll
      for (int n = 0; n < N; ++n)
        multiply_add(sum[n], left[q * Step], left[q * Step + Below], right(j + 4 * q, n));
  }
};

}  // namespace lmc::population_loss
