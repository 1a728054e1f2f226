// SPDX-License-Identifier: MIT
// The population loss of one student, and its gradient:
//
//   L = scale [ 1/2 sum_ij (a_i.a_j) K(u_i,u_j) - sum_ik (a_i.b_k) K(u_i,v_k) ] + constant,
//
// u_i, a_i the student's neurons and output weights, v_k, b_k the teacher's. The three parts cancel
// at a minimum, so arithmetic is float64 throughout: in float32 the loss of a nearly trained
// student would be rounding noise.
//
// Each pair of the student's neurons is taken once. Neurons are cut into blocks; two blocks' pairs
// are one task, in which one block's neurons are lanes and the other's are partners. Their
// coefficients are kept transposed too, for the partners' gradient. The tasks come in rounds, as in
// a tournament: each block meets each other once, and in a round no block has two tasks, so that
// all tasks of a round may run side by side. What a block is given it gets in the order of the
// rounds: bits do not depend on threads. Nothing of size (m,m) exists.
#pragma once

#include "common/transpose-inl.h"
#include "population_loss/partners-inl.h"
#include "population_loss/student-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kNeuronBlock = 32;  // a multiple of every kLanes

// On memory the caller gives: no allocation.
class PopulationEvaluation {
  static constexpr int L = kLanes<double>;

 public:
  // Doubles of memory: what all workers share, and what each has for itself.
  static int64_t shared_doubles(const NetworkSizes& z) {
    return z.doubles() + z.padded() * (z.panel_rows() + 1 + z.c) + blocks(z);
  }
  static int64_t worker_doubles(const NetworkSizes& z) {
    return kNeuronBlock * (2 * L + kNeuronBlock + (1 + z.c) * L);
  }

  LMC_INLINE PopulationEvaluation(const NetworkSizes& z, double* shared)
      : z_(z),
        student_(z, shared),
        direction_(shared + z.doubles()),
        sine_(direction_ + z.panel_rows() * z.padded()),
        shape_(sine_ + z.padded()),
        loss_(shape_ + z.c * z.padded()) {}

  // The loss without scale and constant, times 2 pi; scale goes into the gradient. With `teacher`
  // null, of the student's own part alone. each(count, task) calls task(t, memory) for all t below
  // count, in any order and by any workers, each of which has its memory.
  template <class Each>
  LMC_INLINE double evaluate(const double* w1, const double* w2, const PreparedNetwork* teacher,
                             double scale, const PopulationGradient& gradient, const Each& each) {
    const Stages stages = stages_for(z_.c == 1, gradient.w1 || gradient.w2);
    const int64_t count = blocks(z_), seats = count + count % 2;  // of an odd count, one rests
    each(count, [&](int64_t b, double* memory) {
      student_.prepare(b * kNeuronBlock, end(b), w1, w2);
      (this->*stages.begin)(b, teacher, gradient.w2, memory);
    });
    // The last seat stays, the others move up by one each round.
    for (int64_t round = 0; round + 1 < seats; ++round)
      each(seats / 2, [&](int64_t t, double* memory) {
        const int64_t one = (round + t) % (seats - 1);
        const int64_t other = t == 0 ? seats - 1 : (round + seats - 1 - t) % (seats - 1);
        const int64_t I = smaller(one, other), J = larger(one, other);
        if (J < count) (this->*stages.meet)(I, J, gradient.w2, memory);
      });
    if (gradient.w1 || gradient.w2)
      each(count, [&](int64_t b, double*) { write_gradient(b, scale, gradient); });
    double loss = 0;
    for (int64_t b = 0; b < count; ++b) loss += loss_[b];
    return loss;
  }

 private:
  // A worker's memory.
  struct Task {
    double* turns;  // (kNeuronBlock, lanes): partners' terms for one vector of neurons
    double* column_turns;
    double* turned;  // (kNeuronBlock / lanes, kNeuronBlock, lanes): column_turns, partners as lanes
    double* columns;  // (1 + c, kNeuronBlock, lanes): see PartnerTerms
    LMC_INLINE Task(double* memory, bool one_output)
        : turns(memory),
          column_turns(one_output ? turns : turns + kNeuronBlock * L),
          turned(turns + 2 * kNeuronBlock * L),
          columns(turned + kNeuronBlock * kNeuronBlock) {}
  };

  struct Stages {
    void (PopulationEvaluation::*begin)(int64_t, const PreparedNetwork*, bool, double*);
    void (PopulationEvaluation::*meet)(int64_t, int64_t, bool, double*);
  };
  template <bool kOneOutput, bool kGradient>
  LMC_INLINE static Stages stages() {
    return {&PopulationEvaluation::begin<kOneOutput, kGradient>,
            &PopulationEvaluation::meet<kOneOutput, kGradient>};
  }
  LMC_INLINE static Stages stages_for(bool one_output, bool gradient) {
    if (one_output) return gradient ? stages<true, true>() : stages<true, false>();
    return gradient ? stages<false, true>() : stages<false, false>();
  }

