// SPDX-License-Identifier: MIT
// What this machine can do at best, for benchmarks to be compared with: a loop of multiply-adds
// that never leaves the registers, and a copy.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::ceiling {

template <class T>
struct Kernels {
  // Runs `rounds` rounds of independent multiply-adds in each of `threads` tasks; returns the
  // operations done, a multiply-add counting as two. `sink` (threads) gives the chains their starts
  // and takes their sum, so that the compiler can neither merge nor drop them.
  int64_t (*multiply_add)(int64_t rounds, int threads, T* sink);
  void (*copy)(int64_t count, const T* in, T* out, int threads);
};

LMC_DECLARE_TABLE(Kernels<float>, kernels_float32)
LMC_DECLARE_TABLE(Kernels<double>, kernels_float64)

}  // namespace lmc::ceiling
