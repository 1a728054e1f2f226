// SPDX-License-Identifier: MIT
// From the parts of masked products to gradients, and the gradient to b2. Nothing is added in an
// order that could vary.
#pragma once

#include "common/cuda/shape.h"
#include "cuda_device.h"

namespace lmc::two_layer_relu {

using namespace cuda;

// From G to the gradients to w1, b1 and (one output, by relu's homogeneity) w2. A warp owns a
// neuron; its lanes walk the columns, and their shares of <w1, G> are added in a tree, in float64.
template <class T>
struct FinishWeights {
  int64_t networks, parts, m, c, d, columns;  // columns: d, or d + 1 with the bias's
  const T* partial;                           // (networks, parts, m, columns)
  const T *w1, *b1, *w2;
  T *dw1, *db1, *dw2;  // null: not wanted
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) finish_weights_kernel(FinishWeights<T> p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t neuron = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (neuron >= p.networks * p.m) return;  // whole warps
  const int64_t network = neuron / p.m, j = neuron % p.m, size = p.m * p.columns;
  const double w2 = p.c == 1 ? static_cast<double>(p.w2[neuron]) : 1.0;
  double product = 0;
  for (int64_t k = lane; k < p.columns; k += 32) {
    double g = 0;
    for (int64_t part = 0; part < p.parts; ++part)
      g += static_cast<double>(p.partial[(network * p.parts + part) * size + j * p.columns + k]);
    const bool is_weight = k < p.d;
    const T* const weight = is_weight ? p.w1 + neuron * p.d + k : p.b1 + neuron;
    T* const gradient = is_weight ? (p.dw1 ? p.dw1 + neuron * p.d + k : nullptr)
                                  : (p.db1 ? p.db1 + neuron : nullptr);
    product += static_cast<double>(*weight) * g;
    if (gradient) *gradient = static_cast<T>(w2 * g);
  }
  if (p.dw2 == nullptr || p.c != 1) return;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    product += __shfl_xor_sync(~0u, product, distance);
  if (lane == 0) p.dw2[neuron] = static_cast<T>(product);
}

// From G to the gradient to x: the sum over parts, times df for one output; of an x that all
// networks share, the sum over them. A thread owns an element.
template <class T>
struct FinishInputs {
  int64_t networks, parts, n, c, d;
  const T *partial, *df;  // (networks, parts, n, d), (networks, n, c)
  T* dx;                  // (networks, n, d), or (n, d) when shared
  bool shared, add;       // add to what dx holds: an earlier group of networks
};

template <class T>
__global__ void __launch_bounds__(kThreads) finish_inputs_kernel(FinishInputs<T> p) {
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t size = p.n * p.d;
  if (e >= (p.shared ? 1 : p.networks) * size) return;
  const int64_t i = e % size / p.d;
  double sum = p.add ? static_cast<double>(p.dx[e]) : 0.0;
  const int64_t first = p.shared ? 0 : e / size, last = p.shared ? p.networks : first + 1;
  for (int64_t network = first; network < last; ++network) {
    double g = 0;
    for (int64_t part = 0; part < p.parts; ++part)
      g += static_cast<double>(p.partial[(network * p.parts + part) * size + e % size]);
    sum += p.c == 1 ? static_cast<double>(p.df[network * p.n + i]) * g : g;
  }
  p.dx[e] = static_cast<T>(sum);
}

// db2(o) = sum_i df(i, o). A block owns an output of a network; thread t sums every 256th sample,
// and the threads' sums are added in a tree.
template <class T>
struct SumSamples {
  int64_t n, c;
  const T* df;  // (networks, n, c)
  T* db2;       // (networks, c)
};

template <class T>
__global__ void __launch_bounds__(kThreads) sum_samples_kernel(SumSamples<T> p) {
  auto* const sums = reinterpret_cast<double*>(dynamic_shared());
  const int64_t network = blockIdx.x / p.c, o = blockIdx.x % p.c;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < p.n; i += kThreads)
    sum += static_cast<double>(p.df[(network * p.n + i) * p.c + o]);
  sums[threadIdx.x] = sum;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) p.db2[blockIdx.x] = static_cast<T>(sums[0]);
}

}  // namespace lmc::two_layer_relu
