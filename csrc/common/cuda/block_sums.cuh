// SPDX-License-Identifier: MIT
// Sums over the threads of a block, known to all of them: lanes in a tree, then warps in order.
#pragma once

#include "common/cuda/shape.h"
#include "cuda_device.h"

namespace lmc::cuda {

// Adds up each of `values`. `scratch` has room for N kMostWarps doubles, and is free again on
// return.
template <int Threads, int N>
__device__ void block_sums(double (&values)[N], double* scratch) {
  constexpr int kWarps = Threads / 32;
  static_assert(kWarps <= kMostWarps);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
#pragma unroll
    for (int v = 0; v < N; ++v) values[v] += __shfl_xor_sync(~0u, values[v], distance);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0)
    for (int v = 0; v < N; ++v) scratch[v * kWarps + warp] = values[v];
  __syncthreads();
#pragma unroll
  for (int v = 0; v < N; ++v) {
    values[v] = 0;
    for (int w = 0; w < kWarps; ++w) values[v] += scratch[v * kWarps + w];
  }
  __syncthreads();
}

template <int Threads>
__device__ double block_sum(double value, double* scratch) {
  double values[1] = {value};
  block_sums<Threads>(values, scratch);
  return values[0];
}

}  // namespace lmc::cuda
