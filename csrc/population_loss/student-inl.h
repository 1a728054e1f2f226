// SPDX-License-Identifier: MIT
// Population loss and gradient of one student, on memory the caller gives: no allocation, no
// threads. The op itself and the ensemble trainer both call it.
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

namespace lmc::LMC_TARGET {

inline constexpr int64_t kNeuronBlock = 64;  // a multiple of every kLanes
inline constexpr int64_t kPartnerChunk = 64;
inline constexpr int kPartnerTile = 4;
inline constexpr int64_t kMostRows = 12;  // accumulators of the gradient product

// The sizes of one network's prepared form; see PreparedNetwork.
struct NetworkSizes {
  int64_t m, d, c;
  int64_t padded() const { return round_up(m, kLanes<double>); }
  // Input dimensions are processed in equal groups of at most kMostRows.
  int64_t row_groups() const { return ceil_div(d, kMostRows); }
  int64_t rows() const { return ceil_div(d, row_groups()); }
  int64_t doubles() const { return padded() * (d + row_groups() * rows() + 1 + 2 * c); }
};

// A network's neurons as directions and lengths, in memory of sizes.doubles() doubles. Padding
// neurons are zero, and a zero neuron has length 0 and direction 0: then p = q = 1 for every
// partner, which is harmless, and all its products are exactly zero.
struct PreparedNetwork {
  NetworkSizes sizes;
  int64_t padded;
  double* unit;    // (d,padded)
  double* panels;  // (row_groups,padded,rows): the same, as the gradient product reads it
  double* norm;    // (padded)
  double* w2;      // (c,padded)
  double* weight;  // (c,padded): w2 * norm

  LMC_INLINE PreparedNetwork(const NetworkSizes& z, double* memory)
      : sizes(z),
        padded(z.padded()),
        unit(memory),
        panels(unit + z.d * padded),
        norm(panels + z.row_groups() * z.rows() * padded),
        w2(norm + padded),
        weight(w2 + z.c * padded) {}

  // Fills in neurons [first, last), multiples of the lanes (last may be `padded`), from w1 (m,d),
  // w2 (c,m).
  LMC_INLINE void prepare(int64_t first, int64_t last, const double* w1, const double* w2_in) {
    for (int64_t i = first; i < last; i += kLanes<double>) prepare_lanes(i, w1, w2_in);
  }

 private:
  void prepare_lanes(int64_t i, const double* w1, const double* w2_in) {
    constexpr int L = kLanes<double>;
    const int64_t real = smaller(L, sizes.m - i);
    double* u = unit + i;
    Vec<double> largest{};
    for (int64_t k = 0; k < sizes.d; ++k) {
      Vec<double> lanes{};
      for (int64_t l = 0; l < real; ++l) lanes[l] = w1[(i + l) * sizes.d + k];
      store(u + k * padded, lanes);
      const Vec<double> size = lanes < 0 ? -lanes : lanes;
      largest = size > largest ? size : largest;
    }
    // Squares of huge or tiny components leave float64's range; a power of two brings them back
    // exactly.
    const auto huge = largest > 0x1p500, tiny = largest < 0x1p-500;
    const Vec<double> up = broadcast(0x1p600), down = broadcast(0x1p-600), one = broadcast(1.0);
    const Vec<double> factor = huge ? down : (tiny ? up : one);
    Vec<double> square{};
    for (int64_t k = 0; k < sizes.d; ++k) {
      const Vec<double> scaled = factor * load(u + k * padded);
      square += scaled * scaled;
    }
    const Vec<double> root = square_root(square), inverse = 1.0 / root;
    const Vec<double> length = root * (huge ? up : (tiny ? down : one));
    store(norm + i, length);
    const auto dead = square == 0;  // false for NaN, which thus reaches the loss
    for (int64_t k = 0; k < sizes.d; ++k) {
      const Vec<double> direction = factor * load(u + k * padded) * inverse;
      store(u + k * padded, dead ? Vec<double>{} : direction);
    }
    const int64_t rows = sizes.rows();
    for (int64_t k = 0; k < sizes.row_groups() * rows; ++k)
      for (int64_t l = 0; l < L; ++l)
        panels[(k / rows * padded + i + l) * rows + k % rows] =
            k < sizes.d ? u[k * padded + l] : 0.0;
    for (int64_t o = 0; o < sizes.c; ++o) {
      Vec<double> a{};
      for (int64_t l = 0; l < real; ++l) a[l] = w2_in[o * sizes.m + i + l];
      store(w2 + o * padded + i, a);
      store(weight + o * padded + i, a * length);
    }
  }
};

// What a block writes; null: not wanted.
struct PopulationGradient {
  double *w1, *w2;  // (m,d), (c,m), overwritten for the block's neurons
};

// One block's evaluation. `memory` is its own, of block_doubles(sizes).
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
        const Vec<double> kept = dead ? Vec<double>{} : g;
        for (int64_t l = 0; l < real; ++l) gradient.w1[(i + l) * z.d + k] = kept[l];
      }
    }
    if (gradient.w2)
      for (int64_t o = 0; o < z.c; ++o) {
        const Vec<double> shape = kOneOutput ? own.shape + cross.shape : load(outputs_ + o * L);
        const Vec<double> g = factor * norm * shape;
        for (int64_t l = 0; l < real; ++l) gradient.w2[o * z.m + i + l] = g[l];
      }
    return a * norm * (0.5 * own.shape + cross.shape);
  }

  template <bool kOneOutput, bool kGradient>
  LMC_INLINE void add_partners(int64_t i, const PreparedNetwork& partners, bool outputs,
                               Sums& sums) {
    const int64_t count = partners.sizes.m;
    for (int64_t first = 0; first < count; first += kPartnerChunk) {
      const int64_t last = smaller(first + kPartnerChunk, count);
      double* turns = turns_;
      int64_t j = first;
      for (; j + kPartnerTile <= last; j += kPartnerTile, turns += kPartnerTile * L)
        add_tile<kPartnerTile, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
      if (last - j == 3)
        add_tile<3, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
      else if (last - j == 2)
        add_tile<2, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
      else if (last - j == 1)
        add_tile<1, kOneOutput, kGradient>(i, j, partners, outputs, sums, turns);
      if (kGradient) add_directions<kMostRows>(partners, first, last);
    }
  }

  // T partners from j: adds to the sums, and writes weight * (pi - t) to turns (T, lanes).
  template <int T, bool kOneOutput, bool kGradient>
  LMC_INLINE void add_tile(int64_t i, int64_t j, const PreparedNetwork& partners, bool outputs,
                           Sums& sums, double* turns) {
    const NetworkSizes& z = student_.sizes;
    Vec<double> p[T], q[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) p[t] = q[t] = Vec<double>{};
    const double *u = student_.unit + i, *v = partners.unit + j;
    for (int64_t k = 0; k < z.d; ++k, u += student_.padded, v += partners.padded) {
      const Vec<double> component = load(u);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Vec<double> difference = component - v[t], sum = component + v[t];
        p[t] += difference * difference;
        q[t] += sum * sum;
      }
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
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) tile.sum[r][0] = load(to + r * L);
      tile.add_product(last - first, partners.panels + (g * partners.padded + first) * R, turns_);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) store(to + r * L, tile.sum[r][0]);
    }
  }

  const PreparedNetwork& student_;
  double* turns_;      // (kPartnerChunk, lanes): weight * (pi - t) of a chunk's partners
  double* direction_;  // (row_groups rows, lanes): sum over partners of turns * unit
  double* outputs_;    // (c, lanes): sum over partners of weight_o * shape
};

