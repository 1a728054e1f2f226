// SPDX-License-Identifier: MIT
// The random numbers of philox-inl.h, which has their definition, for one thread.
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

}  // namespace lmc::train_ensemble
