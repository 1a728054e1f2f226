// SPDX-License-Identifier: MIT
// A student on samples, for descent.cuh: all n of them, a mini-batch, or fresh ones.
//
// The block walks the samples of a step in tiles of Rows. For a tile, in turn:
//   x, y     are gathered, or drawn and labelled by the teacher
//   h        = relu(x w1^T): thread (ty, tx) owns samples ty + 16 r and neurons tx + 16 c of every
//            64; a sum over k in order
//   f        = h w2^T: kLanes neighbouring threads own a sample, each every kLanes-th four neurons;
//            then a tree
//   f        becomes dloss/df, a thread a sample, and the losses are added up in float64
//   g2       += dloss/df^T h
//   h        becomes dz = dloss/df w2 where it is not zero
//   g1       += dz^T x: a thread owns 4 x 4 of g1 and, where there are threads to spare, one of
//            several runs of samples; a sum over its samples in order
// The runs are added in order when the step is taken. Weights are read only behind the barrier that
// follows the samples' arrival, so that writing them needs none of its own.
#pragma once

#include "common/cuda/block_sums.cuh"
#include "train_ensemble/batches.cuh"
#include "train_ensemble/descent.cuh"
#include "train_ensemble/four.cuh"
#include "train_ensemble/sample_memory.h"

namespace lmc::train_ensemble {

template <class T, int Rows>
class SampleStudent {
 public:
  static constexpr int kThreads = cuda::kThreads;

  __device__ SampleStudent(const SampleRun<T>& run, int64_t s, const SampleShape& z,
                           const SampleMemory<T>& memory)
      : run_(run), p_(run.problem), z_(z), a_(memory), s_(s), batches_(run, s) {
    const T* const w1 = p_.w1_out + s * z_.m * z_.d;
    const T* const w2 = p_.w2_out + s * z_.c * z_.m;
    for (int e = tid(); e < z_.m4 * z_.d_pitch; e += kThreads) {
      const int j = e / z_.d_pitch, k = e % z_.d_pitch;
      a_.w1[e] = j < z_.m && k < z_.d ? w1[j * z_.d + k] : T(0);
    }
    for (int e = tid(); e < z_.c * z_.m_pitch; e += kThreads) {
      const int o = e / z_.m_pitch, j = e % z_.m_pitch;
      a_.w2[e] = j < z_.m ? w2[o * z_.m + j] : T(0);
    }
  }

  // The loss of step t, and its gradient; if the run only evaluates, block y's share of the loss on
  // all n samples.
  __device__ double loss(int64_t t) {
    const bool batch = p_.method == Method::sgd && !run_.evaluate;
    if (batch && z_.mini_batches) {
      batches_.choose(t, a_.has_lists ? reinterpret_cast<uint32_t*>(a_.g1) : nullptr, a_.chosen);
      __syncthreads();
    }
    const int count = batch ? z_.batch : z_.n;
    int first = 0, last = count;
    if (run_.evaluate) {
      first = static_cast<int>((run_.first_range + blockIdx.y) * run_.range);
      last = count - first < run_.range ? count : first + static_cast<int>(run_.range);
    }
    const double sum = pass(first, last, t);
    return cuda::block_sum<kThreads>(sum, a_.scratch) / static_cast<double>(count);
  }

  __device__ Proposal propose(double rate) {
    const T lr = static_cast<T>(rate);
    StepSums sums;
    propose(z_.m, z_.d, z_.d_pitch, z_.groups1, z_.m4 * z_.d_pitch, a_.w1, a_.g1, lr, sums);
    if (z_.train_w2)
      propose(z_.c, z_.m, z_.m_pitch, z_.groups2, z_.c * z_.m_pitch, a_.w2, a_.g2, lr, sums);
    cuda::block_sums<kThreads>(sums.values, a_.scratch);
    return {sums.values[1] == 0, sums.values[0]};
  }
  __device__ void accept() {
    copy(z_.m, z_.d, a_.g1, z_.d_pitch, a_.w1, z_.d_pitch);
    if (z_.train_w2) copy(z_.c, z_.m, a_.g2, z_.m_pitch, a_.w2, z_.m_pitch);
  }
  __device__ void store() {
    copy(z_.m, z_.d, a_.w1, z_.d_pitch, p_.w1_out + s_ * z_.m * z_.d, z_.d);
    if (z_.train_w2) copy(z_.c, z_.m, a_.w2, z_.m_pitch, p_.w2_out + s_ * z_.c * z_.m, z_.m);
  }

