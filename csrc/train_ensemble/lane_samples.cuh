// SPDX-License-Identifier: MIT
// How a warp's tile of samples arrives in shared memory, for lane_student.cuh.
#pragma once

#include "train_ensemble/batches.cuh"
#include "train_ensemble/four.cuh"
#include "train_ensemble/lane_memory.h"

namespace lmc::train_ensemble {

template <class T, int Wide>
struct LaneSamples {
  static constexpr int kPitch = lane_pitch<T>(Wide), kFours = Wide / 4;

  const SampleRun<T>& run;
  const LaneShape& z;
  const LaneMemory<T>& memory;
  const int student;

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }

  // Writes all kLaneRows rows of x, and of y; those from `rows` on are zero. `first` is the tile's
  // first sample. Barriers of the warp must come before and after.
  __device__ __forceinline__ void gather(T* x, T* y, int first, int rows, bool chosen) const {
    const Problem<T>& p = run.problem;
    const int64_t s = cuda::here(student);
    const auto sample = [&](int i) {
      return static_cast<int64_t>(chosen ? memory.chosen[first + i] : first + i);
    };
    const T* const from = p.x + (p.sizes.x_shared ? 0 : s * z.n * z.d);
#pragma unroll
    for (int u = 0; u < (kLaneRows * kFours + 31) / 32; ++u) {
      const int e = lane() + 32 * u, i = e / kFours, k = 4 * (e % kFours);
      if (i >= kLaneRows) continue;
      Four<T> value = {};
      if (i < rows && k < z.d) {
        const T* const row = from + sample(i) * z.d + k;
        if (z.fours) {
          value = four(row);
        } else {
#pragma unroll
          for (int l = 0; l < 4; ++l)
            if (k + l < z.d) value.v[l] = row[l];
        }
      }
      put(x + i * kPitch + k, value);
    }
    const T* const targets = p.y + (p.sizes.y_shared ? 0 : s * z.n);
    if (lane() < kLaneRows) y[lane()] = lane() < rows ? targets[sample(lane())] : T(0);
  }

  // The same of the samples of step t: its normals row by row, and what the teacher says of them.
  // Two lanes own a sample, and every second of the teacher's neurons.
  __device__ __forceinline__ void draw(T* x, T* y, int first, int rows, int64_t t) const {
    const Problem<T>& p = run.problem;
    const uint64_t seed = p.seeds[cuda::here(student)];
#pragma unroll 1
    for (int e = lane(); e < kLaneRows * kFours; e += 32)
      put(x + e / kFours * kPitch + 4 * (e % kFours), Four<T>{});
    __syncwarp();
    const int numbers = rows * z.d;
    const int64_t begin = static_cast<int64_t>(first) * z.d / 2;  // first is even
#pragma unroll 1
    for (int q = lane(); 2 * q < numbers; q += 32) {
      const double2 two =
          two_normals(seed, static_cast<uint64_t>(begin + q), static_cast<uint64_t>(t));
      const int i = z.by_d.quotient(2 * q), k = 2 * q - i * z.d;
      T* const to = x + i * kPitch + k;
      to[0] = static_cast<T>(two.x);
      if (2 * q + 1 < numbers) to[k + 1 < z.d ? 1 : kPitch - k] = static_cast<T>(two.y);
    }
    __syncwarp();
    T* const mine = x + lane() / 2 * kPitch;
    if (p.radius > 0) {  // a normal vector's direction is uniform
      double square = 0;
#pragma unroll 4
      for (int k = 0; k < z.d; ++k)
        square += static_cast<double>(mine[k]) * static_cast<double>(mine[k]);
      const double size = lane() / 2 < rows ? p.radius / sqrt(square) : 0.0;
      __syncwarp();
#pragma unroll 4
      for (int k = lane() % 2; k < z.d; k += 2) mine[k] = static_cast<T>(size * mine[k]);
      __syncwarp();
    }
    T row[Wide];
#pragma unroll
    for (int k = 0; k < Wide; k += 4) {
      const Four<T> value = four(mine + k);
#pragma unroll
      for (int l = 0; l < 4; ++l) row[k + l] = value.v[l];
    }
    T sum = 0;
#pragma unroll 1
    for (int j = lane() % 2; j < z.M; j += 2) {
      T activation = 0;
#pragma unroll
      for (int k = 0; k < Wide; k += 4) {
        const Four<T> v = four(memory.v1 + j * kPitch + k);
#pragma unroll
        for (int l = 0; l < 4; ++l) activation += row[k + l] * v.v[l];
      }
      sum += memory.v2[j] * (activation > T(0) ? activation : T(0));
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    if (lane() % 2 == 0) y[lane() / 2] = sum;
  }
};

}  // namespace lmc::train_ensemble
