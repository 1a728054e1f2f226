// SPDX-License-Identifier: MIT
// A block of one student's neurons: its share of the population loss, and its gradient. On memory
// the caller gives: no allocation, no threads.
//
//   L = scale [ 1/2 sum_ij (a_i.a_j) K(u_i,u_j) - sum_ik (a_i.b_k) K(u_i,v_k) ] + constant,
//
// u_i, a_i the student's neurons and output weights, v_k, b_k the teacher's. The three parts cancel
// at a minimum, so arithmetic is float64 throughout: in float32 the loss of a nearly trained
// student would be rounding noise.
//
// Lanes are neurons i; the loop runs over partners j, first the student's neurons, then the
// teacher's, each in order. Nothing of size (m,m) exists: a chunk of kPartnerChunk partners'
// coefficients is all that is kept. Neurons are cut into blocks of kNeuronBlock; a block's loss is
// summed per lane, then lane by lane, and the blocks in order. A block needs no other block, so
// they may run on any number of threads.
#pragma once

#include "common/gemm-inl.h"
#include "population_loss/arc_kernel-inl.h"
#include "population_loss/student-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kNeuronBlock = 64;  // a multiple of every kLanes
inline constexpr int64_t kPartnerChunk = 64;
inline constexpr int kPartnerTile = 4;
inline constexpr double kNearlyOpposite = 3.5;  // |u - v|^2 of unit vectors at 139 degrees

// One block's evaluation. `memory` is its own, of doubles(sizes).
class PopulationBlock {
 public:
  static int64_t doubles(const NetworkSizes& z) {
    return kLanes<double> * (kPartnerChunk + z.row_groups() * z.rows() + z.c);
  }
  LMC_INLINE PopulationBlock(const PreparedNetwork& student, double* memory)
      : student_(student),
        turns_(memory),
        direction_(turns_ + kPartnerChunk * L),
        outputs_(direction_ + student.sizes.row_groups() * student.sizes.rows() * L) {}

  // The block's share of L without scale and constant, times 2 pi. scale goes into the gradient.
  // With `teacher` null the share is of the student's own part alone.
  double evaluate(int64_t block, const PreparedNetwork* teacher, double scale,
                  const PopulationGradient& gradient) {
    const int64_t first = block * kNeuronBlock;
    const int64_t last = smaller(first + kNeuronBlock, student_.padded);
    const bool one_output = student_.sizes.c == 1;
    Vec<double> loss{};
    for (int64_t i = first; i < last; i += L) {
      if (one_output)
        loss += gradient.w1 ? lanes<true, true>(i, teacher, scale, gradient)
                            : lanes<true, false>(i, teacher, scale, gradient);
      else
        loss += gradient.w1 ? lanes<false, true>(i, teacher, scale, gradient)
                            : lanes<false, false>(i, teacher, scale, gradient);
    }
    return lane_sum<double>(loss);
  }

 private:
  static constexpr int L = kLanes<double>;

  // Sums over partners for one vector of neurons. With one output the neurons' own w2 is left out.
  struct Sums {
    Vec<double> shape, sine;
  };

  template <bool kOneOutput, bool kGradient>
  LMC_INLINE Vec<double> lanes(int64_t i, const PreparedNetwork* teacher, double scale,
                               const PopulationGradient& gradient) {
    const NetworkSizes& z = student_.sizes;
    if (kGradient)
      for (int64_t e = 0; e < z.row_groups() * z.rows() * L; e += L)
        store(direction_ + e, Vec<double>{});
    const bool outputs = !kOneOutput && gradient.w2;
    if (outputs)
      for (int64_t e = 0; e < z.c * L; e += L) store(outputs_ + e, Vec<double>{});
    Sums own{}, cross{};
    add_partners<kOneOutput, kGradient>(i, student_, outputs, own);
    if (teacher) add_partners<kOneOutput, kGradient>(i, *teacher, outputs, cross);

    const Vec<double> norm = load(student_.norm + i);
    const Vec<double> a = kOneOutput ? load(student_.w2 + i) : broadcast(1.0);
    const int64_t real = smaller(L, z.m - i);
    const double factor = scale / (2 * kPi);
    if (kGradient) {
      const auto dead = norm == 0;
      const Vec<double> sine = own.sine + cross.sine, size = factor * a;
      for (int64_t k = 0; k < z.d; ++k) {
        const Vec<double> g = size * (load(direction_ + k * L) +
                                      sine * load(student_.unit + k * student_.padded + i));
        store(direction_ + k * L, dead ? Vec<double>{} : g);
      }
      for (int64_t l = 0; l < real; ++l)
        for (int64_t k = 0; k < z.d; ++k) gradient.w1[(i + l) * z.d + k] = direction_[k * L + l];
    }
    if (gradient.w2)
      for (int64_t o = 0; o < z.c; ++o) {
        const Vec<double> shape = kOneOutput ? own.shape + cross.shape : load(outputs_ + o * L);
        const Vec<double> g = factor * norm * shape;
        for (int64_t l = 0; l < real; ++l) gradient.w2[o * z.m + i + l] = g[l];
      }
    return a * norm * (0.5 * own.shape + cross.shape);
  }

