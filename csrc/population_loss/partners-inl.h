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

// Where the terms of a run of partners go. With one output a neuron's own a is left out: what i
// gets from j has the weight a_j |u_j|, what j gets from i has a_i |u_i|. With more they are
// products: a_i.a_j |u_j| and a_i.a_j |u_i|.
struct PartnerTerms {
  double* turns;          // (partners, lanes): pi - t, with its weight for i if c > 1
  double* column_turns;   // the same with its weight for j if c > 1; else not used
  double* columns;        // (1 + c, column_stride): (partners, lanes) each, to which what j gets is
  int64_t column_stride;  // added: sine, and where `outputs` is not null, shape a_oi |u_i|
  double* outputs;        // sums over j of shape a_oj |u_j|, `stride` between outputs, if c > 1;
  int64_t stride;         // null: not wanted
};

// kColumns: fills `columns` too.
template <bool kOneOutput, bool kGradient, bool kColumns>
class Partners {
  static constexpr int L = kLanes<double>;

 public:
  LMC_INLINE Partners(const PreparedNetwork& neurons, int64_t i, const PreparedNetwork& partners)
      : neurons_(neurons), partners_(partners), i_(i) {}

  // Partners first <= j < last.
  LMC_INLINE void add(int64_t first, int64_t last, PartnerTerms to, PartnerSums& sums) const {
    int64_t j = first;
    for (; last - j >= 2 * kPartnerTile; j += kPartnerTile) {
      add_tile<kPartnerTile>(j, to, sums);
      to.turns += kPartnerTile * L;
      to.column_turns += kPartnerTile * L;
      to.columns += kPartnerTile * L;
    }
    add_last_tile<2 * kPartnerTile - 1>(last - j, j, to, sums);
  }

 private:
  // The last `count` <= T partners, in one tile: a short one would wait for itself.
  template <int T>
  LMC_INLINE void add_last_tile(int64_t count, int64_t j, const PartnerTerms& to,
                                PartnerSums& sums) const {
    if (count == T)
      add_tile<T>(j, to, sums);
    else if constexpr (T > 1)
      add_last_tile<T - 1>(count, j, to, sums);
  }

  template <int T>
  LMC_INLINE void add_tile(int64_t j, const PartnerTerms& to, PartnerSums& sums) const {
    const int64_t d = neurons_.sizes.d, c = neurons_.sizes.c;
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
      const Vec<double> shape = arc.shape[t];
      const Vec<double> weight = kOneOutput ? broadcast(partners_.weight[j + t])
                                            : products(neurons_.w2, partners_.weight, j + t);
      sums.shape += weight * shape;
      if (!kGradient) continue;
      const Vec<double> sine = arc.sine[t], turn = arc.turn[t];
      sums.sine += weight * sine;
      store(to.turns + t * L, kOneOutput ? turn : weight * turn);
      if (!kOneOutput && to.outputs) add_outputs(j + t, shape, to);
      if (!kColumns) continue;
      const Vec<double> column_weight =
          kOneOutput ? load(neurons_.weight + i_) : products(neurons_.weight, partners_.w2, j + t);
      if (!kOneOutput) store(to.column_turns + t * L, column_weight * turn);
      double* column = to.columns + t * L;
      store(column, load(column) + column_weight * sine);
      for (int64_t o = 0; to.outputs && o < (kOneOutput ? 1 : c); ++o) {
        column += to.column_stride;
        store(column, load(column) + load(neurons_.weight + o * neurons_.padded + i_) * shape);
      }
    }
  }

  // sum over outputs o of neurons[o][i] * partners[o][j].
  LMC_INLINE Vec<double> products(const double* neurons, const double* partners, int64_t j) const {
    Vec<double> sum{};
    for (int64_t o = 0; o < neurons_.sizes.c; ++o)
      sum += partners[o * partners_.padded + j] * load(neurons + o * neurons_.padded + i_);
    return sum;
  }

  LMC_INLINE void add_outputs(int64_t j, Vec<double> shape, const PartnerTerms& to) const {
    for (int64_t o = 0; o < neurons_.sizes.c; ++o) {
      double* output = to.outputs + o * to.stride;
      store(output, load(output) + partners_.weight[o * partners_.padded + j] * shape);
    }
  }

  const PreparedNetwork &neurons_, &partners_;
  const int64_t i_;
};

}  // namespace lmc::LMC_TARGET
