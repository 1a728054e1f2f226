// SPDX-License-Identifier: MIT
// A small student on samples with one output and squared losses, for descent.cuh: all n samples, a
// mini-batch, or fresh ones.
//
// A warp takes tiles of 16 samples, every kLaneWarps-th of them, and needs no other warp until its
// last one is done. Lane 2 a + s owns neurons a + 16 q (q < Neurons) and samples 2 i + s (i < 8) of
// the tile. In turn:
//   x, y  are gathered, or drawn and labelled by the teacher
//   z     = x w1^T in registers, a sum over k in order
//   f     is the sum of w2 relu(z): over q in order, then over a in a tree, in each round of which
//   a
//         lane keeps one half of its samples; two lanes are left with a sample, its residual and,
//         one of them, its loss in float64
//   g2    += residual relu(z), a sum over i in order, then over s
//   g1    += residual x where the neuron is active. With few neurons and inputs a lane takes its
//   own
//         samples, in order, and all inputs, and the two s are added at the end; else it takes all
//         samples, in order, and half of the inputs. Lanes with four neurons keep the sums in
//         registers from tile to tile, others add each tile's to shared memory.
// When the step is taken, the parts of the warps are added in order, and g1 times w2 is the
// gradient. Three barriers of the block are a step's: before the weights are read, when the sums
// are there, when it is known whether all next weights are finite.
#pragma once

#include "train_ensemble/descent.cuh"
#include "train_ensemble/lane_samples.cuh"

namespace lmc::train_ensemble {

template <class T, int Neurons, int Wide>
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
        samples_{run, z, memory, static_cast<int>(s)},
        batches_(run, s) {
    load(p_.w1_out + s * z_.m * z_.d, z_.m, kPadded, a_.w1);
    if (tid() < kPadded) a_.w2[tid()] = tid() < z_.m ? p_.w2_out[s * z_.m + tid()] : T(0);
    if (!z_.fresh) return;
    load(p_.v1, z_.M, z_.M, a_.v1);
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
    publish(0, pass(first, last, t));
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
      for (int w = 1; w < kLaneWarps; ++w) sum += a_.g2[w * z_.m + tid()];
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
      if (j < z_.m) put(a_.w1 + j * kPitch + 4 * (e % kFours), next1_[u]);
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
  static constexpr int kPadded = kNeuronLanes * Neurons;
  static constexpr int kPitch = lane_pitch<T>(Wide), kFours = Wide / 4;
  static constexpr int kHeld = kLaneRows / 2;  // samples of a lane
  static constexpr int kSharers = 4;           // lane / 4 is i of the sample that it is left with
  // For g1: whether a lane takes half of the inputs, how many, and whether it keeps the sums.
  static constexpr bool kHalf = Neurons * Wide > 48, kKept = Neurons <= 4;
  static constexpr int kInputs = kHalf ? Wide / 2 : Wide;
  static constexpr int kOwned = (kPadded * kFours + kThreads - 1) / kThreads;  // fours of w1
  static_assert(kPadded <= kThreads && 32 == 2 * kNeuronLanes && kLaneRows == 16);

  using Activations = T[Neurons][kHeld];
  using Gradient = T[Neurons][kInputs];

  static __device__ int tid() { return static_cast<int>(threadIdx.x); }
  static __device__ int lane() { return tid() % 32; }
  static __device__ int warp() { return tid() / 32; }
  static __device__ int neuron(int q) { return lane() / 2 + kNeuronLanes * q; }

  // Rows of d inputs become rows of whole fours, the ones beyond `rows` zero.
  template <class From>
  __device__ void load(const From* from, int rows, int padded, T* to) const {
    for (int e = tid(); e < padded * kFours; e += kThreads) {
      const int j = e / kFours, k = 4 * (e % kFours);
      Four<T> value = {};
#pragma unroll
      for (int l = 0; l < 4; ++l)
        if (j < rows && k + l < z_.d)
          value.v[l] = static_cast<T>(from[static_cast<int64_t>(j) * z_.d + k + l]);
      put(to + j * kPitch + k, value);
    }
  }

  // The sum of `value` over the block's threads, in halves that a barrier must lie between: lanes
  // in a tree, then warps in order.
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

  // This thread's part of the losses of samples begin ... end - 1; the warps' parts of the
  // gradients.
  __device__ __forceinline__ double pass(int begin, int end, int64_t t) {
    const int tiles = (end - begin + kLaneRows - 1) / kLaneRows;
    double sum = 0;
    Gradient g1 = {};
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
      Activations z;
      uint32_t active[Neurons];  // bit i: for sample i
      activate(x, z);
      const T f = output(z, active);
      const int row = lane() / kSharers * 2 + lane() % 2;
      const T difference = row < rows ? f - y[row] : T(0);
      if (lane() % kSharers < 2)
        sum += static_cast<double>(difference) * static_cast<double>(difference);
      if (run_.evaluate) continue;
      const T residual = run_.scale * difference;
      if (z_.train_w2) add_to_g2(z, active, residual, tile == warp());
      if constexpr (kKept) {
        add_to_g1(x, active, residual, g1);
      } else {
        Gradient part = {};
        add_to_g1(x, active, residual, part);
        put_g1(part, tile == warp());
      }
    }
    if (!run_.evaluate) {
      if constexpr (kKept) put_g1(g1, true);
      if (warp() >= tiles) clear();
    }
    arrived_ = z_.resident;
    return sum / 2;
  }

