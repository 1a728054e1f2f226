// SPDX-License-Identifier: MIT
// The layouts and the memory of one student's training on samples by one block.
#pragma once

#include "common/cuda/shape.h"
#include "train_ensemble/train_ensemble_cuda.h"

namespace lmc::train_ensemble {

using cuda::kThreads;

// What follows from a student's own sizes. Matrices have rows of whole fours, and an odd number of
// them, to spread the banks of shared memory.
struct SampleShape {
  int m, d, c, n, M, batch;
  bool mini_batches, fresh, labels, train_w2;
  int m4, d4;            // rounded up to fours
  int m_pitch, d_pitch;  // from one row of m, of d, to the next
  int groups1, groups2;  // parts of the sums over a tile's samples, for the gradients

  static LMC_HOST_DEVICE int pitch_of(int count) { return ((count + 3) / 4 | 1) * 4; }

  template <class T>
  LMC_HOST_DEVICE SampleShape(const Problem<T>& p, int rows)
      : m(static_cast<int>(p.sizes.m)),
        d(static_cast<int>(p.sizes.d)),
        c(static_cast<int>(p.sizes.c)),
        n(static_cast<int>(p.sizes.n)),
        M(static_cast<int>(p.sizes.M)),
        batch(static_cast<int>(p.sizes.batch)),
        mini_batches(p.method == Method::sgd && n > 0),
        fresh(n == 0),
        labels(p.loss == Loss::cross_entropy),
        train_w2(p.train_w2),
        m4((m + 3) / 4 * 4),
        d4((d + 3) / 4 * 4),
        m_pitch(pitch_of(m)),
        d_pitch(pitch_of(d)),
        groups1(groups_of(m4 / 4 * (d4 / 4), rows)),
        groups2(groups_of(m4 / 4 * c, rows)) {}

  // Each thread has a tile of 4 x 4 (of 4 with w2); where there are fewer tiles than threads, the
  // samples are dealt out as well.
  static LMC_HOST_DEVICE int groups_of(int tiles, int rows) {
    const int groups = kThreads / (tiles < 1 ? 1 : tiles);
    return groups < 1 ? 1 : groups < rows / 4 ? groups : rows / 4;
  }
};

// In shared memory where it fits. All of it is written before it is read.
template <class T>
struct SampleMemory {
  T *w1, *w2;    // (m4, d_pitch), (c, m_pitch)
  T *g1, *g2;    // (groups1, m4, d_pitch), (groups2, c, m_pitch)
  T* h;          // (rows, m_pitch): activations of a tile of samples, then dz
  T *x, *y, *f;  // (rows, d_pitch), (rows, c), (rows, c): f, then dloss/df
  int* labels;   // (rows)
  int* chosen;   // (batch): the samples of a step
  double* scratch;
  bool has_lists;  // those of a shuffle fit into what is free between steps, which begins at g1

  LMC_HOST_DEVICE SampleMemory(const SampleShape& z, int rows, cuda::Workspace& space)
      : w1(space.take<T>(int64_t{z.m4} * z.d_pitch)),
        w2(space.take<T>(int64_t{z.c} * z.m_pitch)),
        g1(space.take<T>(int64_t{z.groups1} * z.m4 * z.d_pitch)),
        g2(space.take<T>(z.train_w2 ? int64_t{z.groups2} * z.c * z.m_pitch : 0)),
        h(space.take<T>(int64_t{rows} * z.m_pitch)),
        x(space.take<T>(int64_t{rows} * z.d_pitch)),
        y(space.take<T>(int64_t{rows} * z.c)),
        f(space.take<T>(int64_t{rows} * z.c)),
        labels(space.take<int>(rows)),
        chosen(space.take<int>(z.mini_batches ? z.batch : 0)),
        scratch(space.take<double>(2 * cuda::kMostWarps)),
        has_lists(false) {
    cuda::Workspace free(nullptr);
    free.take<T>(int64_t{z.groups1} * z.m4 * z.d_pitch);
    free.take<T>(z.train_w2 ? int64_t{z.groups2} * z.c * z.m_pitch : 0);
    free.take<T>(int64_t{rows} * z.m_pitch);
    free.take<T>(int64_t{rows} * z.d_pitch);
    has_lists = z.mini_batches && 2 * int64_t{z.n} * 4 <= free.bytes();
  }
};

// Samples of a tile: few where the step has few, or where the activations of more would take too
// much memory. 0: such a student is not one block's work.
template <class T>
int rows_of(const Problem<T>& p) {
  constexpr int64_t kMost = 200 * 1024;
  const int64_t largest = int64_t{1} << 16;  // of m, d and c: no int overflows below
  if (p.sizes.m > largest || p.sizes.d > largest || p.sizes.c > largest) return 0;
  const int64_t count = p.method == Method::sgd ? p.sizes.batch : p.sizes.n;
  for (int rows : {64, 16}) {
    if (rows == 64 && count <= 16) continue;
    cuda::Workspace space(nullptr);
    SampleMemory<T>(SampleShape(p, rows), rows, space);
    if (space.bytes() <= kMost) return rows;
  }
  return 0;
}

// Multiply-adds that one block is given at a time: some milliseconds of them.
inline constexpr double kBlockWork = 1 << 26;

// Samples that one block evaluates, of all n: whole tiles.
inline int64_t samples_of_range(const Sizes& z) {
  const double each = static_cast<double>(z.m) * static_cast<double>(z.d + z.c) + 1;
  const auto samples = static_cast<int64_t>(kBlockWork / each) / 64 * 64;
  return samples < 64 ? 64 : samples;
}

// Whether a student of these sizes is trained by one block: a function of the sizes alone, so that
// bits are too. A pair of neurons takes about 3 d + 60 multiply-adds of float64.
template <class T>
bool fits_one_block(const Problem<T>& p) {
  const Sizes& z = p.sizes;
  const auto m = static_cast<double>(z.m), M = static_cast<double>(z.M);
  const auto d = static_cast<double>(z.d), c = static_cast<double>(z.c);
  if (p.method == Method::population_gd)
    return z.m <= 512 && m * (m + M) * (3 * d + 2 * c + 60) <= 4 * kBlockWork;
  const auto count = static_cast<double>(p.method == Method::sgd ? z.batch : z.n);
  const double labelling = z.n == 0 ? M : 0;  // the teacher's neurons
  return count * (m + labelling) * (d + c) <= kBlockWork && rows_of(p) > 0;
}

}  // namespace lmc::train_ensemble
