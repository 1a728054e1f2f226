// SPDX-License-Identifier: MIT
// out(i, o) = sum_j relu(z(i, j)) v(o, j), z(i, j) = <x_i, w_j> + bias, without keeping z.
//
// This is the forward pass (i a sample, j a neuron, v = w2), which also writes the signs of z; and
// with the roles exchanged the gradient to w2 (i a neuron, j a sample, v(o, j) = df(j, o)).
//
// Block (x, y) owns part x % parts of the columns, rows x / parts of the tile's height, network y:
// the parts of the same rows run together, so that few rows at a time have to stay in the level-2
// cache. It walks the tiles of its columns in order; a thread keeps its part of z in registers;
// thread t owns row t's sums and adds one number a tile to them in float64. sum_parts() adds up the
// parts in order.
#pragma once

#include "common/cuda/warpgroup_tile.cuh"

namespace lmc::two_layer_relu {

using namespace cuda;

template <class Element, class T>
struct ReluSum {
  int64_t rows, columns, depth, outputs;
  const Element *x, *w;             // (rows, depth), (columns, depth), or in terms
  int64_t x_network, w_network;     // from one network to the next; 0: shared
  int64_t x_term, w_term;           // from one term to the next
  const T *row_bias, *column_bias;  // (networks, rows), (networks, columns), or null
  const T* v;                       // v(o, j) at o v_output + j v_column
  int64_t v_output, v_column, v_network;
  uint64_t* signs;  // (networks, words of columns, rows), or null
  double* partial;  // (networks, parts, outputs, rows), overwritten
  int64_t parts, tiles_per_part;
};

template <class Tile>
struct ReluSumShared {
  static constexpr size_t kSigns = Tile::shared_bytes();
  static constexpr size_t kScratch = kSigns + Tile::kTileRows * 16;
  static constexpr size_t kWeights = kScratch + Scratch<Tile>::bytes();
  static constexpr size_t kBytes = kWeights + 2 * kTileColumns * sizeof(typename Tile::Value);
};

// relu of a tile. With bits (rows, 4), zero before, also which z are active, complete behind a
// barrier.
template <class Tile>
__device__ void activate(Tile& tile, unsigned* bits) {
  using T = typename Tile::Value;
  constexpr int kRun = Tile::kColumnsPerWord;
  [[maybe_unused]] const int lane = static_cast<int>(threadIdx.x) % Tile::kLanesPerRow;
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int run = 0; run < Tile::kCols; run += kRun) {
      unsigned word = 0;
#pragma unroll
      for (int c = run; c < run + kRun; ++c) {
        const bool active = !(tile.z[r][c] <= T(0));
        tile.z[r][c] = active ? tile.z[r][c] : T(0);
        if (active) word |= 1u << (Tile::column(c) - Tile::column(run));
      }
      if (bits == nullptr) continue;
      word <<= Tile::column(run) % 32;
      unsigned* const to = &bits[Tile::row(r) * 4 + Tile::column(run) / 32];
      if constexpr (Tile::kLanesPerRow * kRun == 32) {  // the lanes of a row have all of the word
#pragma unroll
        for (int distance = 1; distance < Tile::kLanesPerRow; distance *= 2)
          word |= __shfl_xor_sync(~0u, word, distance);
        if (lane == run / kRun % Tile::kLanesPerRow) *to = word;
      } else {
        atomicOr(to, word);
      }
    }
}

// Writes which z are active, and leaves zeros.
template <class Tile, class Parameters>
__device__ void write_signs(const Parameters& p, unsigned* bits, int64_t network, int first_row,
                            int first_column) {
  const int64_t words = blocks_of(p.columns, 64);
  const int row = static_cast<int>(threadIdx.x) % Tile::kTileRows;
  const int pair = static_cast<int>(threadIdx.x) / Tile::kTileRows;
  const int64_t i = first_row + row, word = first_column / 64 + pair;
  if (pair > 1) return;
  unsigned* const mine = bits + row * 4 + pair * 2;
  if (i < p.rows && word < words)
    p.signs[(network * words + word) * p.rows + i] = mine[0] | static_cast<uint64_t>(mine[1]) << 32;
  mine[0] = mine[1] = 0;
}