  // Not inline: eight times less to compile, and no slower.
  template <bool kOneOutput, bool kGradient>
  __attribute__((noinline)) void add_partners(int64_t i, const PreparedNetwork& partners,
                                              bool outputs, Sums& sums) {
    const int64_t count = partners.sizes.m;
    for (int64_t first = 0; first < count; first += kPartnerChunk) {
      const int64_t last = smaller(first + kPartnerChunk, count);
      double* turns = turns_;
      int64_t j = first;
      for (; last - j >= 2 * kPartnerTile; j += kPartnerTile, turns += kPartnerTile * L)
        add_tile<kPartnerTile, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
      add_last_tile<2 * kPartnerTile - 1, kOneOutput, kGradient>(last - j, i, j, partners, outputs,
                                                                 sums, turns);
      if (kGradient) add_directions<kMostRows>(partners, first, last);
    }
  }

  // The last `count` <= T partners of a chunk, in one tile: a short one would wait for itself.
  template <int T, bool kOneOutput, bool kGradient>
  LMC_INLINE void add_last_tile(int64_t count, int64_t i, int64_t j,
                                const PreparedNetwork& partners, bool outputs, Sums& sums,
                                double* turns) {
    if (count == T)
      add_tile<T, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
    else if constexpr (T > 1)
      add_last_tile<T - 1, kOneOutput, kGradient>(count, i, j, partners, outputs, sums, turns);
  }

  // T partners from j: adds to the sums, and writes weight * (pi - t) to turns (T, lanes).
  template <int T, bool kOneOutput, bool kGradient>
  LMC_INLINE void add_tile(int64_t i, int64_t j, const PreparedNetwork& partners, bool outputs,
                           Sums& sums, double* turns) {
    const NetworkSizes& z = student_.sizes;
    Vec<double> p[T], q[T], largest{};
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) p[t] = Vec<double>{};
    const double *u = student_.unit + i, *v = partners.unit + j;
    for (int64_t k = 0; k < z.d; ++k, u += student_.padded, v += partners.padded) {
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
      u = student_.unit + i;
      v = partners.unit + j;
      for (int64_t k = 0; k < z.d; ++k, u += student_.padded, v += partners.padded) {
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
      Vec<double> weight;
      if (kOneOutput) {
        weight = broadcast(partners.weight[j + t]);
      } else {
        weight = Vec<double>{};
        for (int64_t o = 0; o < z.c; ++o) {
          const double w = partners.weight[o * partners.padded + j + t];
          weight += w * load(student_.w2 + o * student_.padded + i);
          if (outputs) store(outputs_ + o * L, load(outputs_ + o * L) + w * arc.shape[t]);
        }
      }
      sums.shape += weight * arc.shape[t];
      if (kGradient) {
        sums.sine += weight * arc.sine[t];
        store(turns + t * L, weight * arc.turn[t]);
      }
    }
  }

  // direction_ (row_groups rows, lanes) += panels^T turns_ over partners [first, last).
  template <int R>
  LMC_INLINE void add_directions(const PreparedNetwork& partners, int64_t first, int64_t last) {
    if (partners.sizes.rows() != R) {
      if constexpr (R > 1) add_directions<R - 1>(partners, first, last);
      return;
    }
    for (int64_t g = 0; g < partners.sizes.row_groups(); ++g) {
      Tile<double, R, 1> tile;
      double* to = direction_ + g * R * L;
      tile.set_product(last - first, partners.panels + (g * partners.padded + first) * R, turns_);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) store(to + r * L, load(to + r * L) + tile.sum[r][0]);
    }
  }

  const PreparedNetwork& student_;
  double* turns_;      // (kPartnerChunk, lanes): weight * (pi - t) of a chunk's partners
  double* direction_;  // (row_groups rows, lanes): sum over partners of turns * unit
  double* outputs_;    // (c, lanes): sum over partners of weight_o * shape
};

}  // namespace lmc::LMC_TARGET
