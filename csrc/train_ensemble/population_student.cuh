// SPDX-License-Identifier: MIT
// A student on the population loss, for descent.cuh: pairs.cuh tile by tile, all by one block.
#pragma once

#include "population_loss/pairs.cuh"
#include "train_ensemble/descent.cuh"

namespace lmc::train_ensemble {

using population_loss::PairTile;
using population_loss::Prepared;

struct PopulationMemory {
  double *w1, *w2, *g1, *g2;  // (m, d), (c, m), twice
  Prepared prepared;

  LMC_HOST_DEVICE PopulationMemory(const Sizes& z, cuda::Workspace& space)
      : w1(space.take<double>(z.m * z.d)),
        w2(space.take<double>(z.c * z.m)),
        g1(space.take<double>(z.m * z.d)),
        g2(space.take<double>(z.c * z.m)),
        prepared(z.m, z.d, z.c, space) {}
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

  __device__ PopulationStudent(const Run<double>& run, int64_t s, const PopulationTeacher& teacher,
                               const PopulationMemory& memory, unsigned char* shared)
      : z_(run.problem.sizes),
        run_(run),
        s_(s),
        teacher_(teacher),
        memory_(memory),
        pairs_(shared) {
    copy(out1(), memory_.w1, z_.m * z_.d);
    copy(out2(), memory_.w2, z_.c * z_.m);
    __syncthreads();
  }

  __device__ double loss(int64_t) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    for (int j = warp; j < memory_.prepared.rows; j += kThreads / 32)
      population_loss::prepare_neuron(memory_.prepared, j, memory_.w1, memory_.w2);
    __syncthreads();
    const population_loss::PairGradients gradients{memory_.g1, memory_.g2, z_.d, teacher_.factor};
    constexpr auto kWanted = TrainW2 ? population_loss::kGradients : population_loss::kGradient1;
    double shares = 0;
    for (int first = 0; first < memory_.prepared.m; first += Tile)
      shares +=
          pairs_.template evaluate<kWanted>(memory_.prepared, &teacher_.prepared, first, gradients);
    double constant = 0;
    for (int t = 0; t < teacher_.tiles; ++t) constant += teacher_.shares[t];
    return teacher_.factor * (shares + constant);
  }

  __device__ Proposal propose(double lr) {
    StepSums sums;
    propose(z_.m * z_.d, memory_.w1, memory_.g1, lr, sums);
    if (TrainW2) propose(z_.c * z_.m, memory_.w2, memory_.g2, lr, sums);
    cuda::block_sums<kThreads>(sums.values, pairs_.scratch());
    return {sums.values[1] == 0, sums.values[0]};
  }
  __device__ void accept() {
    copy(memory_.g1, memory_.w1, z_.m * z_.d);
    if (TrainW2) copy(memory_.g2, memory_.w2, z_.c * z_.m);
    __syncthreads();
  }
  __device__ void store() {
    copy(memory_.w1, out1(), z_.m * z_.d);
    if (TrainW2) copy(memory_.w2, out2(), z_.c * z_.m);
  }

 private:
  __device__ double* out1() const { return run_.problem.w1_out + s_ * z_.m * z_.d; }
  __device__ double* out2() const { return run_.problem.w2_out + s_ * z_.c * z_.m; }

  // Every element has one thread, in all of these.
  static __device__ void copy(const double* from, double* to, int64_t size) {
    for (int64_t e = threadIdx.x; e < size; e += kThreads) to[e] = from[e];
  }
  __device__ __forceinline__ void propose(int64_t size, const double* w, double* g, double lr,
                                          StepSums& sums) {
    for (int64_t e = threadIdx.x; e < size; e += kThreads) {
      const double gradient = g[e], next = w[e] - lr * gradient;
      if (run_.round_to_float32)
        sums.add(gradient, static_cast<float>(next));
      else
        sums.add(gradient, next);
      g[e] = next;
    }
  }

  const Sizes& z_;
  const Run<double>& run_;
  const int64_t s_;
  const PopulationTeacher& teacher_;
  const PopulationMemory memory_;
  PairTile<Tile> pairs_;
};

}  // namespace lmc::train_ensemble
