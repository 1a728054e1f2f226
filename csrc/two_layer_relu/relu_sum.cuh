// SPDX-License-Identifier: MIT
// out(i, o) = sum_j relu(z(i, j)) v(o, j), z(i, j) = <x_i, w_j> + bias, without keeping z.
//
// This is the forward pass (i a sample, j a neuron, v = w2), which also writes the signs of z; and
// with the roles exchanged the gradient to w2 (i a neuron, j a sample, v(o, j) = df(j, o)).
//
// Block (x, y, z) owns rows x of the tile's height, part y of the columns, network z. It walks the
// tiles of its columns in order; a thread keeps its part of z in registers; thread t owns row t's
// sums and adds one number a tile to them in float64. sum_parts() adds up the parts in order.
#pragma once

#include "common/cuda/z_tile.cuh"

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
  int64_t tiles_per_part;
};

template <class Tile>
struct ReluSumShared {
  static constexpr size_t kSigns = Tile::shared_bytes();
  static constexpr size_t kScratch = kSigns + Tile::kTileRows * 16;
  static constexpr size_t kBytes = kScratch + Scratch<Tile>::bytes();
};

// Writes which z of a tile are active (those that relu has not made zero). The threads first put
// their bits together in shared memory, which is left zero for the next tile: behind a barrier.
template <class Tile, class Parameters>
__device__ void write_signs(const Parameters& p, const Tile& tile, unsigned* bits, int64_t network,
                            int first_row, int first_column) {
  constexpr int kRun = Tile::kColumnsPerWord;
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int run = 0; run < Tile::kCols; run += kRun) {
      unsigned word = 0;
#pragma unroll
      for (int c = run; c < run + kRun; ++c)
        word |= static_cast<unsigned>(!(tile.z[r][c] == 0)) << Tile::column(c) % 32;
      atomicOr(&bits[Tile::row(r) * 4 + Tile::column(run) / 32], word);
    }
  __syncthreads();
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
  if constexpr (Tile::kTensor && !kTensorCores) return;
  unsigned char* const shared = dynamic_shared();
  auto* const sign_bits = reinterpret_cast<unsigned*>(shared + ReluSumShared<Tile>::kSigns);
  Scratch<Tile> scratch(shared + ReluSumShared<Tile>::kScratch);
  Tile tile(shared, p.depth, p.x_term, p.w_term);

  const int rows = static_cast<int>(p.rows), columns = static_cast<int>(p.columns);
  const int64_t network = blockIdx.z;
  const int first_row = static_cast<int>(blockIdx.x) * Tile::kTileRows;
  const int tiles = static_cast<int>(blocks_of(columns, kTileColumns));
  const int tiles_per_part = static_cast<int>(p.tiles_per_part);
  const int first_tile = static_cast<int>(blockIdx.y) * tiles_per_part;
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
  double* const my_sums =
      p.partial + (network * gridDim.y + blockIdx.y) * p.outputs * p.rows + my_row;
  for (int64_t o = 0; owner && o < p.outputs; ++o) my_sums[o * p.rows] = 0;
  for (int e = threadIdx.x; e < Tile::kTileRows * 4; e += kThreads) sign_bits[e] = 0;

  if (steps == 0) __syncthreads();

  for (int t = first_tile; t < last_tile; ++t) {
    const int first_column = t * kTileColumns;
    tile.product(source);
    if (p.row_bias) {
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) {
        const int i = first_row + Tile::row(r);
        const T bias = i < rows ? p.row_bias[network * p.rows + i] : T(0);
#pragma unroll
        for (int c = 0; c < Tile::kCols; ++c) tile.z[r][c] += bias;
      }
    }
#pragma unroll
    for (int c = 0; c < Tile::kCols; ++c) {
      const int j = first_column + Tile::column(c);
      const T bias = p.column_bias && j < columns ? p.column_bias[network * p.columns + j] : T(0);
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) {
        const T z = tile.z[r][c] + bias;
        tile.z[r][c] = !(z <= T(0)) && j < columns ? z : T(0);
      }
    }
    if (p.signs != nullptr) write_signs<Tile>(p, tile, sign_bits, network, first_row, first_column);
    for (int64_t o = 0; o < p.outputs; ++o) {
      const double sum = row_sums<Tile>(
          tile.z,
          [&](int column) {
            const int j = first_column + column;
            return j < columns ? v[o * p.v_output + j * p.v_column] : T(0);
          },
          scratch.next());
      if (owner) my_sums[o * p.rows] += sum;
    }
  }
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
