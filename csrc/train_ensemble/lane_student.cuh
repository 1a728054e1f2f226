// SPDX-License-Identifier: MIT
// A small student on samples with one output and squared losses, for descent.cuh: all n samples, a
// mini-batch, or fresh ones.
//
// A warp takes tiles of 16 samples, every kLaneWarps-th of them, and needs no other warp until its
// last one. Lane = kTogether a + s, where the first kTogether lanes have s = 0, 1, ...: it owns
// neurons a + Lanes q (q < 4) and samples s + kTogether i (i < kHeld) of the tile. In turn:
//   x, y  are gathered, or drawn and labelled by the teacher
//   z     = x w1^T in registers, a sum over k in order
//   f     is the sum of w2 relu(z): over q in order, then over a in a tree, in which every lane
//         keeps half of its samples in each round; two lanes are left with a sample, its residual
//         and, one of them, its loss in float64
//   g2    += (relu(z) times residual), a sum over the lane's samples in order
//   g1    += (residual, where the neuron is active, times x), a sum over the lane's samples in
//         order; Lanes = 16 keeps it in registers through all tiles, Lanes = 32 from tile to tile
//         in shared memory
// When the step is taken, the sums of the s are added in a tree and those of the warps in order,
// and g1 times w2 is the gradient. Three barriers of the block are a step's: before the weights are
// read, when the sums are there, when all know whether the weights are finite.
#pragma once

#include "train_ensemble/descent.cuh"
#include "train_ensemble/lane_samples.cuh"

namespace lmc::train_ensemble {

template <class T, int Lanes, int Wide>
class LaneStudent {
 public:
  static constexpr int kThreads = kLaneThreads;

  __device__ LaneStudent(const SampleRun<T>& run, int64_t s, const LaneShape& z,
                         const LaneMemory<T>& memory)
      : run_(run),
        p_(run.problem),
        z_(z),
        a_(memory),
        s_(s),
        samples_{run, z, memory, s},
        batches_(run, s) {
    load(p_.w1_out + s * z_.m * z_.d, z_.m, a_.w1);
    if (tid() < z_.m) a_.w2[tid()] = p_.w2_out[s * z_.m + tid()];
    if (!z_.fresh) return;
    load(p_.v1, z_.M, a_.v1);
    for (int j = tid(); j < z_.M; j += kThreads) a_.v2[j] = static_cast<T>(p_.v2[j]);
  }

  // The loss of step t, and its gradient in parts; if the run only evaluates, block y's share of
  // the loss on all n samples.
  __device__ double loss(int64_t t) {
    const bool batch = z_.sgd && !run_.evaluate;
    if (batch && z_.mini_batches)
      batches_.choose(t, z_.lists ? reinterpret_cast<uint32_t*>(a_.g1) : nullptr, a_.chosen);
    const int count = batch ? z_.batch : z_.n;
    int first = 0, last = count;
    if (run_.evaluate) {
      first = static_cast<int>((run_.first_range + blockIdx.y) * run_.range);
      last = count - first < run_.range ? count : first + static_cast<int>(run_.range);
    }
    __syncthreads();  // the weights and the chosen samples are there
    publish(0, pass(first, last, count, t));
    __syncthreads();
    return published(0) / static_cast<double>(count);
  }

