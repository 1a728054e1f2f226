// SPDX-License-Identifier: MIT
// Defines the table of functions for the target the including file is compiled for.
#pragma once

#include "common/math-inl.h"
#include "vector_math/vector_math.h"

namespace lmc::LMC_TARGET {

template <Vec<double> (*function)(Vec<double>)>
void map_array(int64_t n, const double* in, double* out) {
  constexpr int L = kLanes<double>;
  for (int64_t i = 0; i < n; i += L) {
    const int64_t count = smaller(L, n - i);
    double lanes[L] = {};
    for (int64_t l = 0; l < count; ++l) lanes[l] = in[i + l];
    store(lanes, function(load(lanes)));
    for (int64_t l = 0; l < count; ++l) out[i + l] = lanes[l];
  }
}

LMC_INLINE Vec<double> vector_sin_2pi(Vec<double> u) { return vector_sincos_2pi(u).sine; }
LMC_INLINE Vec<double> vector_cos_2pi(Vec<double> u) { return vector_sincos_2pi(u).cosine; }

}  // namespace lmc::LMC_TARGET

namespace lmc::vector_math::LMC_TARGET {

namespace target = lmc::LMC_TARGET;
extern const Functions functions{
    target::map_array<target::vector_exp>, target::map_array<target::vector_log>,
    target::map_array<target::vector_sin_2pi>, target::map_array<target::vector_cos_2pi>};

}  // namespace lmc::vector_math::LMC_TARGET
