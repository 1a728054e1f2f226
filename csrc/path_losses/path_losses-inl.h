// SPDX-License-Identifier: MIT
// A task owns a span of samples of one pair and works through it block by block. For a block it
// computes the pre-activations of both networks tile by tile in registers and at once reduces each
// pair of tiles to its share of f(0), f(1) and F_c, lane by lane, and to the crossings, which go to
// the samples' bins. When all neurons are done, every sample's bins become losses, added to the
// span's sums.
//
// Order of accumulation: f(0) and f(1) as in two_layer_relu (through the same function); F_c
// likewise; the bins of a sample neuron by neuron; losses sample by sample within a span, then span
// by span. Blocks and spans depend on n, c and A only.
#pragma once

#include "path_losses/prepare-inl.h"

namespace lmc::LMC_TARGET {

template <class T>
struct PathBlocks {
  static constexpr int R = kTileRows<T>, V = kPanelVectors<T>, L = kLanes<T>, N = kPanel<T>;
  using PathTile = Tile<T, R, V>;
  const path_losses::Arguments<T>& p;
  const PathPlan<T>& plan;
  Grid& grid;
  PackedPairs<T>& nets;
  int64_t first_alpha, alphas;  // the alphas of this pass

  // Reduces a pair of tiles (rows of the block from `row`, panel q).
  template <bool kOne, bool kTail>
  LMC_INLINE void finish_tiles(const PathTile& z_a, const PathTile& z_b, int64_t s, int64_t q,
                               int64_t row, int64_t rows, const PathScratch<T>& scratch) {
    const int64_t c = kOne ? 1 : p.c, bins = alphas + 1, size = plan.block * c * L;
    const T *w2_a = nets.a.w2_panel(s, q), *w2_b = nets.b.w2_panel(s, q);
    const T* dw2 = &nets.dw2[(s * nets.a.panels + q) * c * N];
    Crossings<T>& list = scratch.crossings;
    int64_t crossings = 0;
#pragma GCC unroll 1
    for (int r = 0; r < R; ++r) {
      if (r >= rows) break;
      Vec<T> h_a[V], h_b[V], e[V];
      const uint64_t on_a = relu_panel<T, kTail>(z_a.sum[r], p.m, q, h_a);
      const uint64_t on_b = relu_panel<T, kTail>(z_b.sum[r], p.m, q, h_b);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        e[v] = keep<T>(static_cast<LaneBits>(on_a >> (v * L)), z_a.sum[r][v] - z_b.sum[r][v]);
      if (!kOne && scratch.births) scratch.active[row + r] += __builtin_popcountll(on_a);
      T* lanes = scratch.lanes + (row + r) * c * L;
      add_to_outputs(h_a, c, w2_a, lanes);
      add_to_outputs(h_b, c, w2_b, lanes + size);
      add_to_outputs(e, c, dw2, lanes + 2 * size);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const auto bits =
            static_cast<LaneBits>((on_a ^ on_b) >> (v * L)) & ((LaneBits{2} << (L - 1)) - 1);
        list.put(crossings, bits, z_a.sum[r][v], z_b.sum[r][v],
                 static_cast<IntOf<T>>((row + r) * bins));
        if (kOne)
          list.put_weights(crossings, bits, load(w2_a + v * L), load(w2_b + v * L));
        else
          list.put_neurons(crossings, bits, neurons_of(q * N + v * L));
        crossings += __builtin_popcount(bits);
      }
    }
    list.count = crossings;
    list.locate(grid, first_alpha, bins);
    if (kOne)
      list.scatter_one(scratch.bins);
    else
      list.scatter_many(plan.c4, &nets.weights[s * p.m * 2 * plan.c4], scratch.bins,
                        scratch.births);
  }
  static LMC_INLINE IntVec<T> neurons_of(int64_t first) {
    IntVec<T> numbers;
    for (int l = 0; l < L; ++l) numbers[l] = static_cast<IntOf<T>>(first + l);
    return numbers;
  }

