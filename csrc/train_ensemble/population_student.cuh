// SPDX-License-Identifier: MIT
// A student on the population loss, for descent.cuh: pairs.cuh tile by tile, all by one block. The
// left tile goes over the student's own, and the right one over those from it on, then over the
// teacher's that do not come along with the first one.
#pragma once

#include "population_loss/pairs.cuh"
#include "train_ensemble/descent.cuh"

namespace lmc::train_ensemble {

using population_loss::PairSums;
using population_loss::PairTile;
using population_loss::Prepared;

// Where a student lies. A block has this in shared memory, because registers are short.
struct PopulationMemory {
  double *w1, *w2;  // (m, d), (c, m)
  PairSums sums;    // and after a step's proposal the weights that it leads to
  Prepared prepared;

  LMC_HOST_DEVICE PopulationMemory(const Sizes& z, bool train_w2, cuda::Workspace& space)
      : w1(space.take<double>(z.m * z.d)),
        w2(space.take<double>(z.c * z.m)),
        sums{space.take<double>(z.m * population_loss::pitch_of(z.d)), space.take<double>(z.m),
             space.take<double>(train_w2 ? z.c * z.m : 0)},
        prepared(z.m, z.d, z.c, w1, space) {}
};

// The teacher, prepared for all students, and its shares of the loss.
struct PopulationTeacher {
  Prepared prepared;
  int tiles;
  const double* shares;  // (tiles)
  double factor;         // scale / (2 pi)
};

template <int Tile, bool TrainW2>
class PopulationStudent {
 public:
  static constexpr int kThreads = PairTile<Tile>::kThreads;
  static LMC_HOST_DEVICE constexpr size_t shared_bytes(population_loss::Wanted wanted) {
    return PairTile<Tile>::shared_bytes(wanted) + (sizeof(PopulationMemory) + 15) / 16 * 16;
  }
  static constexpr auto kWanted =
      TrainW2 ? population_loss::kGradients : population_loss::kGradient1;

  // `shared` has shared_bytes.
  __device__ PopulationStudent(const Run<double>& run, int64_t s, const PopulationTeacher& teacher,
                               const PopulationMemory& memory, unsigned char* shared)
      : z_(run.problem.sizes),
        run_(run),
        s_(s),
        teacher_(teacher),
        memory_(
            *reinterpret_cast<PopulationMemory*>(shared + PairTile<Tile>::shared_bytes(kWanted))),
        pairs_(shared, {memory.prepared, teacher.prepared, memory.sums}) {
    if (threadIdx.x == 0) const_cast<PopulationMemory&>(memory_) = memory;
    __syncthreads();
    copy(out1(), memory_.w1, z_.m * z_.d);
    copy(out2(), memory_.w2, z_.c * z_.m);
    own_w1([&](int64_t, int, int64_t at) { memory_.sums.direction[at] = 0; });
    if (TrainW2) own_w2([&](int64_t e) { memory_.sums.shape[e] = 0; });
    __syncthreads();
  }

  __device__ double loss(int64_t) {
    const Prepared& own = memory_.prepared;
    for (int j = static_cast<int>(threadIdx.x); j < own.m; j += kThreads)
      memory_.sums.half_sine[j] = 0;
    for (int j = static_cast<int>(threadIdx.x) / population_loss::kLanesOfNeuron; j < own.rows;
         j += kThreads / population_loss::kLanesOfNeuron)
      population_loss::prepare_neuron(own, j, memory_.w2, 1.0);
    __syncthreads();
    const int tiles = (own.m + Tile - 1) / Tile;
    const int M = teacher_.prepared.m;
    const int all = tiles + (M <= population_loss::kFewNeurons ? 0 : (M + Tile - 1) / Tile);
    double share = 0;
    for (int left = 0; left < tiles; ++left)
      for (int right = left; right < all; ++right) {
        const bool is_own = right < tiles;
        const auto relation = right == left ? population_loss::kSame
                              : is_own      ? population_loss::kOwn
                                            : population_loss::kTeacher;
        share += pairs_.template add<kWanted>(
            {relation, left * Tile, (is_own ? right : right - tiles) * Tile, right > left, 0});
      }
    share = cuda::block_sum<kThreads>(share, pairs_.scratch());
    double constant = 0;
    for (int t = 0; t < teacher_.tiles; ++t) constant += teacher_.shares[t];
    return teacher_.factor * (share + constant);
  }