  // A thread owns the same elements here and wherever weights are written.
  __device__ Proposal propose(double rate) {
    const T lr = static_cast<T>(rate);
    double square = 0;
    bool finite = true;
    const auto next = [&](T weight, T gradient) {
      const T result = weight - lr * gradient;
      if (!z_.sgd) square += static_cast<double>(gradient) * static_cast<double>(gradient);
      finite &= result - result == T(0);
      return result;
    };
#pragma unroll
    for (int u = 0; u < kOwned; ++u) {
      const int e = tid() + u * kThreads, j = e / kFours, at = j * kPitch + 4 * (e % kFours);
      next1_[u] = {};  // so that no register waits for it through the next step
      if (j >= z_.m) continue;
      Four<T> sum = four(a_.g1 + at);
#pragma unroll
      for (int w = 1; w < kLaneWarps; ++w) {
        if (w >= warps_) continue;
        const Four<T> part = four(a_.g1 + w * z_.m * kPitch + at);
#pragma unroll
        for (int l = 0; l < 4; ++l) sum.v[l] += part.v[l];
      }
      const Four<T> w1 = four(a_.w1 + at);
      const T w2 = a_.w2[j];
#pragma unroll
      for (int l = 0; l < 4; ++l) next1_[u].v[l] = next(w1.v[l], w2 * sum.v[l]);
    }
    next2_ = 0;
    if (z_.train_w2 && tid() < z_.m) {
      T sum = a_.g2[tid()];
#pragma unroll
      for (int w = 1; w < kLaneWarps; ++w)
        if (w < warps_) sum += a_.g2[w * z_.m + tid()];
      next2_ = next(a_.w2[tid()], sum);
    }
    if (!z_.sgd) publish(1, square);
    const bool all = __ballot_sync(~0u, finite) == ~0u;
    if (lane() == 0) a_.scratch[2 * kLaneWarps + warp()] = all ? 0.0 : 1.0;
    __syncthreads();
    return {published(2) == 0.0, z_.sgd ? 0.0 : published(1)};
  }
  __device__ void accept() {
#pragma unroll
    for (int u = 0; u < kOwned; ++u) {
      const int e = tid() + u * kThreads, j = e / kFours;
      if (j < z_.m) put_four(a_.w1 + j * kPitch + 4 * (e % kFours), next1_[u]);
    }
    if (z_.train_w2 && tid() < z_.m) a_.w2[tid()] = next2_;
  }
  __device__ void store() {
    T* const w1 = p_.w1_out + s_ * z_.m * z_.d;
#pragma unroll
    for (int u = 0; u < kOwned; ++u) {
      const int e = tid() + u * kThreads, j = e / kFours, k = 4 * (e % kFours);
      if (j >= z_.m) continue;
      for (int l = 0; l < 4; ++l)
        if (k + l < z_.d) w1[j * z_.d + k + l] = a_.w1[j * kPitch + k + l];
    }
    if (z_.train_w2 && tid() < z_.m) p_.w2_out[s_ * z_.m + tid()] = a_.w2[tid()];
  }

 private:
  static constexpr int kPitch = lane_pitch<T>(Wide), kFours = Wide / 4;
  static constexpr int kTogether = 32 / Lanes, kHeld = kLaneRows / kTogether;
  static constexpr int kSharers =
      2 * kTogether;  // lane / kSharers is i of the sample it is left with
  static constexpr bool kKept = Lanes == 16 && Wide == 12;  // g1 stays in registers
  // Fours of w1 of a thread.
  static constexpr int kOwned = (Lanes * kLaneNeurons * kFours + kThreads - 1) / kThreads;
  static_assert(Lanes * kLaneNeurons <= kThreads);

  static __device__ int tid() { return static_cast<int>(threadIdx.x); }
  static __device__ int lane() { return tid() % 32; }
  static __device__ int warp() { return tid() / 32; }

  // Rows of d inputs become rows of whole fours.
  template <class From>
  __device__ void load(const From* from, int rows, T* to) const {
    for (int e = tid(); e < rows * kFours; e += kThreads) {
      const int j = e / kFours, k = 4 * (e % kFours);
#pragma unroll
      for (int l = 0; l < 4; ++l)
        to[j * kPitch + k + l] =
            k + l < z_.d ? static_cast<T>(from[static_cast<int64_t>(j) * z_.d + k + l]) : T(0);
    }
  }

  // The sum of `value` over the block's threads, which a barrier lies between: lanes in a tree,
  // then warps in order.
  __device__ void publish(int slot, double value) const {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      value += __shfl_xor_sync(~0u, value, distance);
    if (lane() == 0) a_.scratch[slot * kLaneWarps + warp()] = value;
  }
  __device__ double published(int slot) const {
    double sum = 0;
#pragma unroll
    for (int w = 0; w < kLaneWarps; ++w) sum += a_.scratch[slot * kLaneWarps + w];
    return sum;
  }

