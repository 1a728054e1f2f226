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
// a tournament: each block meets each other once, and in a round no block has two tasks. Workers
// begin the tasks in order, and a task waits until both its blocks have done those before: so what
// a block is given it gets in the order of the rounds, and bits do not depend on threads. Nothing
// of size (m,m) exists.
#pragma once

#include <sched.h>

#include "common/transpose-inl.h"
#include "population_loss/partners-inl.h"
#include "population_loss/student-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kNeuronBlock = 32;  // a multiple of every kLanes
inline constexpr int kPatience = 1000;  // looks at another's progress before the core is given up

// On memory the caller gives: no allocation.
class PopulationEvaluation {
  static constexpr int L = kLanes<double>;

 public:
  // Doubles of memory: what all workers share, and what each has for itself.
  static int64_t shared_doubles(const NetworkSizes& z) {
    return z.doubles() + z.padded() * sum_rows_of(z) + round_up(2 * blocks(z), L);
  }
  static int64_t worker_doubles(const NetworkSizes&) {
    return kNeuronBlock * (5 * L + 2 * kNeuronBlock);
  }

  LMC_INLINE PopulationEvaluation(const NetworkSizes& z, double* shared)
      : z_(z),
        student_(z, shared),
        direction_(shared + z.doubles()),
        sine_(direction_ + z.inputs().total() * z.padded()),
        shape_(sine_ + z.padded()),
        loss_(direction_ + sum_rows_of(z) * z.padded()),
        tasks_done_(reinterpret_cast<int64_t*>(loss_ + blocks(z))) {}

  // The loss without scale and constant, times 2 pi; scale goes into the gradient. With `teacher`
  // null, of the student's own part alone. each(count, task) calls task(t, memory) for all t below
  // count, which are begun in order but may run side by side, each worker with its memory.
  template <class Each>
  LMC_INLINE double evaluate(const double* w1, const double* w2, const PreparedNetwork* teacher,
                             double scale, const PopulationGradient& gradient, const Each& each) {
    const bool any = gradient.w1 || gradient.w2, outputs = gradient.w2;
    const Stages stages = stages_for(z_.c == 1, any);
    const int64_t count = blocks(z_), seats = count + count % 2;  // of an odd count, one rests
    const int64_t rounds = seats - 1, tables = seats / 2, meetings = rounds * tables;
    for (int64_t b = 0; b < count; ++b) tasks_done_[b] = 0;
    each(count + meetings + (any ? count : 0), [&](int64_t t, double* memory) {
      if (t < count) {
        student_.prepare(t * kNeuronBlock, end(t), w1, w2);
        (this->*stages.begin)(t, teacher, outputs, memory);
        finish_task(t);
      } else if ((t -= count) < meetings) {
        // The last seat stays, the others move up by one each round.
        const int64_t round = t / tables, table = t % tables;
        const int64_t one = (round + table) % rounds;
        const int64_t other = table == 0 ? rounds : (round + rounds - table) % rounds;
        const int64_t I = smaller(one, other), J = larger(one, other);
        await_tasks(I, 1 + round);
        if (J < count) {
          await_tasks(J, 1 + round);
          (this->*stages.meet)(I, J, outputs, memory);
          finish_task(J);
        }
        finish_task(I);
      } else {
        await_tasks(t - meetings, 1 + rounds);
        write_gradient(t - meetings, scale, gradient);
      }
    });
    double loss = 0;
    for (int64_t b = 0; b < count; ++b) loss += loss_[b];
    return loss;
  }

 private:
  // A worker's memory. Turned: partners as lanes, (kNeuronBlock / lanes, kNeuronBlock, lanes).
  struct Task {
    double *turns, *column_turns, *shapes, *sine, *shape;  // (kNeuronBlock, lanes): PartnerTerms
    double *turned, *turned_shapes;                        // of column_turns, and of shapes
    LMC_INLINE Task(double* memory, bool one_output)
        : turns(memory),
          column_turns(one_output ? turns : turns + kNeuronBlock * L),
          shapes(turns + 2 * kNeuronBlock * L),
          sine(shapes + kNeuronBlock * L),
          shape(sine + kNeuronBlock * L),
          turned(shape + kNeuronBlock * L),
          turned_shapes(turned + kNeuronBlock * kNeuronBlock) {}
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
  // Rows of the sums over partners: directions, sine, shapes.
  static int64_t sum_rows_of(const NetworkSizes& z) {
    return z.inputs().total() + 1 + z.outputs().total();
  }

