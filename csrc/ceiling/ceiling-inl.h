// SPDX-License-Identifier: MIT
// The loops, for the target the including file is compiled for.
#pragma once

#include "ceiling/ceiling.h"
#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

// Enough independent chains to hide the latency of a multiply-add, few enough for the registers.
inline constexpr int kChains = LMC_REGISTERS == 32 ? 24 : 12;

template <class T>
int64_t multiply_add(int64_t rounds, int threads, T* sink) {
  for_each_task(threads, threads, [&](int64_t task, int) {
    Vec<T> chain[kChains];
    for (int i = 0; i < kChains; ++i) chain[i] = broadcast(sink[task] + static_cast<T>(i));
    const Vec<T> factor = broadcast(T{0.5}), term = broadcast(T{1});
    for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 32
      for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + term;
    Vec<T> sum = {};
    for (int i = 0; i < kChains; ++i) sum += chain[i];
    sink[task] = static_cast<T>(lane_sum<T>(sum));
  });
  return 2 * rounds * threads * kChains * kLanes<T>;
}

template <class T>
void copy(int64_t count, const T* in, T* out, int threads) {
  const int64_t share = ceil_div(count, threads);
  for_each_task(threads, threads, [&](int64_t task, int) {
    const int64_t first = smaller(count, task * share), last = smaller(count, first + share);
    memcpy(out + first, in + first, static_cast<size_t>(last - first) * sizeof(T));
  });
}

}  // namespace lmc::LMC_TARGET

namespace lmc::ceiling::LMC_TARGET {

extern const Kernels<float> kernels_float32{lmc::LMC_TARGET::multiply_add<float>,
                                            lmc::LMC_TARGET::copy<float>};
extern const Kernels<double> kernels_float64{lmc::LMC_TARGET::multiply_add<double>,
                                             lmc::LMC_TARGET::copy<double>};

}  // namespace lmc::ceiling::LMC_TARGET
