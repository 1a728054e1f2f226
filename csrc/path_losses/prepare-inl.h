// SPDX-License-Identifier: MIT
// Before the first sample: how the work is cut, the packed networks, and a thread's working memory.
#pragma once

#include "path_losses/evaluate-inl.h"
#include "two_layer_relu/forward-inl.h"

namespace lmc::LMC_TARGET {

// How the work is cut, and what each piece may hold.
template <class T>
struct PathPlan {
  // A block's bins and lanes, so that they stay in the L2 cache.
  static constexpr int64_t kBlockBytes = 512 << 10;
  // What a block of a single tile may need of them: beyond it the alphas are cut, and every pass
  // computes the products again.
  static constexpr int64_t kThreadBytes = 16 << 20;
  // The sums of all spans, and the packed weights, of a group of pairs (one pair may take more).
  static constexpr int64_t kPartialBytes = 64 << 20;
  static constexpr int64_t kPackedBytes = 128 << 20;
  int64_t c4, alphas, padded_alphas, block, span, spans, pairs;
  bool count_births;

  LMC_INLINE explicit PathPlan(const path_losses::Arguments<T>& p) {
    constexpr int64_t R = kTileRows<T>;
    constexpr int64_t kDouble = sizeof(double);
    count_births = p.labels && p.c > 1;
    c4 = p.c == 1 ? 1 : round_up(p.c, 4);
    const int64_t lanes_bytes = 3 * p.c * LMC_VECTOR_BYTES, bin_bytes = 3 * c4 * kDouble;
    const int64_t most = kThreadBytes / R / bin_bytes - 1;
    alphas = smaller(p.A, larger(most, Evaluator<T>::kChunk));
    padded_alphas = round_up(alphas, Evaluator<T>::kChunk);
    const int64_t rows = kBlockBytes / (lanes_bytes + (alphas + 1) * bin_bytes);
    block = smaller(smaller(kSampleBlock, round_up(p.n, R)), larger(rows / R, 1) * R);
    span = round_up(ceil_div(p.n, 256), block);
    spans = ceil_div(p.n, span);
    const int64_t packed = (2 * p.d + 5 * p.c) * p.m * static_cast<int64_t>(sizeof(T)) + 1;
    const int64_t partial = spans * padded_alphas * (p.labels ? 2 : 1) * kDouble;
    pairs = smaller(p.P, larger(1, smaller(kPartialBytes / partial, kPackedBytes / packed)));
  }
};

// The networks of a group of pairs, packed.
template <class T>
struct PackedPairs {
  static constexpr int N = kPanel<T>;
  PackedNeurons<T> a, b;
  AlignedBuffer<T> dw2;      // (pairs,panels,c,N): w2_b - w2_a
  AlignedBuffer<T> weights;  // several outputs: (pairs,m,2,c4), w2_a and w2_b neuron by neuron

  static LMC_INLINE const T* from(const T* array, int64_t offset) {
    return array ? array + offset : nullptr;
  }
  static LMC_INLINE PackedNeurons<T> pack(const path_losses::Networks<T>& net,
                                          const two_layer_relu::Sizes& z, int64_t first,
                                          int threads) {
    return PackedNeurons<T>(z, net.w1 + first * z.m * z.d, from(net.b1, first * z.m),
                            net.w2 + first * z.c * z.m, threads);
  }
  LMC_INLINE PackedPairs(const path_losses::Arguments<T>& p, const two_layer_relu::Sizes& z,
                         int64_t first, int64_t c4, int threads)
      : a(pack(p.a, z, first, threads)),
        b(pack(p.b, z, first, threads)),
        dw2(z.S * a.panels * z.c * N),
        weights(z.c == 1 ? 0 : z.S * z.m * 2 * c4) {
    for_each_task(z.S * a.panels, threads, [&](int64_t task, int) {
      const int64_t s = task / a.panels, q = task % a.panels;
      const T *w2_a = a.w2_panel(s, q), *w2_b = b.w2_panel(s, q);
      for (int64_t e = 0; e < z.c * N; ++e) dw2[task * z.c * N + e] = w2_b[e] - w2_a[e];
      if (z.c == 1) return;
      for (int64_t j = q * N; j < smaller(z.m, (q + 1) * N); ++j) {
        T* row = &weights[(s * z.m + j) * 2 * c4];
        for (int64_t o = 0; o < c4; ++o) {
          row[o] = o < z.c ? w2_a[o * N + j % N] : T{0};
          row[c4 + o] = o < z.c ? w2_b[o * N + j % N] : T{0};
        }
      }
    });
  }
};

// One thread's working memory. The bins and births are zero between blocks.
template <class T>
struct PathScratch {
  Crossings<T>& crossings;
  T *x, *lanes;         // (block,d) packed; (3,block,c,lanes): of f(0), f(1), F_c
  double *ends, *bins;  // (3,block,c): f(0), f(1), F_c; (block,alphas + 1,3,c4)
  double* evaluator;
  int32_t *active, *births;  // to settle ties: (block) at alpha = 0; (block,alphas + 1); or null
};

// The working memory of all threads.
template <class T>
struct PathScratches {
  const bool count_births;
  const int64_t x_size, lanes_size, ends_size, bins_size, evaluator_size, active_size, births_size;
  AlignedBuffer<Crossings<T>> crossings;
  AlignedBuffer<T> x, lanes;
  AlignedBuffer<double> ends, bins, evaluator;
  AlignedBuffer<int32_t> active, births;

  LMC_INLINE PathScratches(const path_losses::Arguments<T>& p, const PathPlan<T>& plan, int threads)
      : count_births(plan.count_births),
        x_size(plan.block * p.d),
        lanes_size(3 * plan.block * p.c * kLanes<T>),
        ends_size(3 * plan.block * p.c),
        bins_size(plan.block * (plan.alphas + 1) * 3 * plan.c4),
        evaluator_size(Evaluator<T>::scratch_size(p.c, plan.c4)),
        active_size(count_births ? plan.block : 0),
        births_size(count_births ? plan.block * (plan.alphas + 1) : 0),
        crossings(threads),
        x(threads * x_size),
        lanes(threads * lanes_size),
        ends(threads * ends_size),
        bins(threads * bins_size),
        evaluator(threads * evaluator_size),
        active(threads * active_size),
        births(threads * births_size) {
    // The lists and the evaluator's chunks are read a vector at a time, beyond what was written.
    clear(crossings, threads);
    clear(evaluator, threads * evaluator_size);
    clear(bins, threads * bins_size);
    clear(births, threads * births_size);
  }
  template <class U>
  static LMC_INLINE void clear(AlignedBuffer<U>& buffer, int64_t size) {
    memset(static_cast<void*>(buffer.data()), 0, static_cast<size_t>(size) * sizeof(U));
  }
  LMC_INLINE PathScratch<T> of(int worker) {
    return {crossings[worker],
            &x[worker * x_size],
            &lanes[worker * lanes_size],
            &ends[worker * ends_size],
            &bins[worker * bins_size],
            &evaluator[worker * evaluator_size],
            count_births ? &active[worker * active_size] : nullptr,
            count_births ? &births[worker * births_size] : nullptr};
  }
};

}  // namespace lmc::LMC_TARGET
