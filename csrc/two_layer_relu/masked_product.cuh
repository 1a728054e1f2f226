// SPDX-License-Identifier: MIT
// The products of the backward pass whose left operand comes from the sign bits. With
//   a(i, j) = 1 where neuron j is active for sample i, else 0       (one output), or
//   a(i, j) = sum_o df(i, o) w2(o, j) where it is active, else 0    (several),
// either G(j, k) = sum_i a(i, j) b(i, k)  (OverSamples: the gradient to w1, b = x, scaled by df)
// or     G(i, k) = sum_j a(i, j) b(j, k)  (else: the gradient to x, b = w1, scaled by w2).
//
// Block (x, y, z) owns 128 rows and 64 columns of G, of part y of the sum, of network z; x runs
// over the row blocks first. Parts are added up by the finishing kernels, in order. The left tile
// is laid out (sample, neuron) whatever is summed over; a thread makes eight neighbouring neurons
// of a sample from a byte of the sign words.
#pragma once

#include "common/cuda/split_terms.cuh"

namespace lmc::two_layer_relu {

using namespace cuda;

inline constexpr int kProductRows = 128, kProductColumns = 64;

template <class Element, class T>
struct MaskedProduct {
  int64_t n, m, c, columns;
  const uint64_t* signs;   // (networks, words, n)
  const T *df, *w2;        // (networks, n, c), (networks, c, m)
  const Element* b;        // SimtProduct: (depth, b_columns); TensorProduct: in terms
  int64_t b_columns;       // the columns beyond are ones
  int64_t b_network;       // from one network to the next; 0: shared
  const T* scale;          // SimtProduct: (networks, depth), times the rows of b; or null
  T* partial;              // (networks, parts, rows, columns), overwritten
  int64_t depth_per_part;  // a multiple of 32, so that a step ends with its part or with the sum
};

// Which samples and neurons a tile's items are. Item e of a tile of `Samples` samples is byte
// e / Samples of sample e % Samples, so that a warp reads neighbouring words.
template <bool OverSamples, int Depth>
struct Items {
  static constexpr int kSamples = OverSamples ? Depth : kProductRows;
  static constexpr int kBytes = (OverSamples ? kProductRows : Depth) / 8;
  static constexpr int kPerThread = kSamples * kBytes / kThreads;
  static_assert(kSamples * kBytes % kThreads == 0, "whole items for every thread");
  static __device__ int item(int q) { return q * kThreads + static_cast<int>(threadIdx.x); }
  static __device__ int sample(int q) { return item(q) % kSamples; }
  static __device__ int byte(int q) { return item(q) / kSamples; }
};

// The block's place in G and in the sum.
template <bool OverSamples>
struct Place {
  int rows, depth, first_row, first_column, first, last;  // first ... last - 1 of the sum
  int network;
  template <class P>
  explicit __device__ Place(const P& p)
      : rows(static_cast<int>(OverSamples ? p.m : p.n)),
        depth(static_cast<int>(OverSamples ? p.n : p.m)),
        network(static_cast<int>(blockIdx.z)) {
    const unsigned row_blocks = static_cast<unsigned>(blocks_of(rows, kProductRows));
    first_row = static_cast<int>(blockIdx.x % row_blocks) * kProductRows;
    first_column = static_cast<int>(blockIdx.x / row_blocks) * kProductColumns;
    const int part = static_cast<int>(p.depth_per_part);
    first = static_cast<int>(blockIdx.y) * part;
    last = depth - first < part ? depth : first + part;
  }
  __device__ int sample(int k) const { return OverSamples ? k : first_row; }
  __device__ int neuron(int k) const { return OverSamples ? first_row : k; }
  // Where the block's part of G begins.
  template <class T, class P>
  __device__ T* out(const P& p) const {
    return p.partial + (static_cast<int64_t>(network) * gridDim.y + blockIdx.y) * rows * p.columns;
  }
};

// The sign bits of an item: 0 beyond the samples and (by contract) beyond the neurons.
template <class P>
__device__ unsigned sign_byte(const P& p, int64_t network, int sample, int neuron) {
  if (sample >= p.n || neuron >= p.m) return 0;
  const uint64_t word =
      __ldg(p.signs + (network * blocks_of(p.m, 64) + neuron / 64) * p.n + sample);
  return static_cast<unsigned>(word >> neuron % 64) & 0xffu;
}

// a(sample, neuron ... neuron + 7) for several outputs.
template <class T, class P>
__device__ void left_values(const P& p, int64_t network, int sample, int neuron, unsigned byte,
                            T (&values)[8]) {
#pragma unroll
  for (int e = 0; e < 8; ++e) values[e] = T(0);
  if (byte == 0) return;
  const T* df = p.df + (network * p.n + sample) * p.c;
  const T* w2 = p.w2 + network * p.c * p.m + neuron;
  for (int64_t o = 0; o < p.c; ++o) {
    const T factor = __ldg(df + o);
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (byte >> e & 1) values[e] += factor * __ldg(w2 + o * p.m + e);
  }
}

// On the ordinary units. A thread holds rows 4 ty ... 4 ty + 3 of either half and columns 4 tx ...
// 4 tx + 3; a sum runs over its depth in order.
template <class T, bool OverSamples, bool OneOutput>
__global__ void __launch_bounds__(kThreads) simt_product_kernel(MaskedProduct<T, T> p) {
  constexpr int kDepth = 16, kRows = 8, kCols = 4;
  constexpr int kPitchA = kProductRows + 4, kPitchB = kProductColumns + 4;
  constexpr int kStage = kDepth * (kPitchA + kPitchB);
  constexpr int kFetch = kDepth * kProductColumns / kThreads;
  using I = Items<OverSamples, kDepth>;
  static_assert(I::kPerThread == 1, "one item a thread");
  T* const stages = reinterpret_cast<T*>(dynamic_shared());
  const Place<OverSamples> place(p);
  const int ty = static_cast<int>(threadIdx.x) / 16, tx = static_cast<int>(threadIdx.x) % 16;

  const T* const b = p.b + place.network * p.b_network;
  unsigned byte = 0;
  T next[kFetch];
  const auto fetch = [&](int k0) {
    byte = sign_byte(p, place.network, place.sample(k0) + I::sample(0),
                     place.neuron(k0) + 8 * I::byte(0));
#pragma unroll
    for (int q = 0; q < kFetch; ++q) {
      const int e = q * kThreads + static_cast<int>(threadIdx.x);
      const int k = k0 + e / kProductColumns, column = place.first_column + e % kProductColumns;
      T value = T(0);
      if (k < place.last && column < p.columns) {
        value = column < p.b_columns ? __ldg(b + k * p.b_columns + column) : T(1);
        if (p.scale)
          value *= __ldg(p.scale + static_cast<int64_t>(place.network) * place.depth + k);
      }
      next[q] = value;
    }
  };
  const auto keep = [&](T* stage, int k0) {
    T values[8];
    if constexpr (OneOutput) {
#pragma unroll
      for (int e = 0; e < 8; ++e) values[e] = byte >> e & 1 ? T(1) : T(0);
    } else {
      left_values<T>(p, place.network, place.sample(k0) + I::sample(0),
                     place.neuron(k0) + 8 * I::byte(0), byte, values);
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int neuron = 8 * I::byte(0) + e;
      stage[OverSamples ? I::sample(0) * kPitchA + neuron : neuron * kPitchA + I::sample(0)] =
          values[e];
    }
    T* const right = stage + kDepth * kPitchA;
#pragma unroll
    for (int q = 0; q < kFetch; ++q) {
      const int e = q * kThreads + static_cast<int>(threadIdx.x);
      right[e / kProductColumns * kPitchB + e % kProductColumns] = next[q];
    }
  };

  T sum[kRows][kCols] = {};
  if (place.first < place.last) fetch(place.first);
  int turn = 0;
  for (int k0 = place.first; k0 < place.last; k0 += kDepth) {
    T* const stage = stages + turn * kStage;
    turn ^= 1;
    keep(stage, k0);
    __syncthreads();
    if (k0 + kDepth < place.last) fetch(k0 + kDepth);
    const T* const right = stage + kDepth * kPitchA;
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
      T a[kRows], c[kCols];
#pragma unroll
      for (int r = 0; r < kRows; ++r) a[r] = stage[k * kPitchA + r / 4 * 64 + ty * 4 + r % 4];
#pragma unroll
      for (int e = 0; e < kCols; ++e) c[e] = right[k * kPitchB + tx * 4 + e];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int e = 0; e < kCols; ++e) sum[r][e] += a[r] * c[e];
    }
  }
  T* const out = place.template out<T>(p);
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int e = 0; e < kCols; ++e) {
      const int i = place.first_row + r / 4 * 64 + ty * 4 + r % 4;
      const int k = place.first_column + tx * 4 + e;
      if (i < place.rows && k < p.columns) out[i * p.columns + k] = sum[r][e];
    }
}