inline int64_t neuron_blocks(const NetworkSizes& z) { return ceil_div(z.padded(), kNeuronBlock); }

// The teacher, prepared once for any number of students. It carries the factor of the inputs'
// distribution (E[x_k^2]) and the constant part of the loss.
class PopulationTeacher {
 public:
  // v1 (M,d), v2 (c,M).
  LMC_INLINE PopulationTeacher(const NetworkSizes& z, const double* v1, const double* v2,
                               double scale)
      : memory_(z.doubles()), network_(z, memory_.data()), scale_(scale) {
    AlignedBuffer<double> block_memory(PopulationBlock::doubles(z));
    network_.prepare(0, network_.padded, v1, v2);
    PopulationBlock block(network_, block_memory.data());
    double own = 0;
    for (int64_t b = 0; b < neuron_blocks(z); ++b) own += block.evaluate(b, nullptr, scale, {});
    constant_ = own;
    // From here on its terms count negatively: f - f*.
    for (int64_t e = 0; e < z.c * network_.padded; ++e) network_.weight[e] = -network_.weight[e];
  }
  const PreparedNetwork* network() const { return &network_; }
  double scale() const { return scale_; }
  // The loss from the students' shares, summed over blocks in order.
  double loss(double shares) const { return scale_ / (2 * kPi) * (shares + constant_); }

 private:
  AlignedBuffer<double> memory_;
  PreparedNetwork network_;
  double scale_, constant_;
};

// Doubles of scratch memory for one student.
inline int64_t population_scratch(const NetworkSizes& z) {
  return z.doubles() + PopulationBlock::doubles(z);
}

// Loss of the student w1 (m,d), w2 (c,m); its gradients into gradient.w1 and gradient.w2 where not
// null.
inline double population_value_and_gradient(const PopulationTeacher& teacher, const NetworkSizes& z,
                                            const double* w1, const double* w2, double* scratch,
                                            const PopulationGradient& gradient) {
  PreparedNetwork student(z, scratch);
  student.prepare(0, student.padded, w1, w2);
  PopulationBlock block(student, scratch + z.doubles());
  double shares = 0;
  for (int64_t b = 0; b < neuron_blocks(z); ++b)
    shares += block.evaluate(b, teacher.network(), teacher.scale(), gradient);
  return teacher.loss(shares);
}

}  // namespace lmc::LMC_TARGET
