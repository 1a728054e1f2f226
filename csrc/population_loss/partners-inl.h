// SPDX-License-Identifier: MIT
// One vector of a network's neurons i (lanes) against a run of partners j: what of the population
// loss and its gradient is a function of their angles. Partners are taken in tiles, so that the
// polynomials' chains of dependent operations overlap.
#pragma once

#include "common/gemm-inl.h"
#include "population_loss/arc_kernel-inl.h"
#include "population_loss/prepared_network-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int kPartnerTile = 4;
inline constexpr double kNearlyOpposite = 3.5;  // |u - v|^2 of unit vectors at 139 degrees

// Sums over partners for one vector of neurons, but for the neurons' own factor.
struct PartnerSums {
  Vec<double> shape, sine;
};

// Where the terms of a run of partners go: (partners, lanes) each. With one output a neuron's own a
// is left out: what i gets from j has the weight a_j |u_j|, what j gets from i has a_i |u_i|. With
// more they are products: a_i.a_j |u_j| and a_i.a_j |u_i|.
struct PartnerTerms {
  double* turns;         // pi - t; with more outputs times its weight for i,
  double* column_turns;  // and here for j
  double* shapes;        // only with more outputs; null: not wanted
  double* column_sine;   // sums over i of what j gets: to this is added
  double* column_shape;  // only with one output; null: not wanted
};

LMC_INLINE void add_to(double* sum, Vec<double> v) { store(sum, load(sum) + v); }

// kColumns: fills the columns too.
template <bool kOneOutput, bool kGradient, bool kColumns>
class Partners {
  static constexpr int L = kLanes<double>;

 public:
  LMC_INLINE Partners(const PreparedNetwork& neurons, int64_t i, const PreparedNetwork& partners)
      : neurons_(neurons), partners_(partners), i_(i) {}

  // Partners first <= j < last; j's terms are number place + j - first.
  LMC_INLINE void add(int64_t first, int64_t last, int64_t place, const PartnerTerms& to,
                      PartnerSums& sums) const {
    int64_t j = first;
    for (; last - j >= 2 * kPartnerTile; j += kPartnerTile)
      add_tile<kPartnerTile>(j, place + j - first, to, sums);
    add_last_tile<2 * kPartnerTile - 1>(last - j, j, place + j - first, to, sums);
  }

 private:
  // The last `count` <= T partners, in one tile: a short one would wait for itself.
  template <int T>
  LMC_INLINE void add_last_tile(int64_t count, int64_t j, int64_t place, const PartnerTerms& to,
                                PartnerSums& sums) const {
    if (count == T)
      add_tile<T>(j, place, to, sums);
    else if constexpr (T > 1)
      add_last_tile<T - 1>(count, j, place, to, sums);
  }

  template <int T>
  LMC_INLINE void add_tile(int64_t j, int64_t place, const PartnerTerms& to,
                           PartnerSums& sums) const {
    const int64_t d = neurons_.sizes.d;
    Vec<double> p[T], q[T], largest{};
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) p[t] = Vec<double>{};
    const double *u = neurons_.unit + i_, *v = partners_.unit + j;
    for (int64_t k = 0; k < d; ++k, u += neurons_.padded, v += partners_.padded) {
      const Vec<double> component = load(u);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Vec<double> difference = component - v[t];
        p[t] += difference * difference;
      }
    }
    // p + q = 4. Only for nearly opposite vectors does q have to be summed by itself.
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      q[t] = 4.0 - p[t];
      largest = p[t] > largest ? p[t] : largest;
    }
    if (__builtin_expect(active_lanes(largest - kNearlyOpposite) != 0, false)) {
      Vec<double> sum[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sum[t] = Vec<double>{};
      u = neurons_.unit + i_;
      v = partners_.unit + j;
      for (int64_t k = 0; k < d; ++k, u += neurons_.padded, v += partners_.padded) {
        const Vec<double> component = load(u);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const Vec<double> total = component + v[t];
          sum[t] += total * total;
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) q[t] = p[t] > kNearlyOpposite ? sum[t] : q[t];
    }
    const ArcKernel<T> arc = arc_kernel<T, kGradient>(p, q);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const int64_t term = (place + t) * L;
      const Vec<double> shape = arc.shape[t];
      const Vec<double> weight = kOneOutput ? broadcast(partners_.weight[j + t])
                                            : products(neurons_.w2, partners_.weight, j + t);
      sums.shape += weight * shape;
      if (!kGradient) continue;
      const Vec<double> sine = arc.sine[t], turn = arc.turn[t];
      sums.sine += weight * sine;
      store(to.turns + term, kOneOutput ? turn : weight * turn);
      if (!kOneOutput && to.shapes) store(to.shapes + term, shape);
      if (!kColumns) continue;
      const Vec<double> column_weight =
          kOneOutput ? load(neurons_.weight + i_) : products(neurons_.weight, partners_.w2, j + t);
      if (!kOneOutput) store(to.column_turns + term, column_weight * turn);
      add_to(to.column_sine + term, column_weight * sine);
      if (kOneOutput && to.column_shape) add_to(to.column_shape + term, column_weight * shape);
    }
  }

  // sum over outputs o of neurons[o][i] * partners[o][j].
  LMC_INLINE Vec<double> products(const double* neurons, const double* partners, int64_t j) const {
    Vec<double> sum{};
    for (int64_t o = 0; o < neurons_.sizes.c; ++o)
      sum += partners[o * partners_.padded + j] * load(neurons + o * neurons_.padded + i_);
    return sum;
  }

  const PreparedNetwork &neurons_, &partners_;
  const int64_t i_;
};

}  // namespace lmc::LMC_TARGET