template <class Tile>
__global__ void __launch_bounds__(kThreads, 1)
    relu_sum_kernel(ReluSum<typename Tile::Element, typename Tile::Value> p) {
  using T = typename Tile::Value;
  if constexpr (!Tile::kCompiled) return;
  unsigned char* const shared = dynamic_shared();
  auto* const sign_bits = reinterpret_cast<unsigned*>(shared + ReluSumShared<Tile>::kSigns);
  auto* const weights = reinterpret_cast<T*>(shared + ReluSumShared<Tile>::kWeights);
  Scratch<Tile> scratch(shared + ReluSumShared<Tile>::kScratch);
  Tile tile(shared, p.depth, p.x_term, p.w_term);

  const int rows = static_cast<int>(p.rows), columns = static_cast<int>(p.columns);
  const int64_t network = blockIdx.y;
  const int parts = static_cast<int>(p.parts), part = static_cast<int>(blockIdx.x) % parts;
  const int first_row = static_cast<int>(blockIdx.x) / parts * Tile::kTileRows;
  const int tiles = static_cast<int>(blocks_of(columns, kTileColumns));
  const int tiles_per_part = static_cast<int>(p.tiles_per_part);
  const int first_tile = part * tiles_per_part;
  const int last_tile = tiles - first_tile < tiles_per_part ? tiles : first_tile + tiles_per_part;
  const int steps = tile.steps();
  const auto source = [&](int step) {
    return Step<typename Tile::Element>{p.x + network * p.x_network,
                                        p.w + network * p.w_network,
                                        first_row,
                                        rows,
                                        (first_tile + step / steps) * kTileColumns,
                                        columns,
                                        step % steps * Tile::kDepth};
  };
  tile.begin(source, (last_tile - first_tile) * steps);

  const T* const v = p.v + network * p.v_network;
  const int my_row = first_row + static_cast<int>(threadIdx.x);
  const bool owner = threadIdx.x < Tile::kTileRows && my_row < rows;
  double* const my_sums = p.partial + (network * parts + part) * p.outputs * p.rows + my_row;
  double my_first = 0;  // of the first output
  for (int64_t o = 1; owner && o < p.outputs; ++o) my_sums[o * p.rows] = 0;
  for (int e = threadIdx.x; e < Tile::kTileRows * 4; e += kThreads) sign_bits[e] = 0;
  // The weights v of a tile's columns for an output, in two arrays in turn: written before the
  // barrier of the output before. Those of a tile's first output are read during the tile before.
  const auto weight_of = [&](int64_t o, int first_column) {
    const int64_t j = first_column + static_cast<int>(threadIdx.x);
    return threadIdx.x < kTileColumns && j < columns ? v[o * p.v_output + j * p.v_column] : T(0);
  };
  const auto keep_weight = [&](T weight, T* to) {
    if (threadIdx.x < kTileColumns) to[threadIdx.x] = weight;
  };
  T first_weight = weight_of(0, first_tile * kTileColumns);
  int turn = 0;

  for (int t = first_tile; t < last_tile; ++t) {
    const int first_column = t * kTileColumns;
    keep_weight(first_weight, weights + turn * kTileColumns);
    if (steps == 0) __syncthreads();  // as the products have
    tile.product(source);
    first_weight = weight_of(0, first_column + kTileColumns);
    if (p.row_bias) {
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) {
        const int i = first_row + Tile::row(r);
        const T bias = i < rows ? p.row_bias[network * p.rows + i] : T(0);
#pragma unroll
        for (int c = 0; c < Tile::kCols; ++c) tile.z[r][c] += bias;
      }
    }
    if (p.column_bias || columns - first_column < kTileColumns) {
#pragma unroll
      for (int c = 0; c < Tile::kCols; ++c) {
        const int j = first_column + Tile::column(c);
        const T bias = p.column_bias && j < columns ? p.column_bias[network * p.columns + j] : T(0);
#pragma unroll
        for (int r = 0; r < Tile::kRows; ++r)
          tile.z[r][c] = j < columns ? tile.z[r][c] + bias : T(0);
      }
    }
    activate(tile, p.signs ? sign_bits : nullptr);
    for (int64_t o = 0; o < p.outputs; ++o) {
      const T* const weight = weights + turn * kTileColumns;
      turn ^= 1;
      if (o + 1 < p.outputs)
        keep_weight(weight_of(o + 1, first_column), weights + turn * kTileColumns);
      const double sum =
          row_sums<Tile>(tile.z, [&](int column) { return weight[column]; }, scratch.next());
      if (o == 0)
        my_first += sum;
      else if (owner)
        my_sums[o * p.rows] += sum;
    }
    if (p.signs != nullptr) write_signs<Tile>(p, sign_bits, network, first_row, first_column);
  }
  if (owner) my_sums[0] = my_first;
}

// out(i, o) = sum over parts, in order, + bias(o). A thread owns an element.
template <class T>
struct SumParts {
  int64_t networks, parts, rows, outputs;
  const double* partial;  // (networks, parts, outputs, rows)
  const T* bias;          // (networks, outputs), or null
  T* out;                 // element (i, o) at i out_row + o out_output
  int64_t out_row, out_output;
};

template <class T>
__global__ void __launch_bounds__(kThreads) sum_parts_kernel(SumParts<T> p) {
  const int64_t size = p.rows * p.outputs;
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.networks * size) return;
  const int64_t network = e / size, o = e % size / p.rows, i = e % p.rows;
  double sum = 0;
  for (int64_t part = 0; part < p.parts; ++part)
    sum += p.partial[(network * p.parts + part) * size + o * p.rows + i];
  if (p.bias) sum += static_cast<double>(p.bias[network * p.outputs + o]);
  p.out[network * size + i * p.out_row + o * p.out_output] = static_cast<T>(sum);
}

}  // namespace lmc::two_layer_relu