 private:
  static constexpr int kHeld = Rows / 16;         // samples of a thread in the product for h
  static constexpr int kLanes = kThreads / Rows;  // threads of a sample in the product for f

  static __device__ int tid() { return static_cast<int>(threadIdx.x); }

  // Every element of a matrix has one thread, in both of these.
  static __device__ void copy(int rows, int columns, const T* from, int from_pitch, T* to,
                              int to_pitch) {
    for (int e = tid(); e < rows * columns; e += kThreads) {
      const int i = e / columns, k = e % columns;
      to[i * to_pitch + k] = from[i * from_pitch + k];
    }
  }
  static __device__ __forceinline__ void propose(int rows, int columns, int pitch, int groups,
                                                 int group_size, const T* w, T* g, T lr,
                                                 StepSums& sums) {
    for (int e = tid(); e < rows * columns; e += kThreads) {
      const int at = e / columns * pitch + e % columns;
      T gradient = g[at];
      for (int group = 1; group < groups; ++group) gradient += g[group * group_size + at];
      const T next = w[at] - lr * gradient;
      sums.add(static_cast<double>(gradient), next);
      g[at] = next;
    }
  }

  // This thread's part of the losses of samples begin ... end - 1; their gradients.
  __device__ double pass(int begin, int end, int64_t t) {
    double sum = 0;
    for (int first = begin; first < end; first += Rows) {
      const int rows = end - first < Rows ? end - first : Rows;
      if (z_.fresh)
        draw(first, rows, t);
      else
        gather(first, rows);
      __syncthreads();
      activate();
      __syncthreads();
      output();
      __syncthreads();
      if (tid() < Rows) sum += residual(tid(), tid() < rows);
      __syncthreads();
      if (!run_.evaluate) {
        if (z_.train_w2) {
          add_to_g2(first == 0);
          __syncthreads();
        }
        differentiate();
        __syncthreads();
        add_to_g1(first == 0);
      }
      __syncthreads();
    }
    return sum;
  }

  // Samples beyond the last are zero.
  __device__ void gather(int first, int rows) {
    const bool chosen = z_.mini_batches && !run_.evaluate;
    const auto sample = [&](int i) {
      return static_cast<int64_t>(chosen ? a_.chosen[first + i] : first + i);
    };
    const T* const x = p_.x + (p_.sizes.x_shared ? 0 : s_ * z_.n * z_.d);
    for (int e = tid(); e < Rows * z_.d_pitch; e += kThreads) {
      const int i = e / z_.d_pitch, k = e % z_.d_pitch;
      a_.x[e] = i < rows && k < z_.d ? x[sample(i) * z_.d + k] : T(0);
    }
    if (z_.labels) {
      const int64_t* const labels = p_.labels + (p_.sizes.y_shared ? 0 : s_ * z_.n);
      for (int i = tid(); i < rows; i += kThreads) {
        const int64_t label = labels[sample(i)];
        a_.labels[i] = label >= 0 && label < z_.c ? static_cast<int>(label) : -1;
      }
      return;
    }
    const T* const y = p_.y + (p_.sizes.y_shared ? 0 : s_ * z_.n * z_.c);
    for (int e = tid(); e < rows * z_.c; e += kThreads)
      a_.y[e] = y[sample(e / z_.c) * z_.c + e % z_.c];
  }

