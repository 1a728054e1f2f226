// SPDX-License-Identifier: MIT
// Matrices in bfloat16 terms, the operands of tensor cores: (networks, terms, rows, pitch) with the
// pitch a multiple of 8, so that rows begin at multiples of 16 bytes, and zeros beyond the columns.
#pragma once

#include "common/cuda/shape.h"
#include "common/cuda/split.h"
#include "cuda_device.h"

namespace lmc::cuda {

inline constexpr int kPitchUnit = 8;

struct SplitTerms {
  int64_t networks, rows, columns;  // of the result, but for its padding
  const float* from;                // (networks, rows, from_columns)
  int64_t from_columns, from_network;
  // Row k is multiplied by scale[k], unless null; columns from from_columns on hold the scale,
  // or 1.
  const float* scale;  // (networks, rows) at network scale_network + k
  int64_t scale_network;
  uint16_t* to;
};

inline int64_t split_size(int64_t rows, int64_t columns, int terms) {
  return terms * rows * padded(columns, kPitchUnit);
}

// A thread owns an element of all terms.
template <int Terms>
__global__ void __launch_bounds__(kThreads) split_terms_kernel(SplitTerms p) {
  const int64_t pitch = padded(p.columns, kPitchUnit), size = p.rows * pitch;
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.networks * size) return;
  const int64_t network = e / size, k = e % size / pitch, column = e % pitch;
  float value = 0.0f;
  if (column < p.columns) {
    value = column < p.from_columns ? p.from[network * p.from_network + k * p.from_columns + column]
                                    : 1.0f;
    if (p.scale) value *= p.scale[network * p.scale_network + k];
  }
  uint16_t terms[Terms];
  split<Terms>(value, terms);
#pragma unroll
  for (int i = 0; i < Terms; ++i) p.to[(network * Terms + i) * size + e % size] = terms[i];
}

inline const char* split_terms(const SplitTerms& p, int terms, void* stream) {
  const int64_t elements = p.networks * p.rows * padded(p.columns, kPitchUnit);
  const dim3 grid(static_cast<unsigned>(blocks_of(elements, kThreads)));
  const auto kernel = terms == 1   ? &split_terms_kernel<1>
                      : terms == 2 ? &split_terms_kernel<2>
                                   : &split_terms_kernel<3>;
  return launch(kernel, grid, kThreads, 0, stream, p);
}

}  // namespace lmc::cuda
