// SPDX-License-Identifier: MIT
// The functions of common/math-inl.h over arrays, so that each target's can be tested from Python.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::vector_math {

using Function = void (*)(int64_t n, const double* in, double* out);  // out (n) = f(in (n))

struct Functions {
  Function exp, log, sin_2pi, cos_2pi;
};

LMC_DECLARE_TABLE(Functions, functions)

}  // namespace lmc::vector_math
