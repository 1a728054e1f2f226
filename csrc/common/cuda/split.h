// SPDX-License-Identifier: MIT
// A float32 as a sum of bfloat16 terms, of which products are exact in float32.
//
// Each term is the rest rounded to nearest: |rest after i terms| <= 2^-9i |value|, so that three
// terms hold all 24 bits of a float32 (whose magnitude is at least 2^-110: the third term of a
// smaller one is below the smallest bfloat16). Infinity and NaN stay in the first term.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace lmc::cuda {

LMC_HOST_DEVICE inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}
LMC_HOST_DEVICE inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// To nearest, ties to even. What would round to infinity is truncated: the rest then holds more.
LMC_HOST_DEVICE inline uint16_t to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7f800000u) == 0x7f800000u)  // infinity, or NaN: one that stays one
    return static_cast<uint16_t>((bits >> 16) | ((bits & 0x007fffffu) != 0 ? 0x40u : 0u));
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool overflow = (rounded & 0x7f800000u) == 0x7f800000u;
  return static_cast<uint16_t>((overflow ? bits : rounded) >> 16);
}
LMC_HOST_DEVICE inline float from_bfloat16(uint16_t bits) {
  return float_of(static_cast<uint32_t>(bits) << 16);
}

template <int Terms>
LMC_HOST_DEVICE inline void split(float value, uint16_t (&terms)[Terms]) {
  float rest = value;
  for (int i = 0; i < Terms; ++i) {
    terms[i] = to_bfloat16(rest);
    rest -= from_bfloat16(terms[i]);
    if (!(rest == rest)) rest = 0.0f;  // infinity minus itself
  }
}

}  // namespace lmc::cuda
