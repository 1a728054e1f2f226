// SPDX-License-Identifier: MIT
// Which students lane_student.cuh trains, and the memory that one of them takes.
#pragma once

#include "common/cuda/divisor.h"
#include "common/cuda/shape.h"
#include "train_ensemble/train_ensemble_cuda.h"

namespace lmc::train_ensemble {

inline constexpr int kLaneThreads = 128, kLaneWarps = kLaneThreads / 32;
inline constexpr int kNeuronLanes = 16;  // with neurons of their own
inline constexpr int kLaneRows = 16;     // samples of a warp's tile
// The most that a student may take, so that a block of it runs anywhere; and the most that it takes
// for speed alone, so that several are resident.
inline constexpr int64_t kMostLaneBytes = 60 * 1024, kGoodLaneBytes = 48 * 1024;

// From one row of x, w1 or g1 to the next, for so many inputs: an odd number of 16 bytes, to spread
// the banks of shared memory.
template <class T>
LMC_HOST_DEVICE constexpr int lane_pitch(int wide) {
  return sizeof(T) == 4 ? wide : wide + 2;
}

// What follows from a student's own sizes.
struct LaneShape {
  int neurons = 0;  // of a lane: 4, 7 or 8 in float32, 4 or 8 in float64; 0: not for us
  int wide = 0;     // inputs, with padding: 12 or 20
  int m = 0, d = 0, n = 0, M = 0, batch = 0;
  bool sgd = false, mini_batches = false, fresh = false, train_w2 = false;
  bool resident = false;  // all of x stays in shared memory
  bool lists = false;     // so do the lists of a shuffle, while it is made
  bool fours = false;     // rows of x in device memory are whole fours, and aligned
  cuda::Divisor by_d{1};
  // Where the arrays of LaneMemory begin, and how many bytes they take.
  int w1 = 0, w2 = 0, v1 = 0, v2 = 0, chosen = 0, scratch = 0, y = 0, g1 = 0, g2 = 0, x = 0;
  int bytes = 0;

  template <class T>
  void lay_out() {
    const int64_t teacher = fresh ? M : 0, pitch = lane_pitch<T>(wide);
    const int64_t rows = resident ? cuda::padded(n, kLaneRows) : kLaneWarps * kLaneRows;
    cuda::Workspace space(nullptr);
    const auto take = [&](int64_t count, size_t size) {
      const int64_t before = space.bytes();
      space.take<unsigned char>(count * static_cast<int64_t>(size));
      return static_cast<int>(before);
    };
    const int64_t padded = kNeuronLanes * neurons;
    w1 = take(padded * pitch, sizeof(T));
    w2 = take(padded, sizeof(T));
    v1 = take(teacher * pitch, sizeof(T));
    v2 = take(teacher, sizeof(T));
    chosen = take(mini_batches ? batch : 0, sizeof(int));
    scratch = take(3 * kLaneWarps, sizeof(double));
    y = take(rows, sizeof(T));
    g1 = take(kLaneWarps * m * pitch, sizeof(T));
    g2 = take(train_w2 ? kLaneWarps * m : 0, sizeof(T));
    x = take(rows * pitch, sizeof(T));
    const int64_t end = space.bytes(), wanted = lists ? g1 + 2 * int64_t{4} * n : 0;
    bytes = static_cast<int>(end > wanted ? end : wanted);
  }
};

// All of it in shared memory, and written before it is read.
template <class T>
struct LaneMemory {
  T *w1, *w2;       // (lanes neurons, pitch), (lanes neurons): with zeros beyond m
  T *v1, *v2;       // (M, pitch), (M): the teacher of fresh samples
  int* chosen;      // (batch): the samples of a step
  double* scratch;  // (3, warps): sums over lanes
  T* y;             // as x
  // From here on, unless x is resident, all is free between steps, and the lists of a shuffle lie
  // here.
  T *g1, *g2;  // (warps, m, pitch), (warps, m)
  T* x;        // (samples, pitch): a tile for each warp, or all

  LMC_HOST_DEVICE LaneMemory(const LaneShape& z, unsigned char* base)
      : w1(reinterpret_cast<T*>(base + z.w1)),
        w2(reinterpret_cast<T*>(base + z.w2)),
        v1(reinterpret_cast<T*>(base + z.v1)),
        v2(reinterpret_cast<T*>(base + z.v2)),
        chosen(reinterpret_cast<int*>(base + z.chosen)),
        scratch(reinterpret_cast<double*>(base + z.scratch)),
        y(reinterpret_cast<T*>(base + z.y)),
        g1(reinterpret_cast<T*>(base + z.g1)),
        g2(reinterpret_cast<T*>(base + z.g2)),
        x(reinterpret_cast<T*>(base + z.x)) {}
};

template <class T>
LaneShape lane_shape(const Problem<T>& p) {
  const Sizes& z = p.sizes;
  constexpr int64_t kLargest = kMostLaneBytes / 4;  // of n it does not matter
  const int most_inputs = sizeof(T) == 4 ? 20 : 12;
  if (p.method == Method::population_gd || p.loss != Loss::mse || z.c != 1 || z.m < 1 ||
      z.m > 8 * kNeuronLanes || z.d < 1 || z.d > most_inputs || z.M > kLargest ||
      z.batch > kLargest)
    return {};
  LaneShape shape;
  shape.m = static_cast<int>(z.m), shape.d = static_cast<int>(z.d);
  shape.n = static_cast<int>(z.n), shape.M = static_cast<int>(z.M);
  shape.batch = static_cast<int>(z.batch);
  shape.wide = z.d <= 12 ? 12 : 20;
  shape.sgd = p.method == Method::sgd;
  shape.mini_batches = shape.sgd && z.n > 0;
  shape.fresh = z.n == 0;
  shape.train_w2 = p.train_w2;
  shape.fours = z.d % 4 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  shape.by_d = cuda::Divisor(shape.d);
  const int neurons = (shape.m + kNeuronLanes - 1) / kNeuronLanes;
  shape.neurons = neurons <= 4 ? 4 : neurons <= 7 && sizeof(T) == 4 ? 7 : 8;
  shape.lay_out<T>();
  if (shape.bytes > kMostLaneBytes) return {};
  if (!shape.fresh && z.n <= kLargest) {
    LaneShape larger = shape;
    (shape.sgd ? larger.lists : larger.resident) = true;
    larger.lay_out<T>();
    if (larger.bytes <= kGoodLaneBytes || larger.bytes == shape.bytes) shape = larger;
  }
  return shape;
}

}  // namespace lmc::train_ensemble