template <class T>
constexpr size_t simt_product_shared() {
  return 2 * 16 * (kProductRows + 4 + kProductColumns + 4) * sizeof(T);
}

// On tensor cores. The right operand comes in Terms bfloat16 terms; the left one is exact in one
// term where it is a bit (so the products are exact, however the sum rounds), else it is split too.
// Eight warps, 4 by 2, each hold 32 rows and 32 columns. As in TensorTile each 16 elements are
// summed from zero by the tensor cores, and those sums by ordinary additions, in order.
template <bool OverSamples, bool OneOutput, int Terms>
struct TensorProduct {
  static constexpr int kDepth = 32, kStages = 3;
  static constexpr int kLeftTerms = OneOutput ? 1 : Terms;
  static constexpr int kLeft = kProductRows * kDepth, kRight = kDepth * kProductColumns;
  static constexpr size_t kBytes =
      (2 * kLeftTerms * kLeft + kStages * Terms * kRight) * sizeof(uint16_t);
  // Where 16 bytes lie, moved so that eight rows' chunks hit different banks. The left tile has
  // rows (samples) of 128 neurons when samples are summed over, else of 32.
  static __device__ int left_place(int sample, int chunk) {
    return OverSamples ? sample * kProductRows + (chunk ^ (sample & 7)) * 8
                       : sample * kDepth + (chunk ^ (sample >> 1 & 3)) * 8;
  }
  static __device__ int right_place(int k, int chunk) {
    return k * kProductColumns + (chunk ^ (k & 7)) * 8;
  }
};

