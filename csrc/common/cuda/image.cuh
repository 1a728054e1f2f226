// SPDX-License-Identifier: MIT
// Operands of warpgroups in bfloat16 terms, laid out as their products read them from shared
// memory: a step of a product is one piece of memory, which one thread copies. Zeros fill what is
// beyond the rows and columns.
//
// A row image has the index that is summed over last: (networks, blocks of 128 rows, steps of 32
// elements, terms) pieces of 128 rows of 32. A column image has it first: (networks, steps of 32
// rows, blocks of 64 columns, terms) pieces of 32 rows of 64. In a piece 16 bytes are moved within
// their row, so that eight rows' hit different banks.
#pragma once

#include "common/cuda/shape.h"
#include "common/cuda/split.h"
#include "cuda_device.h"

namespace lmc::cuda {

inline constexpr int kImageDepth = 32;  // elements of a step
inline constexpr int kImagePiece = 128 * kImageDepth, kColumnPiece = kImageDepth * 64;

inline int64_t row_image_block(int64_t depth, int terms) {
  return blocks_of(depth, kImageDepth) * terms * kImagePiece;
}
inline int64_t row_image_size(int64_t rows, int64_t depth, int terms) {
  return blocks_of(rows, 128) * row_image_block(depth, terms);
}
// For columns that are taken `together` (64 or 128) at a time.
inline int64_t column_image_size(int64_t depth, int64_t columns, int together, int terms) {
  return blocks_of(depth, kImageDepth) * padded(columns, together) * kImageDepth * terms;
}

// Where chunk `chunk` (16 bytes, of 4) of a row of a row image's piece lies; of 8, a column
// image's.
LMC_HOST_DEVICE inline int row_image_place(int row, int chunk) {
  return row * kImageDepth + (chunk ^ (row >> 1 & 3)) * 8;
}
LMC_HOST_DEVICE inline int column_image_place(int row, int chunk) {
  return row * 64 + (chunk ^ (row & 7)) * 8;
}

// Eight neighbouring elements in terms; `to` in the piece of the first term, the others' follow.
template <int Terms, class Element>
__device__ void split_eight(const Element& element, uint16_t* to, int piece) {
  uint32_t packed[Terms][4];
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    uint16_t low[Terms], high[Terms];
    split<Terms>(element(2 * pair), low);
    split<Terms>(element(2 * pair + 1), high);
#pragma unroll
    for (int t = 0; t < Terms; ++t) packed[t][pair] = low[t] | high[t] * 0x10000u;
  }
#pragma unroll
  for (int t = 0; t < Terms; ++t)
    *reinterpret_cast<uint4*>(to + t * piece) = {packed[t][0], packed[t][1], packed[t][2],
                                                 packed[t][3]};
}

// Which chunk of a row image a thread makes. With `along_rows` neighbouring threads have
// neighbouring rows, else neighbouring chunks of a row.
struct RowImageChunk {
  int64_t network, row, k;  // of elements k ... k + 7
  int64_t at;               // in the image, of the first term
  __device__ RowImageChunk(int64_t e, int64_t blocks, int64_t steps, int terms, bool along_rows) {
    const int in_piece = static_cast<int>(e % 512);
    const int64_t piece = e / 512;
    const int row_in = along_rows ? in_piece % 128 : in_piece / 4;
    const int chunk = along_rows ? in_piece / 128 : in_piece % 4;
    network = piece / (blocks * steps);
    row = piece / steps % blocks * 128 + row_in;
    k = piece % steps * kImageDepth + chunk * 8;
    at = piece * terms * kImagePiece + row_image_place(row_in, chunk);
  }
};

struct RowImage {
  int64_t networks, rows, depth;
  const float* from;  // element (network, row, k) at network from_network + row from_row + k from_k
  int64_t from_network, from_row, from_k;
  int64_t real_rows;  // the rows beyond are ones
  uint16_t* to;
};

// A thread owns a chunk of all terms.
template <int Terms>
__global__ void __launch_bounds__(kThreads) row_image_kernel(RowImage p) {
  const int64_t blocks = blocks_of(p.rows, 128), steps = blocks_of(p.depth, kImageDepth);
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.networks * blocks * steps * 512) return;
  const RowImageChunk chunk(e, blocks, steps, Terms, p.from_row < p.from_k);
  const float* const from = p.from + chunk.network * p.from_network + chunk.row * p.from_row;
  split_eight<Terms>(
      [&](int i) {
        const int64_t k = chunk.k + i;
        if (chunk.row >= p.rows || k >= p.depth) return 0.0f;
        return chunk.row < p.real_rows ? from[k * p.from_k] : 1.0f;
      },
      p.to + chunk.at, kImagePiece);
}

struct ColumnImage {
  int64_t networks, depth, columns, blocks;  // blocks of 64 columns
  const float* from;                         // (networks, depth, from_columns)
  int64_t from_columns, from_network;        // the columns beyond are ones
  const float* scale;                        // (networks, depth), times the rows
  uint16_t* to;
};

// A thread owns a chunk of all terms.
template <int Terms>
__global__ void __launch_bounds__(kThreads) column_image_kernel(ColumnImage p) {
  const int64_t steps = blocks_of(p.depth, kImageDepth), chunks = p.blocks * 8;
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.networks * steps * kImageDepth * chunks) return;
  const int64_t network = e / (steps * kImageDepth * chunks),
                k = e / chunks % (steps * kImageDepth);
  const int64_t chunk = e % chunks;
  const float* const from = p.from + network * p.from_network + k * p.from_columns;
  const float scale = k < p.depth ? p.scale[network * p.depth + k] : 0.0f;
  const int64_t piece = ((network * steps + k / kImageDepth) * p.blocks + chunk / 8) * Terms;
  split_eight<Terms>(
      [&](int i) {
        const int64_t column = chunk * 8 + i;
        if (k >= p.depth || column >= p.columns) return 0.0f;
        return (column < p.from_columns ? from[column] : 1.0f) * scale;
      },
      p.to + piece * kColumnPiece +
          column_image_place(static_cast<int>(k % kImageDepth), static_cast<int>(chunk % 8)),
      kColumnPiece);
}

template <class Parameters>
const char* launch_image(void (*one)(Parameters), void (*two)(Parameters),
                         void (*three)(Parameters), int64_t chunks, const Parameters& p, int terms,
                         void* stream) {
  const dim3 grid(static_cast<unsigned>(blocks_of(chunks, kThreads)));
  return launch(terms == 1 ? one : terms == 2 ? two : three, grid, kThreads, 0, stream, p);
}
inline const char* make_image(const RowImage& p, int terms, void* stream) {
  const int64_t pieces = p.networks * blocks_of(p.rows, 128) * blocks_of(p.depth, kImageDepth);
  return launch_image(&row_image_kernel<1>, &row_image_kernel<2>, &row_image_kernel<3>,
                      pieces * 512, p, terms, stream);
}
inline const char* make_image(const ColumnImage& p, int terms, void* stream) {
  const int64_t pieces = p.networks * blocks_of(p.depth, kImageDepth) * p.blocks;
  return launch_image(&column_image_kernel<1>, &column_image_kernel<2>, &column_image_kernel<3>,
                      pieces * 256, p, terms, stream);
}

}  // namespace lmc::cuda