  // Inputs of step t, its normals row by row, and what the teacher says of them.
  __device__ void draw(int first, int rows, int64_t t) {
    for (int e = tid(); e < Rows * z_.d_pitch; e += kThreads)
      if (e / z_.d_pitch >= rows || e % z_.d_pitch >= z_.d) a_.x[e] = T(0);
    const int numbers = rows * z_.d;
    const int64_t begin = static_cast<int64_t>(first) * z_.d;  // even, as first is
    for (int q = tid(); 2 * q < numbers; q += kThreads) {
      const double2 two =
          two_normals(p_.seeds[s_], static_cast<uint64_t>(begin / 2 + q), static_cast<uint64_t>(t));
      const int e = 2 * q;
      a_.x[e / z_.d * z_.d_pitch + e % z_.d] = static_cast<T>(two.x);
      if (e + 1 < numbers)
        a_.x[(e + 1) / z_.d * z_.d_pitch + (e + 1) % z_.d] = static_cast<T>(two.y);
    }
    __syncthreads();
    const int i = tid() / kLanes, lane = tid() % kLanes;
    T* const x = a_.x + i * z_.d_pitch;
    if (p_.radius > 0) {  // a normal vector's direction is uniform
      double square = 0;
      for (int k = 0; k < z_.d; ++k)
        square += static_cast<double>(x[k]) * static_cast<double>(x[k]);
      const double size = i < rows ? p_.radius / sqrt(square) : 0.0;
      __syncthreads();
      for (int k = lane; k < z_.d; k += kLanes) x[k] = static_cast<T>(size * x[k]);
      __syncthreads();
    }
    for (int o = 0; o < z_.c; ++o) {
      T sum = 0;
      for (int j = lane; j < z_.M; j += kLanes) {
        T z = 0;
        for (int k = 0; k < z_.d; ++k)
          z += x[k] * static_cast<T>(p_.v1[static_cast<int64_t>(j) * z_.d + k]);
        sum += static_cast<T>(p_.v2[static_cast<int64_t>(o) * z_.M + j]) * (z > T(0) ? z : T(0));
      }
      sum = sum_lanes(sum);
      if (lane == 0 && i < rows) a_.y[i * z_.c + o] = sum;
    }
  }

  // The sum over the threads of a sample.
  static __device__ T sum_lanes(T value) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      value += __shfl_xor_sync(~0u, value, distance);
    return value;
  }