  __device__ __forceinline__ void activate(const T* x, Activations& z) const {
    constexpr int kStep = 16 / static_cast<int>(sizeof(T));
    const T* w1 = a_.w1 + lane() / 2 * kPitch;
    x += lane() % 2 * kPitch;
#pragma unroll
    for (int q = 0; q < Neurons; ++q)
#pragma unroll
      for (int i = 0; i < kHeld; ++i) z[q][i] = 0;
#pragma unroll 1
    for (int k = 0; k < z_.d; k += kStep, w1 += kStep, x += kStep) {
      Pack<T, kStep> right[Neurons];
#pragma unroll
      for (int q = 0; q < Neurons; ++q) right[q] = pack<kStep>(w1 + q * kNeuronLanes * kPitch);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const Pack<T, kStep> left = pack<kStep>(x + 2 * i * kPitch);
#pragma unroll
        for (int e = 0; e < kStep; ++e)
#pragma unroll
          for (int q = 0; q < Neurons; ++q) z[q][i] += left.v[e] * right[q].v[e];
      }
    }
  }

  // f of sample lane / kSharers, and which neurons are active for which samples. (NaN is.)
  __device__ __forceinline__ T output(const Activations& z, uint32_t (&active)[Neurons]) const {
    T f[kHeld] = {};
#pragma unroll
    for (int q = 0; q < Neurons; ++q) {
      const T w2 = a_.w2[neuron(q)];
      active[q] = 0;
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (!(z[q][i] <= T(0))) {
          f[i] += z[q][i] * w2;
          active[q] |= 1u << i;
        }
    }
    halve<kHeld / 2>(f);
    return f[0] + __shfl_xor_sync(~0u, f[0], 2);
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

  // Of sample 2 i + s, from a lane that is left with it.
  static __device__ T residual_of(int i, int s, T residual) {
    return __shfl_sync(~0u, residual, i * kSharers + s);
  }

  __device__ __forceinline__ void add_to_g2(const Activations& z, const uint32_t (&active)[Neurons],
                                            T residual, bool first) const {
    T sum[Neurons] = {};
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const T r = residual_of(i, lane() % 2, residual);
#pragma unroll
      for (int q = 0; q < Neurons; ++q)
        if (active[q] >> i & 1) sum[q] += r * z[q][i];
    }
#pragma unroll
    for (int q = 0; q < Neurons; ++q) {
      sum[q] += __shfl_xor_sync(~0u, sum[q], 1);
      if (lane() % 2 != 0 || neuron(q) >= z_.m) continue;
      T* const to = a_.g2 + warp() * z_.m + neuron(q);
      *to = first ? sum[q] : *to + sum[q];
    }
  }

  __device__ __forceinline__ void add_to_g1(const T* x, const uint32_t (&active)[Neurons],
                                            T residual, Gradient& g1) const {
    const int s = lane() % 2;
    uint32_t mine[Neurons];  // bit i: active for sample 2 i + s, or 2 i; bit 8 + i: for 2 i + 1
#pragma unroll
    for (int q = 0; q < Neurons; ++q) {
      mine[q] = active[q];
      if constexpr (kHalf) {
        mine[q] <<= kHeld * s;
        mine[q] |= __shfl_xor_sync(~0u, mine[q], 1);
      }
    }
    x += kHalf ? s * kInputs : s * kPitch;
#pragma unroll kHalf ? 2 : 4
    for (int i = 0; i < kHeld; ++i, x += 2 * kPitch) {
      const uint32_t bit = 1u << i;
      add_sample(x, mine, bit, residual_of(i, kHalf ? 0 : s, residual), g1);
      if constexpr (kHalf)
        add_sample(x + kPitch, mine, bit << kHeld, residual_of(i, 1, residual), g1);
    }
  }

  static __device__ __forceinline__ void add_sample(const T* x, const uint32_t (&active)[Neurons],
                                                    uint32_t bit, T residual, Gradient& g1) {
    constexpr int kStep = kInputs % 4 == 0 ? 4 : 2;
    T dz[Neurons];
#pragma unroll
    for (int q = 0; q < Neurons; ++q) dz[q] = (active[q] & bit) != 0 ? residual : T(0);
#pragma unroll
    for (int k = 0; k < kInputs; k += kStep) {
      const Pack<T, kStep> right = pack<kStep>(x + k);
#pragma unroll
      for (int l = 0; l < kStep; ++l)
#pragma unroll
        for (int q = 0; q < Neurons; ++q) g1[q][k + l] += dz[q] * right.v[l];
    }
  }

  // Writes the warp's part, or adds to it. A lane reads and writes only its own.
  __device__ __forceinline__ void put_g1(const Gradient& g1, bool first) const {
    constexpr int kStep = kInputs % 4 == 0 ? 4 : 2;
    const int s = lane() % 2;
    T* const part = a_.g1 + warp() * z_.m * kPitch + (kHalf ? s * kInputs : 0);
#pragma unroll
    for (int q = 0; q < Neurons; ++q)
#pragma unroll
      for (int k = 0; k < kInputs; k += kStep) {
        Pack<T, kStep> sum;
#pragma unroll
        for (int l = 0; l < kStep; ++l) {
          sum.v[l] = g1[q][k + l];
          if constexpr (!kHalf) sum.v[l] += __shfl_xor_sync(~0u, sum.v[l], 1);
        }
        if (neuron(q) >= z_.m || (!kHalf && s != 0)) continue;
        T* const to = part + neuron(q) * kPitch + k;
        if (!first) {
          const Pack<T, kStep> before = pack<kStep>(to);
#pragma unroll
          for (int l = 0; l < kStep; ++l) sum.v[l] += before.v[l];
        }
        put(to, sum);
      }
  }

  // A warp without samples has zeros for its part.
  __device__ void clear() const {
    for (int e = lane(); e < z_.m * kFours; e += 32)
      put(a_.g1 + (warp() * z_.m + e / kFours) * kPitch + 4 * (e % kFours), Four<T>{});
    if (z_.train_w2)
      for (int j = lane(); j < z_.m; j += 32) a_.g2[warp() * z_.m + j] = T(0);
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
  bool arrived_ = false;  // all samples, to stay
};

}  // namespace lmc::train_ensemble