  // This thread's part of the losses of samples begin ... end - 1, of `count`; the parts of the
  // gradients.
  __device__ __forceinline__ double pass(int begin, int end, int count, int64_t t) {
    const T scale = T(1) / static_cast<T>(count);
    const int tiles = (end - begin + kLaneRows - 1) / kLaneRows;
    warps_ = tiles < kLaneWarps ? tiles : kLaneWarps;
    double sum = 0;
    T g1[kLaneNeurons][Wide] = {};
#pragma unroll 1
    for (int tile = warp(); tile < tiles; tile += kLaneWarps) {
      const int first = begin + tile * kLaneRows;
      const int rows = end - first < kLaneRows ? end - first : kLaneRows;
      const int at = (z_.resident ? tile : warp()) * kLaneRows;
      T *const x = a_.x + at * kPitch, *const y = a_.y + at;
      if (!arrived_) {
        __syncwarp();  // the last tile is not read any more
        if (z_.fresh)
          samples_.draw(x, y, first, rows, t);
        else
          samples_.gather(x, y, first, rows, z_.mini_batches && !run_.evaluate);
        __syncwarp();
      }
      T z[kLaneNeurons][kHeld];
      uint32_t active[kLaneNeurons];  // bit i: of sample i
      activate(x, z);
      const T f = output(z, active);
      const int row = lane() / kSharers * kTogether + lane() % kTogether;
      const T difference = row < rows ? f - y[row] : T(0);
      if (lane() % kSharers < kTogether)
        sum += static_cast<double>(difference) * static_cast<double>(difference);
      if (run_.evaluate) continue;
      const T residual = scale * difference;
      if (z_.train_w2) add_to_g2(z, active, residual, tile == warp());
      if constexpr (kKept) {
        add_to_g1(x, active, residual, g1);
      } else {
        T part[kLaneNeurons][Wide] = {};
        add_to_g1(x, active, residual, part);
        put_g1(part, tile == warp());
      }
    }
    if (kKept && !run_.evaluate && warp() < warps_) put_g1(g1, true);
    arrived_ = z_.resident;
    return sum / 2;
  }

  static __device__ int neuron(int q) { return lane() / kTogether + Lanes * q; }
  // Of the lanes of a neuron, the one that writes.
  __device__ bool owns(int q) const { return lane() % kTogether == 0 && neuron(q) < z_.m; }
  static __device__ T sum_together(T value) {
#pragma unroll
    for (int distance = 1; distance < kTogether; distance *= 2)
      value += __shfl_xor_sync(~0u, value, distance);
    return value;
  }

  // Neurons beyond the last are copies of it.
  __device__ __forceinline__ void activate(const T* x, T (&z)[kLaneNeurons][kHeld]) const {
    const T* w1[kLaneNeurons];
#pragma unroll
    for (int q = 0; q < kLaneNeurons; ++q) {
      w1[q] = a_.w1 + (neuron(q) < z_.m ? neuron(q) : z_.m - 1) * kPitch;
#pragma unroll
      for (int i = 0; i < kHeld; ++i) z[q][i] = 0;
    }
    x += lane() % kTogether * kPitch;
#pragma unroll 1
    for (int k = 0; k < z_.d; k += 4) {
      Four<T> right[kLaneNeurons];
#pragma unroll
      for (int q = 0; q < kLaneNeurons; ++q) right[q] = four(w1[q] + k);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const Four<T> left = four(x + i * kTogether * kPitch + k);
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int q = 0; q < kLaneNeurons; ++q) z[q][i] += left.v[e] * right[q].v[e];
      }
    }
  }

  // f of sample lane / kSharers, and which neurons are active for which samples. (NaN is.)
  __device__ __forceinline__ T output(const T (&z)[kLaneNeurons][kHeld],
                                      uint32_t (&active)[kLaneNeurons]) const {
    T f[kHeld] = {};
#pragma unroll
    for (int q = 0; q < kLaneNeurons; ++q) {
      const T w2 = neuron(q) < z_.m ? a_.w2[neuron(q)] : T(0);
      active[q] = 0;
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (!(z[q][i] <= T(0))) {
          f[i] += z[q][i] * w2;
          active[q] |= 1u << i;
        }
    }
    halve<kHeld / 2>(f);
    return f[0] + __shfl_xor_sync(~0u, f[0], kTogether);
  }

  // A round of the tree: the lane keeps the sums of one half of its 2 Half samples.
  template <int Half>
  static __device__ __forceinline__ void halve(T (&f)[kHeld]) {
    if constexpr (Half > 0) {
      constexpr int kDistance = Half * kSharers;
      const bool upper = (lane() & kDistance) != 0;
#pragma unroll
      for (int i = 0; i < Half; ++i) {
        const T keep = upper ? f[i + Half] : f[i], send = upper ? f[i] : f[i + Half];
        f[i] = keep + __shfl_xor_sync(~0u, send, kDistance);
      }
      halve<Half / 2>(f);
    }
  }

  // Of this lane's sample i, from a lane that is left with it.
  static __device__ T residual_of(int i, T residual) {
    return __shfl_sync(~0u, residual, i * kSharers + lane() % kTogether);
  }

  __device__ __forceinline__ void add_to_g2(const T (&z)[kLaneNeurons][kHeld],
                                            const uint32_t (&active)[kLaneNeurons], T residual,
                                            bool first) const {
    T sum[kLaneNeurons] = {};
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const T r = residual_of(i, residual);
#pragma unroll
      for (int q = 0; q < kLaneNeurons; ++q)
        if (active[q] >> i & 1) sum[q] += r * z[q][i];
    }
