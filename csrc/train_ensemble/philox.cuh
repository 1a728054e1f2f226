// SPDX-License-Identifier: MIT
// The random numbers of philox-inl.h, which has their definition, for one thread or a block.
#pragma once

#include "cuda_device.h"

namespace lmc::train_ensemble {

inline constexpr uint32_t kShuffles = 0, kSamples = 1;  // streams

struct PhiloxBlock {
  uint32_t a, b, c, d;
};

inline __device__ PhiloxBlock philox(uint64_t seed, uint64_t index, uint64_t step,
                                     uint32_t stream) {
  uint32_t x0 = static_cast<uint32_t>(index), x1 = static_cast<uint32_t>(index >> 32);
  uint32_t x2 = static_cast<uint32_t>(step), x3 = stream;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * x0, product1 = uint64_t{0xCD9E8D57u} * x2;
    x0 = static_cast<uint32_t>(product1 >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(product1);
    x2 = static_cast<uint32_t>(product0 >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {x0, x1, x2, x3};
}

inline __device__ double uniform(uint32_t low, uint32_t high) {
  const uint64_t k = (low | static_cast<uint64_t>(high) << 32) >> 11;
  return (static_cast<double>(k) + 0.5) * 0x1p-53;
}

// Numbers 2 q and 2 q + 1 of a step.
inline __device__ double2 two_normals(uint64_t seed, uint64_t q, uint64_t step) {
  const PhiloxBlock block = philox(seed, q, step, kSamples);
  const double size = sqrt(-2.0 * log(uniform(block.a, block.b)));
  double sine, cosine;
  cuda::sine_cosine_2pi(uniform(block.c, block.d), &sine, &cosine);
  return {size * cosine, size * sine};
}

// The order in which an epoch visits n samples, by a block; `choices` has room for n. The numbers
// are drawn by all threads, the exchanges are one thread's.
template <int Threads>
__device__ void fill_shuffle(uint64_t seed, int n, uint64_t epoch, uint32_t* choices,
                             uint32_t* order) {
  __syncthreads();  // the last epoch is not read any more
  for (int b = static_cast<int>(threadIdx.x); b < (n + 3) / 4; b += Threads) {
    const PhiloxBlock block = philox(seed, static_cast<uint64_t>(b), epoch, kShuffles);
    const auto choose = [&](int i, uint32_t word) {
      if (i >= n) return;
      choices[i] = static_cast<uint32_t>(word * (static_cast<uint64_t>(i) + 1) >> 32);
      order[i] = static_cast<uint32_t>(i);
    };
    choose(4 * b, block.a);
    choose(4 * b + 1, block.b);
    choose(4 * b + 2, block.c);
    choose(4 * b + 3, block.d);
  }
  __syncthreads();
  if (threadIdx.x == 0)
    for (int i = n - 1; i > 0; --i) {
      const uint32_t j = choices[i], other = order[j];
      order[j] = order[i];
      order[i] = other;
    }
  __syncthreads();
}

}  // namespace lmc::train_ensemble