  LMC_INLINE void finish_task(int64_t block) {
    __atomic_add_fetch(&tasks_done_[block], 1, __ATOMIC_RELEASE);
  }
  LMC_INLINE void await_tasks(int64_t block, int64_t tasks) const {
    for (int tries = 0; __atomic_load_n(&tasks_done_[block], __ATOMIC_ACQUIRE) < tasks; ++tries)
      if (tries >= kPatience) sched_yield();
  }

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
      for (int64_t r = 0; r < sum_rows_of(z_); ++r)
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
        if (kGradient) add_products(*teacher, k, stop - k, task.turns, task.shapes, i, outputs);
      }
      add<kOneOutput, kGradient, false>(i, student_, i, next, outputs, task, i - first, among);
      if (next < real)
        add<kOneOutput, kGradient, kGradient>(i, student_, next, real, outputs, task, next - first,
                                              later);
      loss += own_weight(i) * (0.5 * among.shape + (later.shape + cross.shape));
      if (!kGradient) continue;
      const int64_t own = (i - first) * L;
      add_products(student_, i, real - i, task.turns + own, task.shapes + own, i, outputs);
      const Vec<double> shape = among.shape + later.shape + cross.shape;
      add_sums(i, {shape, among.sine + later.sine + cross.sine}, outputs);
      if (next < real) exchange(i - first, next - first, real - first, outputs, task);
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
      add_products(student_, first, real - first, task.turns, task.shapes, i, outputs);
      add_sums(i, sums, outputs);
      exchange(i - I * kNeuronBlock, 0, real - first, outputs, task);
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
    for (int64_t e = 0; e < count * L; e += L) {
      store(task.sine + e, Vec<double>{});
      if (outputs) store(task.shape + e, Vec<double>{});
    }
  }

  // Neurons i ... against partners [first, last), whose terms are the task's from `place` on.
  // Not inline: eight times less to compile, and no slower.
  template <bool kOneOutput, bool kGradient, bool kColumns>
  __attribute__((noinline)) void add(int64_t i, const PreparedNetwork& partners, int64_t first,
                                     int64_t last, bool outputs, const Task& task, int64_t place,
                                     PartnerSums& sums) {
    const PartnerTerms to{task.turns, task.column_turns, outputs ? task.shapes : nullptr, task.sine,
                          outputs ? task.shape : nullptr};
    Partners<kOneOutput, kGradient, kColumns>(student_, i, partners)
        .add(first, last, place, to, sums);
  }

  // With more than one output the shapes are summed by products.
  LMC_INLINE void add_sums(int64_t i, const PartnerSums& sums, bool outputs) {
    add_to(sine_ + i, sums.sine);
    if (outputs && z_.c == 1) add_to(shape_ + i, sums.shape);
  }

  // What the vector of neurons `to` gets from `count` partners from `first`, their turns and shapes
  // being given.
  LMC_INLINE void add_products(const PreparedNetwork& partners, int64_t first, int64_t count,
                               const double* turns, const double* shapes, int64_t to,
                               bool outputs) {
    add_product<kMostRows>(z_.inputs(), partners.unit_panels, partners.padded, first, count, turns,
                           direction_ + to);
    if (outputs && z_.c > 1)
      add_product<kMostRows>(z_.outputs(), partners.weight_panels, partners.padded, first, count,
                             shapes, shape_ + to);
  }
  // sums (g.total(), lanes), `padded` apart, += panels^T terms.
  template <int R>
  LMC_INLINE void add_product(const RowGroups& g, const double* panels, int64_t panels_padded,
                              int64_t first, int64_t count, const double* terms, double* sums) {
    if (g.rows() != R) {
      if constexpr (R > 1) add_product<R - 1>(g, panels, panels_padded, first, count, terms, sums);
      return;
    }
    for (int64_t group = 0; group < g.groups(); ++group) {
      Tile<double, R, 1> tile;
      tile.set_product(count, panels + (group * panels_padded + first) * R, terms);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r, sums += student_.padded) add_to(sums, tile.sum[r][0]);
    }
  }

  // The terms of the vector of neurons at `place` of their block with partners [from, count) of
  // theirs, with partners as lanes; zero for lanes beyond.
  LMC_INLINE void exchange(int64_t place, int64_t from, int64_t count, bool outputs,
                           const Task& task) {
    exchange(place, from, count, task.column_turns, task.turned);
    if (outputs && z_.c > 1) exchange(place, from, count, task.shapes, task.turned_shapes);
  }
  LMC_INLINE void exchange(int64_t place, int64_t from, int64_t count, const double* terms,
                           double* turned) {
    for (int64_t j = from; j < count; j += L) {
      Vec<double> v[L];
#pragma GCC unroll 8
      for (int l = 0; l < L; ++l) v[l] = j + l < count ? load(terms + (j + l) * L) : Vec<double>{};
      transpose<double>(v);
      double* to = turned + (j / L * kNeuronBlock + place) * L;
#pragma GCC unroll 8
      for (int l = 0; l < L; ++l) store(to + l * L, v[l]);
    }
  }

  // What the vector of partners j, at `place` of the task, gets from `count` neurons from `first`.
  LMC_INLINE void add_columns(int64_t first, int64_t count, int64_t j, int64_t place, bool outputs,
                              const Task& task) {
    const int64_t turned = place * kNeuronBlock;
    add_products(student_, first, count, task.turned + turned, task.turned_shapes + turned, j,
                 outputs);
    const PartnerSums sums{
        outputs && z_.c == 1 ? sum_rows<double>(task.shape + place * L) : Vec<double>{},
        sum_rows<double>(task.sine + place * L)};
    add_sums(j, sums, outputs);
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
  double* direction_;    // (inputs().total(),padded)
  double* sine_;         // (padded)
  double* shape_;        // (outputs().total(),padded): where wanted
  double* loss_;         // (blocks)
  int64_t* tasks_done_;  // (blocks)
};

}  // namespace lmc::LMC_TARGET
