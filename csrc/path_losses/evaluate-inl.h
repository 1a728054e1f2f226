// SPDX-License-Identifier: MIT
// From one sample's bins to its losses at all alphas. Everything is float64, and the sample's terms
// are added to the running sums in the order of the samples.
#pragma once

#include "common/math-inl.h"
#include "path_losses/crossings-inl.h"
#include "path_losses/path_losses.h"

namespace lmc::LMC_TARGET {

// What the neurons leave behind for one sample.
struct PathSample {
  int64_t index;                  // in 0 ... n-1
  const double *f_a, *f_b, *F_c;  // (c): f(0), f(1), and F_c of the neurons active at alpha = 0
  double* bins;                   // (alphas + 1, 3, c4)
  int32_t active;                 // how many neurons are active at alpha = 0
  int32_t* births;                // (alphas + 1): births less deaths; null: not counted
};

template <class T>
struct Evaluator {
  static constexpr int64_t kChunk = 64;  // alphas whose outputs are held at one time
  static constexpr int L = kLanes<double>;
  const path_losses::Arguments<T>& p;
  const int64_t c4;      // outputs as the bins are padded
  const T *b2_a, *b2_b;  // (c) of this pair, or null
  double *sums, *f;      // scratch: (3,c4) running sums, (c,kChunk) outputs

  static LMC_INLINE int64_t scratch_size(int64_t c, int64_t c4) { return 3 * c4 + c * kChunk; }

  // Adds a sample's losses at alphas[first ... first + count) to losses, and 1 to correct where it
  // is classified right; both have room for count rounded up to kChunk. Its bins are zeroed.
  LMC_INLINE void add_sample(const PathSample& sample, int64_t first, int64_t count, double* losses,
                             double* correct) {
    start(sample, count);
    int32_t active = sample.active;
    for (int64_t k = 0; k < count; k += kChunk) {
      const int64_t filled = smaller(kChunk, count - k);
      const double* alphas = p.alphas + first + k;
      if (p.c == 1)
        run_one(alphas, filled, sample.bins + k * 3);
      else
        run_many(alphas, filled, sample.bins + k * 3 * c4);
      if (sample.births) active = settle_ties(alphas, filled, active, sample.births + k);
      for (int64_t q = 0; q < filled && alphas[q] == 0.0; ++q) set_outputs(q, sample.f_a);
      for (int64_t q = filled; q > 0 && alphas[q - 1] == 1.0; --q) set_outputs(q - 1, sample.f_b);
      if (p.y)
        add_squares(p.y + sample.index * p.c, filled, losses + k);
      else
        add_cross_entropies(p.labels[sample.index], filled, losses + k, correct + k);
    }
    memset(sample.bins + count * 3 * c4, 0, static_cast<size_t>(3 * c4) * sizeof(double));
    if (sample.births) sample.births[count] = 0;
  }

 private:
  LMC_INLINE void set_outputs(int64_t q, const double* outputs) {
    for (int64_t o = 0; o < p.c; ++o) f[o * kChunk + q] = outputs[o];
  }

  // The sums (F_a, F_b, F_c) before the first bin. f(1) already holds every birth and no death, so
  // F_b starts without all the bins' terms and regains them.
  LMC_INLINE void start(const PathSample& sample, int64_t count) {
    double* totals = sums + c4;
    memset(sums, 0, static_cast<size_t>(3 * c4) * sizeof(double));
    if (p.c == 1) {
      double total[4] = {};  // of every fourth bin, so that an addition need not wait for the last
      int64_t k = 0;
      for (; k + 3 <= count; k += 4)
        for (int64_t e = 0; e < 4; ++e) total[e] += sample.bins[(k + e) * 3 + 1];
      for (; k <= count; ++k) total[0] += sample.bins[k * 3 + 1];
      totals[0] = (total[0] + total[1]) + (total[2] + total[3]);
    } else {
      for (int64_t k = 0; k <= count; ++k)
        for (int64_t o = 0; o < c4; ++o) totals[o] += sample.bins[(k * 3 + 1) * c4 + o];
    }
    for (int64_t o = 0; o < p.c; ++o) {
      sums[o] = sample.f_a[o];
      sums[c4 + o] = sample.f_b[o] - totals[o];
      sums[2 * c4 + o] = sample.F_c[o];
    }
  }

