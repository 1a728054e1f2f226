// SPDX-License-Identifier: MIT
// dz = mask * (r w2): the elementwise step of the backward pass, and the pattern of a CUDA op. What
// is not launch machinery (which bit, which sum, which order) is a host-device function here, so
// that the host tests it; the .cu holds the launch alone.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define LMC_HOST_DEVICE __host__ __device__
#else
#define LMC_HOST_DEVICE
#endif

namespace lmc::two_layer_relu {

template <class T>
struct MaskScale {
  int64_t n, m, c;
  const uint64_t* signs;  // (words,n), words = ceil(m / 64)
  const T *r, *w2;        // (n,c), (c,m)
  T* dz;                  // (n,m), overwritten
};

// Element (i, j). The sum over outputs runs o = 0, 1, ...; an inactive neuron gives 0 whatever the
// sum.
template <class T>
LMC_HOST_DEVICE T mask_scale_element(const MaskScale<T>& p, int64_t i, int64_t j) {
  if (((p.signs[(j / 64) * p.n + i] >> (j % 64)) & 1) == 0) return T(0);
  T sum = T(0);
  for (int64_t o = 0; o < p.c; ++o) sum += p.r[i * p.c + o] * p.w2[o * p.m + j];
  return sum;
}

// Enqueues the kernel on the current device's stream and returns null, or says what went wrong.
using MaskScaleLauncherF32 = const char*(const MaskScale<float>&, void* stream);
using MaskScaleLauncherF64 = const char*(const MaskScale<double>&, void* stream);

}  // namespace lmc::two_layer_relu