#pragma unroll
    for (int q = 0; q < kLaneNeurons; ++q) {
      sum[q] = sum_together(sum[q]);
      T* const to = a_.g2 + warp() * z_.m + neuron(q);
      if (owns(q)) *to = first ? sum[q] : *to + sum[q];
    }
  }

  __device__ __forceinline__ void add_to_g1(const T* x, uint32_t (&active)[kLaneNeurons],
                                            T residual, T (&g1)[kLaneNeurons][Wide]) const {
    x += lane() % kTogether * kPitch;
#pragma unroll 1
    for (int begin = 0; begin < kHeld; begin += 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const T r = residual_of(begin + i, residual);
        T dz[kLaneNeurons];
#pragma unroll
        for (int q = 0; q < kLaneNeurons; ++q) dz[q] = active[q] >> i & 1 ? r : T(0);
#pragma unroll
        for (int k = 0; k < Wide; k += 4) {
          const Four<T> right = four(x + i * kTogether * kPitch + k);
#pragma unroll
          for (int l = 0; l < 4; ++l)
#pragma unroll
            for (int q = 0; q < kLaneNeurons; ++q) g1[q][k + l] += dz[q] * right.v[l];
        }
      }
      x += 4 * kTogether * kPitch;
#pragma unroll
      for (int q = 0; q < kLaneNeurons; ++q) active[q] >>= 4;
    }
  }

  // Writes the warp's part, or adds to it. A lane reads and writes only its own.
  __device__ __forceinline__ void put_g1(const T (&g1)[kLaneNeurons][Wide], bool first) const {
    T* const part = a_.g1 + warp() * z_.m * kPitch;
#pragma unroll
    for (int q = 0; q < kLaneNeurons; ++q)
#pragma unroll
      for (int k = 0; k < Wide; k += 4) {
        Four<T> sum;
#pragma unroll
        for (int l = 0; l < 4; ++l) sum.v[l] = sum_together(g1[q][k + l]);
        if (!owns(q)) continue;
        T* const to = part + neuron(q) * kPitch + k;
        if (!first) {
          const Four<T> before = four(to);
#pragma unroll
          for (int l = 0; l < 4; ++l) sum.v[l] += before.v[l];
        }
        put_four(to, sum);
      }
  }

  const SampleRun<T>& run_;
  const Problem<T>& p_;
  const LaneShape& z_;
  const LaneMemory<T> a_;
  const int64_t s_;
  const LaneSamples<T, Wide> samples_;
  Batches<T, kThreads> batches_;
  Four<T> next1_[kOwned];
  T next2_;
  int warps_ = 0;         // that have a part of the gradient
  bool arrived_ = false;  // all samples, to stay
};

}  // namespace lmc::train_ensemble