  // F_a + alpha (F_b - F_a + (1 - alpha) F_c): equal ends without crossings give exactly their
  // value.
  template <class V>
  static LMC_INLINE V blend(V alpha, V F_a, V F_b, V F_c) {
    return F_a + alpha * ((F_b - F_a) + (1.0 - alpha) * F_c);
  }

  LMC_INLINE void run_one(const double* alphas, int64_t count, double* bins) {
    alignas(64) double F_a[kChunk], F_b[kChunk], F_c[kChunk], alpha[kChunk];
    double a = sums[0], b = sums[1], c = sums[2];
    for (int64_t q = 0; q < count; ++q) {
      F_a[q] = a += bins[3 * q];
      F_b[q] = b += bins[3 * q + 1];
      F_c[q] = c += bins[3 * q + 2];
      alpha[q] = alphas[q];
    }
    for (int64_t q = count; q < round_up(count, L); ++q) F_a[q] = F_b[q] = F_c[q] = alpha[q] = 0;
    sums[0] = a, sums[1] = b, sums[2] = c;
    memset(bins, 0, static_cast<size_t>(3 * count) * sizeof(double));
    for (int64_t q = 0; q < count; q += L)
      store(f + q,
            blend<Vec<double>>(load(alpha + q), load(F_a + q), load(F_b + q), load(F_c + q)));
  }

  LMC_INLINE void run_many(const double* alphas, int64_t count, double* bins) {
    for (int64_t q = 0; q < count; ++q) {
      double* bin = bins + q * 3 * c4;
      for (int64_t e = 0; e < 3 * c4; ++e) {
        sums[e] += bin[e];
        bin[e] = 0;
      }
      for (int64_t o = 0; o < p.c; ++o)
        f[o * kChunk + q] = blend<double>(alphas[q], sums[o], sums[c4 + o], sums[2 * c4 + o]);
    }
  }

  // Where no neuron is active the outputs are the biases, and without biases they are all equal.
  // Rounding in the sums would decide such ties at random, and with them the accuracy. Takes and
  // returns the number of active neurons before and after; zeroes the births.
  LMC_INLINE int32_t settle_ties(const double* alphas, int64_t count, int32_t active,
                                 int32_t* births) {
    for (int64_t q = 0; q < count; ++q) {
      active += births[q];
      births[q] = 0;
      for (int64_t o = 0; active == 0 && o < p.c; ++o)
        f[o * kChunk + q] = blend<double>(alphas[q], b2_a ? static_cast<double>(b2_a[o]) : 0.0,
                                          b2_b ? static_cast<double>(b2_b[o]) : 0.0, 0.0);
    }
    return active;
  }

  LMC_INLINE void add_squares(const T* y, int64_t count, double* losses) {
    for (int64_t q = 0; q < count; q += L) {
      Vec<double> sum = load(losses + q);
      for (int64_t o = 0; o < p.c; ++o) {
        const Vec<double> r = load(f + o * kChunk + q) - static_cast<double>(y[o]);
        sum += r * r;
      }
      store(losses + q, sum);
    }
  }

  LMC_INLINE void add_cross_entropies(int64_t label, int64_t count, double* losses,
                                      double* correct) {
    for (int64_t q = 0; q < count; q += L) {
      Vec<double> largest = load(f + q);
      for (int64_t o = 1; o < p.c; ++o) {
        const Vec<double> other = load(f + o * kChunk + q);
        largest = other > largest ? other : largest;
      }
      const Vec<double> chosen = load(f + label * kChunk + q);
      // Right when the label's output is the largest, and the first one that is.
      Vec<double> right = chosen == largest ? broadcast(1.0) : Vec<double>{};
      Vec<double> sum{};
      for (int64_t o = 0; o < p.c; ++o) {
        const Vec<double> output = load(f + o * kChunk + q);
        sum += vector_exp(output - largest);
        if (o < label) right = output == largest ? Vec<double>{} : right;
      }
      store(losses + q, load(losses + q) + (vector_log(sum) + (largest - chosen)));
      store(correct + q, load(correct + q) + right);
    }
  }
};

}  // namespace lmc::LMC_TARGET
