// SPDX-License-Identifier: MIT
// The product of masked_product.cuh that sums over samples, for several outputs, by the matrix
// instructions of warpgroups. Its left operand costs more than a bit, so that it is made once, as
// an image, and not by every block that needs it: a slice of the samples of each part at a time, so
// that it stays small. The right operand is the image of x, transposed.
//
// The order of a sum is TensorProduct's: a slice goes on from where the last one ended.
#pragma once

#include "common/cuda/warpgroup_tile.cuh"
#include "two_layer_relu/masked_product.cuh"

namespace lmc::two_layer_relu {

// Samples first ... first + slice - 1 of every part.
struct Slice {
  int64_t parts, depth_per_part, first, slice;
  // How many of them there are, in a part of n samples in all.
  LMC_HOST_DEVICE int64_t count(int64_t part, int64_t n) const {
    const int64_t of_part = depth_per_part - first, of_all = n - begin(part);
    const int64_t most = slice < of_part ? slice : of_part;
    return most < of_all ? most : of_all;
  }
  LMC_HOST_DEVICE int64_t begin(int64_t part) const { return part * depth_per_part + first; }
};

// a(i, j) = sum_o df(i, o) w2(o, j) where neuron j is active for sample i, else 0: row images
// (networks x parts) of m rows, `slice` samples.
struct LeftImage {
  int64_t networks, n, m, c;
  const uint64_t* signs;  // (networks, words, n)
  const float *df, *w2;   // (networks, n, c), (networks, c, m)
  Slice slice;
  uint16_t* to;
};

// A thread owns a neuron and eight samples, of all terms.
template <int Terms>
__global__ void __launch_bounds__(kThreads) left_image_kernel(LeftImage p) {
  const int64_t blocks = blocks_of(p.m, 128), steps = p.slice.slice / kImageDepth;
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.networks * p.slice.parts * blocks * steps * 512) return;
  const RowImageChunk chunk(e, blocks, steps, Terms, true);
  const int64_t network = chunk.network / p.slice.parts, part = chunk.network % p.slice.parts;
  const int64_t j = chunk.row, i = p.slice.begin(part) + chunk.k;
  const int64_t left = p.slice.count(part, p.n) - chunk.k;
  const int count = j >= p.m || left <= 0 ? 0 : left < 8 ? static_cast<int>(left) : 8;
  float values[8] = {};
  if (count > 0) {
    const uint64_t* const words = p.signs + (network * blocks_of(p.m, 64) + j / 64) * p.n + i;
    unsigned active = 0;
#pragma unroll
    for (int e8 = 0; e8 < 8; ++e8)
      if (e8 < count) active |= static_cast<unsigned>(__ldg(words + e8) >> j % 64 & 1) << e8;
    const float* const df = p.df + (network * p.n + i) * p.c;
    const float* w2 = p.w2 + network * p.c * p.m + j;
    for (int64_t o = 0; o < p.c; ++o, w2 += p.m) {
      const float weight = __ldg(w2);
#pragma unroll
      for (int e8 = 0; e8 < 8; ++e8)
        if (e8 < count) values[e8] += __ldg(df + e8 * p.c + o) * weight;
    }
#pragma unroll
    for (int e8 = 0; e8 < 8; ++e8)
      if (!(active >> e8 & 1)) values[e8] = 0.0f;
  }
  split_eight<Terms>([&](int e8) { return values[e8]; }, p.to + chunk.at, kImagePiece);
}

struct ImageProduct {
  int64_t n, m, columns;
  Slice slice;
  const uint16_t* left;   // LeftImage's
  const uint16_t* right;  // row images of `columns` rows, n samples
  int64_t right_network;  // from one network's to the next; 0: shared
  float* partial;  // (networks, parts, m, columns): the slices before, unless it is the first
};

// Block (x, y, z) owns 128 neurons, 128 columns, of part y, of network z; x runs over the columns
// first, so that few neurons at a time have to stay in the level-2 cache.
template <int Terms>
__global__ void __launch_bounds__(kThreads, 1) image_product_kernel(ImageProduct p) {
  if constexpr (!kWarpgroups) return;
  using Tile = WarpgroupTile<Terms, 4>;
  const int column_blocks = static_cast<int>(blocks_of(p.columns, 128));
  const int first_column = static_cast<int>(blockIdx.x) % column_blocks * 128;
  const int first_row = static_cast<int>(blockIdx.x) / column_blocks * 128;
  const int64_t part = blockIdx.y, network = blockIdx.z;
  const int64_t count = p.slice.count(part, p.n);
  if (count <= 0 && p.slice.first > 0) return;
  Tile tile(dynamic_shared(), count < 0 ? 0 : count,
            p.slice.slice / kImageDepth * (Terms * kImagePiece),
            blocks_of(p.n, kImageDepth) * (Terms * kImagePiece));
  const int64_t left_size =
      blocks_of(p.m, 128) * (p.slice.slice / kImageDepth) * (Terms * kImagePiece);
  const uint16_t* const left = p.left + (network * p.slice.parts + part) * left_size;
  const uint16_t* const right = p.right + network * p.right_network +
                                p.slice.begin(part) / kImageDepth * (Terms * kImagePiece);
  const auto source = [&](int step) {
    return Step<uint16_t>{left,
                          right,
                          first_row,
                          static_cast<int>(p.m),
                          first_column,
                          static_cast<int>(p.columns),
                          step * kImageDepth};
  };
  tile.begin(source, tile.steps());
  float* const out = p.partial + (network * p.slice.parts + part) * p.m * p.columns;
  const auto each = [&](const auto& function) {
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
      for (int c = 0; c < Tile::kCols; ++c) {
        const int64_t j = first_row + Tile::row(r);
        const int k = first_column + Tile::column(c);
        function(tile.z[r][c], j < p.m && k < p.columns ? out + j * p.columns + k : nullptr);
      }
  };
  each([&](float& z, const float* before) { z = p.slice.first > 0 && before ? *before : 0.0f; });
  tile.add_product(source);
  each([](float z, float* to) {
    if (to) *to = z;
  });
}

}  // namespace lmc::two_layer_relu