template <bool OverSamples, bool OneOutput, int Terms>
__global__ void __launch_bounds__(kThreads)
    tensor_product_kernel(MaskedProduct<uint16_t, float> p) {
  if constexpr (!kTensorCores) return;
  using S = TensorProduct<OverSamples, OneOutput, Terms>;
  using I = Items<OverSamples, S::kDepth>;
  constexpr int kStages = S::kStages;
  auto* const left_tiles = reinterpret_cast<uint16_t*>(dynamic_shared());
  uint16_t* const right_tiles = left_tiles + 2 * S::kLeftTerms * S::kLeft;
  const Place<OverSamples> place(p);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp / 2, warp_column = warp % 2;

  const int pitch = static_cast<int>(padded(p.columns, kPitchUnit));
  const int64_t term_stride = static_cast<int64_t>(place.depth) * pitch;
  const uint16_t* const b = p.b + place.network * p.b_network;
  const auto fetch_right = [&](int stage, int k0) {
    uint16_t* const to = right_tiles + stage * Terms * S::kRight;
#pragma unroll
    for (int term = 0; term < Terms; ++term) {  // 32 rows of 8 chunks: one a thread
      const int row = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
      const int column = place.first_column + 8 * chunk;
      const bool valid = k0 + row < place.last && column < pitch;
      copy_async(
          to + term * S::kRight + S::right_place(row, chunk),
          valid ? b + term * term_stride + static_cast<int64_t>(k0 + row) * pitch + column : b,
          valid);
    }
  };
  unsigned bytes[I::kPerThread] = {};
  const auto fetch_signs = [&](int k0) {
#pragma unroll
    for (int q = 0; q < I::kPerThread; ++q) {
      bytes[q] = sign_byte(p, place.network, place.sample(k0) + I::sample(q),
                           place.neuron(k0) + 8 * I::byte(q));
    }
  };
  const auto keep_left = [&](uint16_t* to, int k0) {
#pragma unroll
    for (int q = 0; q < I::kPerThread; ++q) {
      const int at = S::left_place(I::sample(q), I::byte(q));
      if constexpr (OneOutput) {
        const unsigned byte = bytes[q];
        const auto pair = [&](int e) {
          return (byte >> e & 1) * 0x3f80u | (byte >> (e + 1) & 1) * 0x3f800000u;  // ones
        };
        *reinterpret_cast<uint4*>(to + at) = {pair(0), pair(2), pair(4), pair(6)};
      } else {
        float values[8];
        left_values<float>(p, place.network, place.sample(k0) + I::sample(q),
                           place.neuron(k0) + 8 * I::byte(q), bytes[q], values);
        uint16_t terms[8][Terms];
#pragma unroll
        for (int e = 0; e < 8; ++e) split<Terms>(values[e], terms[e]);
#pragma unroll
        for (int term = 0; term < Terms; ++term) {
          const auto pair = [&](int e) { return terms[e][term] | terms[e + 1][term] * 0x10000u; };
          *reinterpret_cast<uint4*>(to + term * S::kLeft + at) = {pair(0), pair(2), pair(4),
                                                                  pair(6)};
        }
      }
    }
  };

  float total[4][8] =
      {};  // rows g and g + 8 of two blocks of 16, columns 2 t, 2 t + 1 of four of 8
  const int columns_left = static_cast<int>(p.columns) - place.first_column - warp_column * 32;
  const auto multiply = [&](const uint16_t* left, const uint16_t* right, int half) {
    float sum[4][8] = {};
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      if (pair * 16 >= columns_left) break;  // nothing there; the same for all lanes
      uint32_t b_terms[Terms][4];
#pragma unroll
      for (int term = 0; term < Terms; ++term)
        load_matrices_transposed(
            b_terms[term],
            right + term * S::kRight +
                S::right_place(half * 16 + lane % 16, warp_column * 4 + pair * 2 + lane / 16));
#pragma unroll
      for (int a = S::kLeftTerms - 1; a >= 0; --a) {
        uint32_t a_terms[2][4];
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          const uint16_t* const tile = left + a * S::kLeft;
          if constexpr (OverSamples)
            load_matrices_transposed(a_terms[block],
                                     tile + S::left_place(half * 16 + lane % 8 + lane / 16 * 8,
                                                          warp_row * 4 + block * 2 + lane / 8 % 2));
          else
            load_matrices(
                a_terms[block],
                tile + S::left_place(warp_row * 32 + block * 16 + lane % 16, 2 * half + lane / 16));
        }
#pragma unroll
        for (int term = Terms - 1 - a; term >= 0; --term)
#pragma unroll
          for (int block = 0; block < 2; ++block)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const int c = pair * 4 + e * 2;
              multiply_add(sum[2 * block][c], sum[2 * block][c + 1], sum[2 * block + 1][c],
                           sum[2 * block + 1][c + 1], a_terms[block], b_terms[term][2 * e],
                           b_terms[term][2 * e + 1]);
            }
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 8; ++c) total[r][c] += sum[r][c];
  };

  const int steps = static_cast<int>(blocks_of(place.last - place.first, S::kDepth));
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) fetch_right(s, place.first + s * S::kDepth);
    copy_commit();
  }
  if (steps > 0) fetch_signs(place.first);
  for (int step = 0; step < steps; ++step) {
    const int k0 = place.first + step * S::kDepth;
    // Written before this step's barrier; last read before the one two steps ago.
    uint16_t* const left = left_tiles + step % 2 * S::kLeftTerms * S::kLeft;
    keep_left(left, k0);
    copy_wait<kStages - 2>();
    __syncthreads();
    const int next = step + kStages - 1;
    if (next < steps) fetch_right(next % kStages, place.first + next * S::kDepth);
    copy_commit();
    if (step + 1 < steps) fetch_signs(k0 + S::kDepth);
    const uint16_t* const right = right_tiles + step % kStages * Terms * S::kRight;
    multiply(left, right, 0);
    if (k0 + 16 < place.last) multiply(left, right, 1);
  }
  float* const out = place.template out<float>(p);
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const int i = place.first_row + warp_row * 32 + r / 2 * 16 + r % 2 * 8 + lane / 4;
      const int k = place.first_column + warp_column * 32 + c / 2 * 8 + lane % 4 * 2 + c % 2;
      if (i < place.rows && k < p.columns) out[i * p.columns + k] = total[r][c];
    }
}

}  // namespace lmc::two_layer_relu