  // All neurons of pair s for samples [first, first + count): fills the scratch's ends and bins.
  template <bool kOne>
  LMC_INLINE void run_neurons(int64_t s, int64_t pair, int64_t first, int64_t count,
                              const PathScratch<T>& scratch) {
    const int64_t c = kOne ? 1 : p.c, size = plan.block * c, chunk_panels = kNeuronChunk / N;
    pack_panels<T, R>(p.x + first * p.d, count, p.d, p.d, 0, ceil_div(count, R), scratch.x);
    for (int64_t e = 0; e < count * c; ++e) {
      scratch.ends[e] = p.a.b2 ? static_cast<double>(p.a.b2[pair * c + e % c]) : 0.0;
      scratch.ends[size + e] = p.b.b2 ? static_cast<double>(p.b.b2[pair * c + e % c]) : 0.0;
      scratch.ends[2 * size + e] = 0.0;
    }
    if (scratch.births) memset(scratch.active, 0, static_cast<size_t>(count) * sizeof(int32_t));
    for (int64_t start = 0; start < nets.a.panels; start += chunk_panels) {
      for (int64_t part = 0; part < 3; ++part)
        memset(&scratch.lanes[part * size * L], 0, static_cast<size_t>(count * c * L) * sizeof(T));
      for (int64_t q = start; q < smaller(nets.a.panels, start + chunk_panels); ++q)
        for (int64_t row = 0; row < count; row += R) {
          PathTile z_a, z_b;
          z_a.set_product(p.d, &scratch.x[row * p.d], nets.a.w1_panel(s, q));
          z_a.add_to_rows(nets.a.b1_panel(s, q));
          z_b.set_product(p.d, &scratch.x[row * p.d], nets.b.w1_panel(s, q));
          z_b.add_to_rows(nets.b.b1_panel(s, q));
          if ((q + 1) * N > p.m)
            finish_tiles<kOne, true>(z_a, z_b, s, q, row, count - row, scratch);
          else
            finish_tiles<kOne, false>(z_a, z_b, s, q, row, count - row, scratch);
        }
      for (int64_t part = 0; part < 3; ++part)
        for (int64_t e = 0; e < count * c; ++e)
          scratch.ends[part * size + e] += lane_sum<T>(load(&scratch.lanes[(part * size + e) * L]));
    }
    // The outputs of two_layer_relu are of type T.
    for (int64_t e = 0; e < count * c; ++e) {
      scratch.ends[e] = static_cast<double>(static_cast<T>(scratch.ends[e]));
      scratch.ends[size + e] = static_cast<double>(static_cast<T>(scratch.ends[size + e]));
    }
  }

  LMC_INLINE void add_block(int64_t s, int64_t pair, int64_t first, int64_t count,
                            const PathScratch<T>& scratch, double* losses, double* correct) {
    if (p.c == 1)
      run_neurons<true>(s, pair, first, count, scratch);
    else
      run_neurons<false>(s, pair, first, count, scratch);
    double* sums = scratch.evaluator;
    const T* b2_a = p.a.b2 ? p.a.b2 + pair * p.c : nullptr;
    const T* b2_b = p.b.b2 ? p.b.b2 + pair * p.c : nullptr;
    Evaluator<T> evaluator{p, plan.c4, b2_a, b2_b, sums, sums + 3 * plan.c4};
    for (int64_t i = 0; i < count; ++i) {
      const double *f_a = &scratch.ends[i * p.c], *f_b = f_a + plan.block * p.c;
      const PathSample sample{first + i,
                              f_a,
                              f_b,
                              f_b + plan.block * p.c,
                              &scratch.bins[i * (alphas + 1) * 3 * plan.c4],
                              scratch.births ? scratch.active[i] : 0,
                              scratch.births ? &scratch.births[i * (alphas + 1)] : nullptr};
      evaluator.add_sample(sample, first_alpha, alphas, losses, correct);
    }
  }
};

template <class T>
void path_losses_of(const path_losses::Arguments<T>& p, int threads) {
  const PathPlan<T> plan(p);
  Grid grid(p.alphas, p.A);
  const int64_t kinds = p.labels ? 2 : 1;  // sums: of losses, and of right classifications
  const int64_t sums_size = kinds * plan.padded_alphas;
  PathScratches<T> scratches(p, plan, static_cast<int>(smaller(threads, plan.pairs * plan.spans)));
  AlignedBuffer<double> partial(plan.pairs * plan.spans * sums_size);

  for (int64_t pair = 0; pair < p.P; pair += plan.pairs) {
    const two_layer_relu::Sizes z{smaller(plan.pairs, p.P - pair), p.n, p.d, p.m, p.c, true};
    PackedPairs<T> nets(p, z, pair, plan.c4, threads);
    for (int64_t first = 0; first < p.A; first += plan.alphas) {
      PathBlocks<T> blocks{p, plan, grid, nets, first, smaller(plan.alphas, p.A - first)};
      for_each_task(z.S * plan.spans, threads, [&](int64_t task, int worker) {
        const int64_t s = task / plan.spans, start = task % plan.spans * plan.span;
        const int64_t end = smaller(p.n, start + plan.span);
        double* losses = &partial[task * sums_size];
        double* correct = losses + (kinds - 1) * plan.padded_alphas;
        memset(losses, 0, static_cast<size_t>(sums_size) * sizeof(double));
        const PathScratch<T> scratch = scratches.of(worker);
        for (int64_t i = start; i < end; i += plan.block)
          blocks.add_block(s, pair + s, i, smaller(plan.block, end - i), scratch, losses, correct);
      });
      for (int64_t s = 0; s < z.S; ++s)
        for (int64_t kind = 0; kind < kinds; ++kind)
          for (int64_t k = 0; k < blocks.alphas; ++k) {
            double sum = 0;
            for (int64_t t = 0; t < plan.spans; ++t)
              sum += partial[(s * plan.spans + t) * sums_size + kind * plan.padded_alphas + k];
            sum /= static_cast<double>(p.n);
            double* to = kind == 0 ? p.losses : p.accuracies;
            to[(pair + s) * p.A + first + k] = kind == 0 && p.y ? sum / 2 : sum;
          }
    }
  }
}

}  // namespace lmc::LMC_TARGET

namespace lmc::path_losses::LMC_TARGET {

extern const Kernels<float> kernels_float32{lmc::LMC_TARGET::path_losses_of<float>};
extern const Kernels<double> kernels_float64{lmc::LMC_TARGET::path_losses_of<double>};

}  // namespace lmc::path_losses::LMC_TARGET