  __device__ void activate() {
    const int ty = tid() / 16, tx = tid() % 16;
    for (int start = 0; start < z_.m4; start += 64) {
      T z[kHeld][4] = {};
      const T *x[kHeld], *w[4];
#pragma unroll
      for (int r = 0; r < kHeld; ++r) x[r] = a_.x + (ty + 16 * r) * z_.d_pitch;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int j = start + tx + 16 * c;
        w[c] = a_.w1 + (j < z_.m4 ? j : 0) * z_.d_pitch;
      }
      for (int k = 0; k < z_.d4; k += 4) {
        Four<T> left[kHeld], right[4];
#pragma unroll
        for (int r = 0; r < kHeld; ++r) left[r] = four(x[r] + k);
#pragma unroll
        for (int c = 0; c < 4; ++c) right[c] = four(w[c] + k);
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int r = 0; r < kHeld; ++r)
#pragma unroll
            for (int c = 0; c < 4; ++c) z[r][c] += left[r].v[e] * right[c].v[e];
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int j = start + tx + 16 * c;
        if (j >= z_.m4) continue;
#pragma unroll
        for (int r = 0; r < kHeld; ++r)  // NaN stays
          a_.h[(ty + 16 * r) * z_.m_pitch + j] = z[r][c] <= T(0) ? T(0) : z[r][c];
      }
    }
  }

  __device__ void output() {
    const int i = tid() / kLanes, lane = tid() % kLanes;
    const T* const h = a_.h + i * z_.m_pitch;
    for (int o = 0; o < z_.c; ++o) {
      const T* const w2 = a_.w2 + o * z_.m_pitch;
      T sum = 0;
      for (int j = 4 * lane; j < z_.m4; j += 4 * kLanes) {
        const Four<T> left = four(h + j), right = four(w2 + j);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum += left.v[e] * right.v[e];
      }
      sum = sum_lanes(sum);
      if (lane == 0) a_.f[i * z_.c + o] = sum;
    }
  }

  // The loss of sample i of the tile; f becomes scale dloss/df.
  __device__ double residual(int i, bool real) {
    T* const f = a_.f + i * z_.c;
    double loss = 0;
    if (!real) {
      for (int o = 0; o < z_.c; ++o) f[o] = T(0);
    } else if (!z_.labels) {
      for (int o = 0; o < z_.c; ++o) {
        const T difference = f[o] - a_.y[i * z_.c + o];
        loss += static_cast<double>(difference) * static_cast<double>(difference);
        f[o] = run_.scale * difference;
      }
      loss /= 2;
    } else {
      const int label = a_.labels[i];
      T top = f[0];
      for (int o = 1; o < z_.c; ++o) top = f[o] > top ? f[o] : top;
      const auto margin = [&](int o) {
        return static_cast<double>(f[o]) - static_cast<double>(top);
      };
      double total = 0;
      for (int o = 0; o < z_.c; ++o) total += exp(margin(o));
      // The loss of a label that is out of range is NaN.
      loss = label < 0 ? 0.0 / (total - total) : log(total) - margin(label);
      for (int o = 0; o < z_.c; ++o)
        f[o] = run_.scale * static_cast<T>(exp(margin(o)) / total - (o == label ? 1.0 : 0.0));
    }
    return loss;
  }

  __device__ void differentiate() {
    const int fours = z_.m4 / 4;
    for (int e = tid(); e < Rows * fours; e += kThreads) {
      const int i = e / fours, j = e % fours * 4;
      T* const h = a_.h + i * z_.m_pitch + j;
      Four<T> dz = {};
      for (int o = 0; o < z_.c; ++o) {
        const T r = a_.f[i * z_.c + o];
        const Four<T> w2 = four(a_.w2 + o * z_.m_pitch + j);
#pragma unroll
        for (int l = 0; l < 4; ++l) dz.v[l] += r * w2.v[l];
      }
      const Four<T> active = four(h);
#pragma unroll
      for (int l = 0; l < 4; ++l) dz.v[l] = active.v[l] == T(0) ? T(0) : dz.v[l];
      *reinterpret_cast<Four<T>*>(h) = dz;
    }
  }

  // Samples of a run, of which there are `groups`.
  static __device__ int run_length(int groups) { return (Rows + groups - 1) / groups; }

  __device__ void add_to_g1(bool first) {
    const int wide = z_.d4 / 4, tiles = z_.m4 / 4 * wide, length = run_length(z_.groups1);
    for (int item = tid(); item < tiles * z_.groups1; item += kThreads) {
      const int group = item / tiles, j = item % tiles / wide * 4, k = item % wide * 4;
      const int begin = group * length, end = begin + length < Rows ? begin + length : Rows;
      T sum[4][4] = {};
      const T *dz = a_.h + begin * z_.m_pitch + j, *x = a_.x + begin * z_.d_pitch + k;
#pragma unroll 2
      for (int i = begin; i < end; ++i, dz += z_.m_pitch, x += z_.d_pitch) {
        const Four<T> left = four(dz), right = four(x);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int c = 0; c < 4; ++c) sum[r][c] += left.v[r] * right.v[c];
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        T* const g = a_.g1 + (group * z_.m4 + j + r) * z_.d_pitch + k;
#pragma unroll
        for (int c = 0; c < 4; ++c) g[c] = first ? sum[r][c] : g[c] + sum[r][c];
      }
    }
  }

  __device__ void add_to_g2(bool first) {
    const int fours = z_.m4 / 4, tiles = fours * z_.c, length = run_length(z_.groups2);
    for (int item = tid(); item < tiles * z_.groups2; item += kThreads) {
      const int group = item / tiles, o = item % tiles / fours, j = item % fours * 4;
      const int begin = group * length, end = begin + length < Rows ? begin + length : Rows;
      T sum[4] = {};
#pragma unroll 4
      for (int i = begin; i < end; ++i) {
        const Four<T> h = four(a_.h + i * z_.m_pitch + j);
        const T r = a_.f[i * z_.c + o];
#pragma unroll
        for (int l = 0; l < 4; ++l) sum[l] += r * h.v[l];
      }
      T* const g = a_.g2 + (group * z_.c + o) * z_.m_pitch + j;
#pragma unroll
      for (int l = 0; l < 4; ++l) g[l] = first ? sum[l] : g[l] + sum[l];
    }
  }

  const SampleRun<T>& run_;
  const Problem<T>& p_;
  const SampleShape& z_;
  const SampleMemory<T> a_;
  const int64_t s_;
  Batches<T, kThreads> batches_;
};

}  // namespace lmc::train_ensemble