  __device__ Proposal propose(double lr) {
    StepSums sums;
    own_w1([&](int64_t e, int i, int64_t at) {
      const double inverse = memory_.prepared.inverse[i], unit = memory_.w1[e] * inverse;
      const double sum = memory_.sums.direction[at] + 2 * memory_.sums.half_sine[i] * unit;
      const double gradient = inverse == 0 ? 0.0 : teacher_.factor * inverse * sum;
      memory_.sums.direction[at] = stepped(memory_.w1[e], gradient, lr, sums);
    });
    if (TrainW2)
      own_w2([&](int64_t e) {
        const double norm = memory_.prepared.norm[e % z_.m];
        const double gradient = teacher_.factor * norm * memory_.sums.shape[e];
        memory_.sums.shape[e] = stepped(memory_.w2[e], gradient, lr, sums);
      });
    cuda::block_sums<kThreads>(sums.values, pairs_.scratch());
    return {sums.values[1] == 0, sums.values[0]};
  }
  __device__ void accept() {
    own_w1([&](int64_t e, int, int64_t at) {
      memory_.w1[e] = memory_.sums.direction[at];
      memory_.sums.direction[at] = 0;
    });
    if (TrainW2)
      own_w2([&](int64_t e) {
        memory_.w2[e] = memory_.sums.shape[e];
        memory_.sums.shape[e] = 0;
      });
    __syncthreads();
  }
  __device__ void store() {
    copy(memory_.w1, out1(), z_.m * z_.d);
    if (TrainW2) copy(memory_.w2, out2(), z_.c * z_.m);
  }

 private:
  __device__ double* out1() const { return run_.problem.w1_out + s_ * z_.m * z_.d; }
  __device__ double* out2() const { return run_.problem.w2_out + s_ * z_.c * z_.m; }

  static __device__ void copy(const double* from, double* to, int64_t size) {
    for (int64_t e = threadIdx.x; e < size; e += kThreads) to[e] = from[e];
  }

  // Every element has one thread, in all that calls these: of w1 sixteen threads walk a neuron's
  // dimensions. function(where in w1, neuron, where in its sums).
  template <class Function>
  __device__ __forceinline__ void own_w1(const Function& function) const {
    const int d = static_cast<int>(z_.d), pitch = population_loss::pitch_of(z_.d);
    for (int i = static_cast<int>(threadIdx.x) / 16; i < z_.m; i += kThreads / 16)
      for (int k = static_cast<int>(threadIdx.x) % 16; k < d; k += 16)
        function(static_cast<int64_t>(i) * d + k, i, static_cast<int64_t>(i) * pitch + k);
  }
  template <class Function>
  __device__ __forceinline__ void own_w2(const Function& function) const {
    for (int64_t e = threadIdx.x; e < z_.c * z_.m; e += kThreads) function(e);
  }

  __device__ double stepped(double w, double gradient, double lr, StepSums& sums) const {
    const double next = w - lr * gradient;
    if (run_.round_to_float32)
      sums.add(gradient, static_cast<float>(next));
    else
      sums.add(gradient, next);
    return next;
  }

  const Sizes& z_;
  const Run<double>& run_;
  const int64_t s_;
  const PopulationTeacher& teacher_;
  const PopulationMemory& memory_;
  PairTile<Tile> pairs_;
};

}  // namespace lmc::train_ensemble
