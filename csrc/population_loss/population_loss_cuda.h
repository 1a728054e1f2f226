// SPDX-License-Identifier: MIT
// The contract of population_loss' CUDA kernels: that of population_loss.h with all arrays on the
// device.
#pragma once

#include "common/cuda/call.h"
#include "population_loss/population_loss.h"

namespace lmc::population_loss {

using CudaFunction = const char*(const Loss&, cuda::Call&);  // null, or what went wrong

}  // namespace lmc::population_loss