  static int64_t blocks(const NetworkSizes& z) { return ceil_div(z.padded(), kNeuronBlock); }
  LMC_INLINE int64_t end(int64_t block) const {
    return smaller((block + 1) * kNeuronBlock, student_.padded);
  }

  // Begins block b's sums with its pairs with the teacher, and its own: of a vector of neurons
  // those among themselves are taken twice, those with later neurons once.
  template <bool kOneOutput, bool kGradient>
  void begin(int64_t b, const PreparedNetwork* teacher, bool outputs, double* memory) {
    const int64_t first = b * kNeuronBlock, last = end(b), real = smaller(last, z_.m);
    Task task(memory, kOneOutput);
    if (kGradient) {
      for (int64_t r = 0; r < z_.panel_rows() + 1 + z_.c; ++r)
        for (int64_t i = first; i < last; i += L)
          store(direction_ + r * student_.padded + i, Vec<double>{});
      if (last - first > L) clear_columns(last - first, outputs, task);
    }
    Vec<double> loss{};
    for (int64_t i = first; i < last; i += L) {
      const int64_t next = smaller(i + L, real);
      PartnerSums cross{}, among{}, later{};
      for (int64_t k = 0; teacher && k < teacher->sizes.m; k += kNeuronBlock) {
        const int64_t stop = smaller(k + kNeuronBlock, teacher->sizes.m);
        add<kOneOutput, kGradient, false>(i, *teacher, k, stop, outputs, task, 0, cross);
        if (kGradient) add_directions<kMostRows>(*teacher, k, stop - k, task.turns, i);
      }
      add<kOneOutput, kGradient, false>(i, student_, i, next, outputs, task, i - first, among);
      if (next < real)
        add<kOneOutput, kGradient, kGradient>(i, student_, next, real, outputs, task, next - first,
                                              later);
      loss += own_weight(i) * (0.5 * among.shape + (later.shape + cross.shape));
      if (!kGradient) continue;
      add_directions<kMostRows>(student_, i, real - i, task.turns + (i - first) * L, i);
      const Vec<double> shape = among.shape + later.shape + cross.shape;
      add_sums(i, {shape, among.sine + later.sine + cross.sine}, outputs);
      if (next < real) exchange(i - first, next - first, real - first, task);
    }
    loss_[b] = lane_sum<double>(loss);
    if (kGradient)
      for (int64_t j = first + L; j < last; j += L)
        add_columns(first, j - first, j, j - first, outputs, task);
  }

  // All pairs of a neuron of block I and one of block J > I.
  template <bool kOneOutput, bool kGradient>
  void meet(int64_t I, int64_t J, bool outputs, double* memory) {
    const int64_t first = J * kNeuronBlock, last = end(J), real = smaller(last, z_.m);
    Task task(memory, kOneOutput);
    if (kGradient) clear_columns(last - first, outputs, task);
    Vec<double> loss{};
    for (int64_t i = I * kNeuronBlock; i < end(I); i += L) {
      PartnerSums sums{};
      add<kOneOutput, kGradient, kGradient>(i, student_, first, real, outputs, task, 0, sums);
      loss += own_weight(i) * sums.shape;
      if (!kGradient) continue;
      add_directions<kMostRows>(student_, first, real - first, task.turns, i);
      add_sums(i, sums, outputs);
      exchange(i - I * kNeuronBlock, 0, real - first, task);
    }
    loss_[I] += lane_sum<double>(loss);
    if (kGradient)
      for (int64_t j = first; j < last; j += L)
        add_columns(I * kNeuronBlock, kNeuronBlock, j, j - first, outputs, task);
  }

  // What the sums over partners leave out.
  LMC_INLINE Vec<double> own_weight(int64_t i) const {
    return load((z_.c == 1 ? student_.weight : student_.norm) + i);
  }

  LMC_INLINE void clear_columns(int64_t count, bool outputs, const Task& task) {
    for (int64_t o = 0; o < (outputs ? 1 + z_.c : 1); ++o)
      for (int64_t j = 0; j < count; ++j)
        store(task.columns + (o * kNeuronBlock + j) * L, Vec<double>{});
  }

