// SPDX-License-Identifier: MIT
// The contract of path_losses' CUDA kernels: that of path_losses.h with all arrays on the device.
// Labels are not checked: the loss of a sample whose label is out of range is NaN.
#pragma once

#include "common/cuda/call.h"
#include "path_losses/path_losses.h"

namespace lmc::path_losses {

template <class T>
using CudaFunction = const char*(const Arguments<T>&, cuda::Call&);  // null, or what went wrong

}  // namespace lmc::path_losses
