// SPDX-License-Identifier: MIT
// Moves a vector's chosen lanes together, so that rare lanes can be gathered into dense lists.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

#if defined(__AVX2__) && !defined(__AVX512F__)
// Entry b lists the set bits of b, lowest first.
struct SetBits {
  int32_t of[256][8];
  constexpr SetBits() : of() {
    for (int b = 0; b < 256; ++b)
      for (int bit = 0, count = 0; bit < 8; ++bit)
        if (b >> bit & 1) of[b][count++] = bit;
  }
};
inline constexpr SetBits kSetBits;
#endif

// Writes the lanes in `bits`, in order, to `to`. A whole vector is written: what follows the chosen
// lanes is unspecified.
LMC_INLINE void store_compressed(float* to, LaneBits bits, Vec<float> v) {
#if defined(__AVX512F__)
  // In a register and then stored: on some processors a compress to memory is many times slower.
  store(to, (Vec<float>)_mm512_maskz_compress_ps(static_cast<__mmask16>(bits), (__m512)v));
#elif defined(__AVX2__)
  const __m256i order =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kSetBits.of[bits & 255]));
  store(to, (Vec<float>)_mm256_permutevar8x32_ps((__m256)v, order));
#else
  for (int l = 0, count = 0; l < kLanes<float>; ++l) {
    to[count] = v[l];
    count += bits >> l & 1;
  }
#endif
}
LMC_INLINE void store_compressed(double* to, LaneBits bits, Vec<double> v) {
#if defined(__AVX512F__)
  store(to, (Vec<double>)_mm512_maskz_compress_pd(static_cast<__mmask8>(bits), (__m512d)v));
#elif defined(__AVX2__)
  // Every double is a pair of the floats that the permutation moves: bit l becomes bits 2 l and 2 l
  // + 1.
  const __m256i order = _mm256_loadu_si256(
      reinterpret_cast<const __m256i*>(kSetBits.of[_pdep_u32(bits & 15, 0x55) * 3]));
  store(to, (Vec<double>)_mm256_permutevar8x32_ps((__m256)v, order));
#else
  for (int l = 0, count = 0; l < kLanes<double>; ++l) {
    to[count] = v[l];
    count += bits >> l & 1;
  }
#endif
}

}  // namespace lmc::LMC_TARGET
