// SPDX-License-Identifier: MIT
// The contract of two_layer_relu's CUDA kernels: that of two_layer_relu.h with all arrays on the
// device, but for dx, which is (n,d) when x is shared: the sum over the networks.
#pragma once

#include "common/cuda/call.h"
#include "two_layer_relu/two_layer_relu.h"

namespace lmc::two_layer_relu {

// Null, or what went wrong.
template <class T>
using CudaForwardFunction = const char*(const Forward<T>&, cuda::Call&);
template <class T>
using CudaBackwardFunction = const char*(const Backward<T>&, cuda::Call&);

}  // namespace lmc::two_layer_relu
