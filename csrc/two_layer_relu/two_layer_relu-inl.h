// SPDX-License-Identifier: MIT
// Defines this op's kernel tables for the target the including file is compiled for.
#pragma once

#include "two_layer_relu/backward-inl.h"
#include "two_layer_relu/forward-inl.h"

namespace lmc::two_layer_relu::LMC_TARGET {

extern const Kernels<float> kernels_float32{lmc::LMC_TARGET::forward<float>,
                                            lmc::LMC_TARGET::backward<float>};
extern const Kernels<double> kernels_float64{lmc::LMC_TARGET::forward<double>,
                                             lmc::LMC_TARGET::backward<double>};

}  // namespace lmc::two_layer_relu::LMC_TARGET
