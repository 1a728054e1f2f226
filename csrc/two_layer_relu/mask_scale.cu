// SPDX-License-Identifier: MIT
// One thread owns elements (i, j), (i, j + stride), ... of dz in a grid-stride loop over the flat
// index, so that neighbouring threads write neighbouring neurons. Nothing is accumulated across
// threads.
#include "common/cuda_kernels.h"
#include "two_layer_relu/mask_scale.h"

namespace lmc::two_layer_relu {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 65535;

template <class T>
__global__ void __launch_bounds__(kThreads) mask_scale_kernel(MaskScale<T> p) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; e < p.n * p.m;
       e += stride)
    p.dz[e] = mask_scale_element(p, e / p.m, e % p.m);
}

template <class T>
const char* launch(const MaskScale<T>& p, void* stream) {
  const int64_t elements = p.n * p.m;
  if (elements == 0) return nullptr;
  const int64_t blocks = (elements + kThreads - 1) / kThreads;
  mask_scale_kernel<T><<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads,
                         0, static_cast<cudaStream_t>(stream)>>>(p);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

const CudaKernel float32{"two_layer_relu.mask_scale.float32", &launch<float>};
const CudaKernel float64{"two_layer_relu.mask_scale.float64", &launch<double>};

}  // namespace
}  // namespace lmc::two_layer_relu