  // Neurons i ... against partners [first, last), whose terms are the task's from `place` on.
  // Not inline: eight times less to compile, and no slower.
  template <bool kOneOutput, bool kGradient, bool kColumns>
  __attribute__((noinline)) void add(int64_t i, const PreparedNetwork& partners, int64_t first,
                                     int64_t last, bool outputs, const Task& task, int64_t place,
                                     PartnerSums& sums) {
    const PartnerTerms to{task.turns + place * L,         task.column_turns + place * L,
                          task.columns + place * L,       kNeuronBlock * L,
                          outputs ? shape_ + i : nullptr, student_.padded};
    Partners<kOneOutput, kGradient, kColumns>(student_, i, partners).add(first, last, to, sums);
  }

  // With more than one output the shapes are summed by Partners.
  LMC_INLINE void add_sums(int64_t i, const PartnerSums& sums, bool outputs) {
    store(sine_ + i, load(sine_ + i) + sums.sine);
    if (outputs && z_.c == 1) store(shape_ + i, load(shape_ + i) + sums.shape);
  }

  // direction_ of the vector of neurons `to` += panels^T turns over `count` partners from `first`.
  template <int R>
  LMC_INLINE void add_directions(const PreparedNetwork& partners, int64_t first, int64_t count,
                                 const double* turns, int64_t to) {
    if (z_.rows() != R) {
      if constexpr (R > 1) add_directions<R - 1>(partners, first, count, turns, to);
      return;
    }
    for (int64_t g = 0; g < z_.row_groups(); ++g) {
      Tile<double, R, 1> tile;
      tile.set_product(count, partners.panels + (g * partners.padded + first) * R, turns);
      double* sum = direction_ + g * R * student_.padded + to;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r, sum += student_.padded) store(sum, load(sum) + tile.sum[r][0]);
    }
  }

  // The turns of the vector of neurons at `place` of their block with partners [from, count) of
  // theirs, with partners as lanes; zero for lanes beyond.
  LMC_INLINE void exchange(int64_t place, int64_t from, int64_t count, const Task& task) {
    for (int64_t j = from; j < count; j += L) {
      Vec<double> v[L];
#pragma GCC unroll 8
      for (int l = 0; l < L; ++l)
        v[l] = j + l < count ? load(task.column_turns + (j + l) * L) : Vec<double>{};
      transpose<double>(v);
      double* to = task.turned + (j / L * kNeuronBlock + place) * L;
#pragma GCC unroll 8
      for (int l = 0; l < L; ++l) store(to + l * L, v[l]);
    }
  }

  // What the vector of partners j, at `place` of the task, gets from `count` neurons from `first`.
  LMC_INLINE void add_columns(int64_t first, int64_t count, int64_t j, int64_t place, bool outputs,
                              const Task& task) {
    add_directions<kMostRows>(student_, first, count, task.turned + place * kNeuronBlock, j);
    const double* column = task.columns + place * L;
    store(sine_ + j, load(sine_ + j) + sum_rows<double>(column));
    for (int64_t o = 0; o < (outputs ? z_.c : 0); ++o) {
      column += kNeuronBlock * L;
      double* shape = shape_ + o * student_.padded + j;
      store(shape, load(shape) + sum_rows<double>(column));
    }
  }

  void write_gradient(int64_t b, double scale, const PopulationGradient& gradient) {
    const double factor = scale / (2 * kPi);
    for (int64_t i = b * kNeuronBlock; i < end(b); i += L) {
      const Vec<double> norm = load(student_.norm + i), sine = load(sine_ + i);
      const Vec<double> size = z_.c == 1 ? factor * load(student_.w2 + i) : broadcast(factor);
      const auto dead = norm == 0;
      const int64_t real = smaller(L, z_.m - i);
      for (int64_t k = 0; gradient.w1 && k < z_.d; ++k) {
        const int64_t e = k * student_.padded + i;
        const Vec<double> g = size * (load(direction_ + e) + sine * load(student_.unit + e));
        const Vec<double> alive = dead ? Vec<double>{} : g;
        for (int64_t l = 0; l < real; ++l) gradient.w1[(i + l) * z_.d + k] = alive[l];
      }
      for (int64_t o = 0; gradient.w2 && o < z_.c; ++o) {
        const Vec<double> g = factor * norm * load(shape_ + o * student_.padded + i);
        for (int64_t l = 0; l < real; ++l) gradient.w2[o * z_.m + i + l] = g[l];
      }
    }
  }

  const NetworkSizes z_;
  PreparedNetwork student_;
  // Sums over partners; without the neurons' own factors.
  double* direction_;  // (panel_rows,padded): of factor_j turn_ij unit_j
  double* sine_;       // (padded)
  double* shape_;      // (c,padded): where wanted
  double* loss_;       // (blocks)
};

}  // namespace lmc::LMC_TARGET
