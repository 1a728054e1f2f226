// SPDX-License-Identifier: MIT
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), one block per 64-bit lane, and what is drawn
// from it:
//   key = (seed low, seed high), counter = (index low, index high, step, stream)
// as in lmc_fast/reference/philox.py.
#pragma once

#include "common/math-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr uint64_t kShuffles = 0, kSamples = 1;  // streams
inline constexpr int kBlockLanes = kLanes<double>;      // blocks made at a time

// The product of the lower 32 bits of each lane.
LMC_INLINE UintVec multiply_low_words(UintVec a, UintVec b) {
#if defined(__AVX512F__)
  // Masked, because the plain intrinsic makes GCC 12 warn of its own undefined lanes.
  return (UintVec)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (UintVec)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (UintVec)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

struct PhiloxBlocks {
  UintVec word[4];  // 32-bit words in 64-bit lanes
};

// Blocks first, first + 1, ..., one per lane.
LMC_INLINE PhiloxBlocks philox(uint64_t seed, uint64_t first, uint64_t step, uint64_t stream) {
  constexpr uint64_t kLow = 0xFFFFFFFF;
  const UintVec zero = {};
  UintVec index;
  for (int l = 0; l < kBlockLanes; ++l) index[l] = first + static_cast<uint64_t>(l);
  UintVec x0 = index & kLow, x1 = index >> 32, x2 = zero + (step & kLow), x3 = zero + stream;
  const UintVec m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
  uint64_t k0 = seed & kLow, k1 = seed >> 32;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const UintVec product0 = multiply_low_words(x0, m0), product1 = multiply_low_words(x2, m1);
    x0 = (product1 >> 32) ^ x1 ^ k0;
    x1 = product1 & kLow;
    x2 = (product0 >> 32) ^ x3 ^ k1;
    x3 = product0 & kLow;
    k0 = (k0 + 0x9E3779B9u) & kLow;
    k1 = (k1 + 0xBB67AE85u) & kLow;
  }
  return {{x0, x1, x2, x3}};
}

// ((k >> 11) + 0.5) 2^-53 of k = low | high << 32: both halves are turned into doubles exactly by
// setting them into the mantissa of 2^52 and 2^84; only adding 0.5 rounds, as it does in the
// reference.
LMC_INLINE Vec<double> uniform(UintVec low, UintVec high) {
  const UintVec k = (low | (high << 32)) >> 11;
  const Vec<double> upper = (Vec<double>)((k >> 32) | 0x4530000000000000u) - 0x1p84;
  const Vec<double> lower = (Vec<double>)((k & 0xFFFFFFFFu) | 0x4330000000000000u) - 0x1p52;
  return ((upper + lower) + 0.5) * 0x1p-53;
}

LMC_INLINE int64_t padded_normals(int64_t count) { return round_up(count, 2 * kBlockLanes); }

// `count` standard normals of a training step by Box-Muller; `out` has room for
// padded_normals(count).
LMC_INLINE void fill_normals(uint64_t seed, int64_t count, uint64_t step, double* out) {
  for (int64_t at = 0; at < count; at += 2 * kBlockLanes) {
    const PhiloxBlocks blocks = philox(seed, static_cast<uint64_t>(at) / 2, step, kSamples);
    const Vec<double> u1 = uniform(blocks.word[0], blocks.word[1]);
    const Vec<double> u2 = uniform(blocks.word[2], blocks.word[3]);
    const Vec<double> size = square_root(-2.0 * vector_log(u1));
    const SineCosine turn = vector_sincos_2pi(u2);
    const Vec<double> even = size * turn.cosine, odd = size * turn.sine;
    for (int l = 0; l < kBlockLanes; ++l) {
      out[at + 2 * l] = even[l];
      out[at + 2 * l + 1] = odd[l];
    }
  }
}

// The order in which an epoch visits n samples: Fisher-Yates from the end, with i = n-1 ... 1
// swapped with j = (u (i + 1)) >> 32, u being word i mod 4 of block i / 4. `words` has room for
// shuffle_words(n).
LMC_INLINE int64_t shuffle_words(int64_t n) { return round_up(n, 4 * kBlockLanes); }

LMC_INLINE void fill_shuffle(uint64_t seed, int64_t n, uint64_t epoch, uint32_t* words,
                             int64_t* order) {
  for (int64_t at = 0; at < n; at += 4 * kBlockLanes) {
    const PhiloxBlocks blocks = philox(seed, static_cast<uint64_t>(at) / 4, epoch, kShuffles);
    for (int l = 0; l < kBlockLanes; ++l)
      for (int w = 0; w < 4; ++w) words[at + 4 * l + w] = static_cast<uint32_t>(blocks.word[w][l]);
  }
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  for (int64_t i = n - 1; i > 0; --i) {
    const auto j =
        static_cast<int64_t>(static_cast<uint64_t>(words[i]) * static_cast<uint64_t>(i + 1) >> 32);
    const int64_t other = order[j];
    order[j] = order[i];
    order[i] = other;
  }
}

}  // namespace lmc::LMC_TARGET
