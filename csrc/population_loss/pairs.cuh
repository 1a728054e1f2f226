// SPDX-License-Identifier: MIT
// A tile of one student's neurons: its share of the population loss, and its rows of the gradient,
// by one block. neuron_block-inl.h has the formulas.
//
// The block walks its partners j, first the student's neurons, then the teacher's, in tiles of
// kTile, in order. Thread (ty, tx) owns the pairs of neurons ty + kSide r with partners tx + kSide
// c of the tile, r, c < 4: it sums their squared distances over the input dimensions and adds their
// weighted shapes and sines to sums of its four neurons, which at the end are added over tx in a
// tree. The weights of directions, w (pi - t), pass through shared memory, from where a thread
// takes four neurons and one dimension: its sums over the tile's partners, in order, are added to
// the gradient in memory. Nothing of size (m, m) exists.
#pragma once

#include "common/cuda/block_sums.cuh"
#include "population_loss/arc.cuh"
#include "population_loss/prepare.cuh"

namespace lmc::population_loss {

// What is computed: the loss; its gradient to w1 as well; to both layers.
enum Wanted { kLoss, kGradient1, kGradients };

// Gradients of the student whose tile it is, or null.
struct PairGradients {
  double *w1, *w2;  // (m, pitch1), (c, m)
  int64_t pitch1;   // from one neuron to the next
  double factor;    // of everything: scale / (2 pi)
};

template <int Tile>
class PairTile {
 public:
  static constexpr int kSide = Tile / 4, kThreads = kSide * kSide;
  static constexpr int kPitch = Tile + 2;
  static constexpr size_t kSharedBytes = (Tile * kPitch + Tile + 3 * kMostWarps) * sizeof(double);

  __device__ explicit PairTile(unsigned char* shared)
      : left_(reinterpret_cast<double*>(shared)),
        sine_(left_ + Tile * kPitch),
        scratch_(sine_ + Tile) {}

  __device__ double* scratch() const { return scratch_; }

  // The share of neurons first ... first + kTile - 1, without factor and constant; all threads get
  // it. Without a teacher it is that of the student's own part.
  template <Wanted kWanted>
  __device__ double evaluate(const Prepared& student, const Prepared* teacher, int first,
                             const PairGradients& gradients) {
    double value[4] = {}, sine[4] = {};
    if (kWanted >= kGradient1)
      own_elements(student, first, student.d,
                   [&](int i, int k) { gradients.w1[i * gradients.pitch1 + k] = 0; });
    if (kWanted == kGradients)
      own_elements(student, first, student.c, [&](int i, int o) {
        gradients.w2[static_cast<int64_t>(o) * student.m + i] = 0;
      });
    add_partners<kWanted>(student, student, first, 0.5, 1.0, gradients, value, sine);
    if (teacher)
      add_partners<kWanted>(student, *teacher, first, -1.0, -1.0, gradients, value, sine);
#pragma unroll
    for (int distance = kSide / 2; distance > 0; distance /= 2)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        value[r] += __shfl_xor_sync(~0u, value[r], distance);
        sine[r] += __shfl_xor_sync(~0u, sine[r], distance);
      }
    double share = 0;
    if (tx() == 0)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int i = ty() + kSide * r;
        if (kWanted >= kGradient1) sine_[i] = sine[r];
        share += student.norm[first + i] * value[r];
      }
    share = block_sum<kThreads>(share, scratch_);  // its barriers are those that sine_ needs
    if (kWanted >= kGradient1) {
      const int pitch = pitch_of(student.d);
      own_elements(student, first, student.d, [&](int i, int k) {
        double* const g = gradients.w1 + i * gradients.pitch1 + k;
        const double turned = sine_[i - first] * student.unit[static_cast<int64_t>(i) * pitch + k];
        *g = student.norm[i] == 0 ? 0.0 : gradients.factor * (*g + turned);
      });
    }
    if (kWanted == kGradients)
      own_elements(student, first, student.c, [&](int i, int o) {
        gradients.w2[static_cast<int64_t>(o) * student.m + i] *= gradients.factor * student.norm[i];
      });
    __syncthreads();
    return share;
  }

 private:
  static __device__ int ty() { return static_cast<int>(threadIdx.x) / kSide; }
  static __device__ int tx() { return static_cast<int>(threadIdx.x) % kSide; }

  // What a thread owns of the tile's (neurons, columns): neurons in fours, neighbours in columns.
  template <class Function>
  static __device__ void own_elements(const Prepared& student, int first, int columns,
                                      const Function& function) {
    for (int item = static_cast<int>(threadIdx.x); item < kSide * columns; item += kThreads)
      for (int r = 0; r < 4; ++r) {
        const int i = first + item / columns * 4 + r;
        if (i < student.m) function(i, item % columns);
      }
  }

  template <Wanted kWanted>
  __device__ void add_partners(const Prepared& student, const Prepared& partners, int first,
                               double of_value, double of_gradient, const PairGradients& gradients,
                               double (&value)[4], double (&sine)[4]) {
    const int pitch = pitch_of(student.d);
    const int stride = kSide * pitch;  // from one of a thread's neurons to the next
    const double* const u = student.unit + static_cast<int64_t>(first + ty()) * pitch;
    for (int start = 0; start < partners.m; start += Tile) {
      const double* const v = partners.unit + static_cast<int64_t>(start + tx()) * pitch;
      double p[4][4];
      distances(u, v, stride, student.d, p);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        double weight[4];
        weights(student, partners, first, start + tx() + kSide * c, weight);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          // p + q = 4. Only for nearly opposite vectors does q have to be summed by itself.
          double q = 4.0 - p[r][c];
          if (p[r][c] > kNearlyOpposite) q = opposite(u + r * stride, v + c * stride, student.d);
          const Arc arc = arc_of(p[r][c], q);
          value[r] += of_value * weight[r] * arc.shape;
          if (kWanted >= kGradient1) {
            sine[r] += of_gradient * weight[r] * arc.sine;
            left_[(tx() + kSide * c) * kPitch + ty() + kSide * r] =
                of_gradient * weight[r] * arc.turn;
          }
          if (kWanted == kGradients) p[r][c] = of_gradient * arc.shape;
        }
      }
      if constexpr (kWanted >= kGradient1) {
        const int count = partners.m - start < Tile ? partners.m - start : Tile;
        __syncthreads();
        add_products(student, first, student.d, count, gradients.w1, gradients.pitch1, 1,
                     partners.unit + static_cast<int64_t>(start) * pitch, pitch, 1);
        __syncthreads();
        if constexpr (kWanted == kGradients) {
#pragma unroll
          for (int c = 0; c < 4; ++c)
#pragma unroll
            for (int r = 0; r < 4; ++r)
              left_[(tx() + kSide * c) * kPitch + ty() + kSide * r] = p[r][c];
          __syncthreads();
          add_products(student, first, student.c, count, gradients.w2, 1, student.m,
                       partners.weight + start, 1, partners.rows);
          __syncthreads();
        }
      }
    }
  }

  static __device__ void distances(const double* u, const double* v, int stride, int d,
                                   double (&p)[4][4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c) p[r][c] = 0;
    for (int k = 0; k < d; k += 2) {
      double2 left[4], right[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) left[r] = *reinterpret_cast<const double2*>(u + r * stride + k);
#pragma unroll
      for (int c = 0; c < 4; ++c) right[c] = *reinterpret_cast<const double2*>(v + c * stride + k);
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const double x = left[r].x - right[c].x, y = left[r].y - right[c].y;
          p[r][c] += x * x;
          p[r][c] += y * y;
        }
    }
  }

  static __device__ double opposite(const double* u, const double* v, int d) {
    double q = 0;
#pragma unroll 1
    for (int k = 0; k < d; ++k) {
      const double sum = u[k] + v[k];
      q += sum * sum;
    }
    return q;
  }

  // a_i.a_j |v_j| of four neurons i and partner j.
  static __device__ void weights(const Prepared& student, const Prepared& partners, int first,
                                 int j, double (&weight)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) weight[r] = 0;
    const double *a = student.w2 + first + ty(), *b = partners.weight + j;
    for (int o = 0; o < student.c; ++o, a += student.rows, b += partners.rows)
#pragma unroll
      for (int r = 0; r < 4; ++r) weight[r] += a[kSide * r] * *b;
  }

  // out(i, k) += sum over `count` partners j of left_(j, i) right(j, k).
  __device__ void add_products(const Prepared& student, int first, int columns, int count,
                               double* out, int64_t out_row, int64_t out_column,
                               const double* right, int64_t right_row, int64_t right_column) {
    for (int item = static_cast<int>(threadIdx.x); item < kSide * columns; item += kThreads) {
      const int group = item / columns * 4, k = item % columns;
      const double *from = right + k * right_column, *left = left_ + group;
      double sum[4] = {};
#pragma unroll 4
      for (int j = 0; j < count; ++j, left += kPitch, from += right_row) {
        const double2 low = reinterpret_cast<const double2*>(left)[0];
        const double2 high = reinterpret_cast<const double2*>(left)[1];
        const double factor = *from;
        sum[0] += low.x * factor;
        sum[1] += low.y * factor;
        sum[2] += high.x * factor;
        sum[3] += high.y * factor;
      }
#pragma unroll
      for (int r = 0; r < 4; ++r)
        if (first + group + r < student.m)
          out[(first + group + r) * out_row + k * out_column] += sum[r];
    }
  }

  double* left_;     // (kTile partners, kPitch): what multiplies them, by neuron
  double* sine_;     // (kTile)
  double* scratch_;  // of block_sums
};

}  // namespace lmc::population_loss
