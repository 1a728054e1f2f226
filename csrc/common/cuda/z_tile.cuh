// SPDX-License-Identifier: MIT
// Tiles of products of rows: z(i, j) = <x_i, w_j> for Rows rows of x and 128 rows of w ("columns"),
// by a block of 256 threads that keep z in registers. Three kinds with one interface: SimtTile
// multiplies on the ordinary units, TensorTile on tensor cores with operands split into bfloat16
// terms, WarpgroupTile (warpgroup_tile.cuh) with the matrix instructions of compute capability 9.0.
//
//   kRows x kCols       what one thread holds: z[r][c] is row row(r), column column(c) of the tile
//   kLanesPerRow        lanes, next to one another, that hold parts of the same rows
//   kGroups             sets of columns that are summed by themselves
//   kHeldGroups         how many of them, from group() on, a thread has: equal shares of its
//   columns kColumnsPerWord     how many of a thread's columns, in turn, fall into the same 32
//   kCompiled           whether the code being compiled can have it
//
// Which columns a thread holds, and so the order of every sum over columns, does not depend on
// Rows.
//
// The products of a block form one sequence of steps, of kDepth elements of the inner dimension
// each: begin() starts it, product() takes the steps of one tile, and the copies of later steps run
// meanwhile, also those of the next tile. A Source says where step s comes from.
#pragma once

#include "common/cuda/shape.h"
#include "common/cuda/split.h"
#include "cuda_device.h"

namespace lmc::cuda {

// Where a step's operands lie: rows first ... count - 1 of x and w, elements k ... of them. Each
// size is below 2^31 (the bindings see to it), so that an int holds it; products of two are
// int64_t.
template <class Element>
struct Step {
  const Element *x, *w;
  int x_first, x_count, w_first, w_count, k;
};

// z in the type T. Thread (ty, tx) = (tid / 16, tid % 16) holds rows ty V ... ty V + V - 1 of every
// 16 V rows, and columns 4 tx ... 4 tx + 3 of either half. Operands (count, depth), dense. A sum
// runs over the inner dimension in order, one multiply-add an element.
template <class T, int Rows>
struct SimtTile {
  using Value = T;
  using Element = T;
  static constexpr int kTileRows = Rows;
  static constexpr int kRows = Rows / 16, kCols = 8;
  static constexpr int kLanesPerRow = 16, kGroups = 1, kHeldGroups = 1;
  static constexpr int kColumnsPerWord = 4;
  static constexpr int kDepth = 16;
  static constexpr bool kTensor = false, kCompiled = true;

  T z[kRows][kCols];

  static constexpr size_t shared_bytes() { return 2 * kStage * sizeof(T); }

  __device__ SimtTile(unsigned char* shared, int64_t depth, int64_t, int64_t)
      : stages_(reinterpret_cast<T*>(shared)), depth_(static_cast<int>(depth)) {}

  static __device__ int row(int r) {
    return r / kV * 16 * kV + static_cast<int>(threadIdx.x) / 16 * kV + r % kV;
  }
  static __device__ int column(int c) {
    return c / 4 * 64 + static_cast<int>(threadIdx.x) % 16 * 4 + c % 4;
  }
  static __device__ int group() { return 0; }

  __device__ int steps() const { return (depth_ + kDepth - 1) / kDepth; }

  template <class Source>
  __device__ void begin(const Source& source, int total) {
    done_ = 0;
    total_ = total;
    if (total > 0) fetch(source(0));
  }

  template <class Source>
  __device__ void product(const Source& source) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c) z[r][c] = T(0);
    for (int step = steps(); step > 0; --step) {
      // One barrier a step: who writes a stage has passed the last step's barrier, and by then all
      // have finished with the step before it, which used the same stage.
      T* stage = stages_ + done_ % 2 * kStage;
      keep(stage);
      __syncthreads();
      if (++done_ < total_) fetch(source(done_));
      multiply(stage);
    }
  }

 private:
  static constexpr int kV = kRows < 4 ? kRows : 4;
  static constexpr int kPitchX = Rows + 4, kPitchW = kTileColumns + 4;  // to spread the banks
  static constexpr int kStage = kDepth * (kPitchX + kPitchW);
  static constexpr int kFetchX = Rows * kDepth / kThreads;
  static constexpr int kFetchW = kTileColumns * kDepth / kThreads;

  // Thread t fetches element t % 16 of the rows t / 16, t / 16 + 16, ...
  __device__ void fetch(const Step<T>& from) {
    const int k = from.k + static_cast<int>(threadIdx.x) % kDepth;
    const int first = static_cast<int>(threadIdx.x) / kDepth;
#pragma unroll
    for (int q = 0; q < kFetchX; ++q) {
      const int i = from.x_first + first + q * (kThreads / kDepth);
      const bool valid = i < from.x_count && k < depth_;
      next_x_[q] = valid ? __ldg(from.x + static_cast<int64_t>(i) * depth_ + k) : T(0);
    }
#pragma unroll
    for (int q = 0; q < kFetchW; ++q) {
      const int j = from.w_first + first + q * (kThreads / kDepth);
      const bool valid = j < from.w_count && k < depth_;
      next_w_[q] = valid ? __ldg(from.w + static_cast<int64_t>(j) * depth_ + k) : T(0);
    }
  }

  __device__ void keep(T* stage) {
    const int k = static_cast<int>(threadIdx.x) % kDepth;
    const int first = static_cast<int>(threadIdx.x) / kDepth;
    T* w = stage + kDepth * kPitchX;
#pragma unroll
    for (int q = 0; q < kFetchX; ++q)
      stage[k * kPitchX + first + q * (kThreads / kDepth)] = next_x_[q];
#pragma unroll
    for (int q = 0; q < kFetchW; ++q) w[k * kPitchW + first + q * (kThreads / kDepth)] = next_w_[q];
  }

  __device__ void multiply(const T* stage) {
    const T* w = stage + kDepth * kPitchX;
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
      T left[kRows], right[kCols];
#pragma unroll
      for (int r = 0; r < kRows; ++r) left[r] = stage[k * kPitchX + row(r)];
#pragma unroll
      for (int c = 0; c < kCols; ++c) right[c] = w[k * kPitchW + column(c)];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int c = 0; c < kCols; ++c) z[r][c] += left[r] * right[c];
    }
  }

  T* stages_;
  int depth_, done_ = 0, total_ = 0;
  T next_x_[kFetchX], next_w_[kFetchW];
};

// The operands of a step in shared memory: terms of Rows rows of x, then of 128 of w, 32 elements
// of each.
template <int Rows, int Terms>
struct TermStage {
  static constexpr int kDepth = 32;
  static constexpr int kX = Rows * kDepth, kW = kTileColumns * kDepth;  // of one term
  static constexpr int kSize = Terms * (kX + kW);

  // Where 16-byte chunk `chunk` (of 4) of a row lies, so that eight rows' chunks hit different
  // banks.
  static __device__ int place(int row, int chunk) {
    return row * kDepth + (chunk ^ (row >> 1 & 3)) * 8;
  }
  // Starts to copy it; `pitch` from one row to the next, zeros beyond.
  static __device__ void fetch(uint16_t* to, const Step<uint16_t>& from, int64_t x_term,
                               int64_t w_term, int pitch) {
    fetch_operand<Rows>(to, from.x, x_term, from.x_first, from.x_count, from.k, pitch);
    fetch_operand<kTileColumns>(to + Terms * kX, from.w, w_term, from.w_first, from.w_count, from.k,
                                pitch);
  }

 private:
  template <int Count>
  static __device__ void fetch_operand(uint16_t* to, const uint16_t* from, int64_t term_stride,
                                       int first, int count, int k, int pitch) {
    constexpr int kChunks = Count * 4;  // of a term
    constexpr int kRounds = (kChunks + kThreads - 1) / kThreads;
    const int lane = static_cast<int>(threadIdx.x) % kChunks;  // whose chunks in each round
    const int chunk = lane % 4;
    constexpr int kSkip = kChunks < kThreads ? kThreads / kChunks : 1;  // terms at a time
    const uint16_t* source = from + static_cast<int64_t>(first + lane / 4) * pitch + k + chunk * 8;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const int row = round * (kThreads / 4) + lane / 4;
      const bool valid = first + row < count && k + chunk * 8 < pitch;
#pragma unroll
      for (int t = 0; t < Terms; t += kSkip) {
        const int term = t + static_cast<int>(threadIdx.x) / kChunks;
        if (kChunks < kThreads && term >= Terms) break;
        copy_async(to + term * (Count * kDepth) + place(row, chunk),
                   valid ? source + term * term_stride : from, valid);
      }
      source += (kThreads / 4) * static_cast<int64_t>(pitch);
    }
  }
};

// z in float32 from operands in bfloat16 terms, (Terms, count, padded depth): of the products of
// terms a of x and b of w those with a + b < Terms are summed (6, 3 or 1 of them). Eight warps, 2
// by 4, each hold Rows / 2 rows and 32 columns.
//
// The order of a sum: the inner dimension is walked in steps of 16. In each the tensor cores add
// the 16 x products exactly and round as they do, smallest terms first, starting from zero; its
// sum is then added to z by an ordinary addition, to nearest, so that the way tensor cores round
// cannot pile up.
template <int Rows, int Terms, int Stages>
struct TensorTile {
  using Value = float;
  using Element = uint16_t;
  static constexpr int kTileRows = Rows;
  static constexpr int kRows = Rows / 16, kCols = 8;
  static constexpr int kLanesPerRow = 4, kGroups = 4, kHeldGroups = 1, kColumnsPerWord = 8;
  static constexpr int kDepth = TermStage<Rows, Terms>::kDepth;
  static constexpr bool kTensor = true, kCompiled = kTensorCores;

  float z[kRows][kCols];

  static constexpr size_t shared_bytes() { return Stages * Stage::kSize * sizeof(uint16_t); }

  __device__ TensorTile(unsigned char* shared, int64_t depth, int64_t x_term, int64_t w_term)
      : stages_(reinterpret_cast<uint16_t*>(shared)),
        x_term_(x_term),
        w_term_(w_term),
        depth_(static_cast<int>(depth)),
        pitch_(static_cast<int>(padded(depth, 8))) {}

  static __device__ int warp() { return static_cast<int>(threadIdx.x) / 32; }
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  static __device__ int row(int r) {
    return warp() / 4 * (Rows / 2) + r / 2 * 16 + r % 2 * 8 + lane() / 4;
  }
  static __device__ int column(int c) { return group() * 32 + c / 2 * 8 + lane() % 4 * 2 + c % 2; }
  static __device__ int group() { return warp() % 4; }

  __device__ int steps() const { return (depth_ + kDepth - 1) / kDepth; }

  template <class Source>
  __device__ void begin(const Source& source, int total) {
    done_ = 0;
    total_ = total;
#pragma unroll
    for (int s = 0; s < Stages - 1; ++s) {
      if (s < total) fetch(s, source(s));
      copy_commit();
    }
  }

  template <class Source>
  __device__ void product(const Source& source) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c) z[r][c] = 0.0f;
    for (int k = 0; k < depth_; k += kDepth) {
      copy_wait<Stages - 2>();
      __syncthreads();  // all copies have landed, and all are done with the stage written next
      const int next = done_ + Stages - 1;
      if (next < total_) fetch(next % Stages, source(next));
      copy_commit();
      const uint16_t* stage = stages_ + done_ % Stages * Stage::kSize;
      multiply(stage, 0);
      if (k + 16 < depth_) multiply(stage, 1);
      ++done_;
    }
  }

 private:
  using Stage = TermStage<Rows, Terms>;

  __device__ void fetch(int stage, const Step<uint16_t>& from) {
    Stage::fetch(stages_ + stage * Stage::kSize, from, x_term_, w_term_, pitch_);
  }

  // Adds the 16 elements `half` of a stage.
  __device__ void multiply(const uint16_t* stage, int half) {
    const uint16_t* x = stage;
    const uint16_t* w = stage + Terms * Stage::kX;
    constexpr int kBlocks = kRows / 2, kPairs = kCols / 4;  // of 16 rows, of 16 columns
    float sum[kRows][kCols] = {};
    uint32_t right[Terms][kPairs][4];
#pragma unroll
    for (int b = 0; b < Terms; ++b)
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int j = group() * 32 + pair * 16 + lane() % 8 + lane() / 16 * 8;
        load_matrices(right[b][pair],
                      w + b * Stage::kW + Stage::place(j, 2 * half + lane() / 8 % 2));
      }
#pragma unroll
    for (int a = Terms - 1; a >= 0; --a) {
      uint32_t left[kBlocks][4];
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int i = warp() / 4 * (Rows / 2) + block * 16 + lane() % 16;
        load_matrices(left[block], x + a * Stage::kX + Stage::place(i, 2 * half + lane() / 16));
      }
#pragma unroll
      for (int b = Terms - 1 - a; b >= 0; --b)
#pragma unroll
        for (int block = 0; block < kBlocks; ++block)
#pragma unroll
          for (int c = 0; c < kCols; c += 2)
            multiply_add(sum[2 * block][c], sum[2 * block][c + 1], sum[2 * block + 1][c],
                         sum[2 * block + 1][c + 1], left[block], right[b][c / 4][c % 4],
                         right[b][c / 4][c % 4 + 1]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kCols; ++c) z[r][c] += sum[r][c];
  }

  uint16_t* stages_;
  int64_t x_term_, w_term_;
  int depth_, pitch_, done_ = 0, total_ = 0;
};

// The sums over columns of v[r][c] weight(column), added up in float64 across the groups: thread t
// < kTileRows gets that of row t, the others zero. Within a thread a group's columns are added in
// order, then the lanes of a row in a tree, then the groups in order. `scratch` holds kGroups x
// kTileRows values and must not be in use; a barrier is passed.
template <class Tile, class Values, class Weight>
__device__ double row_sums(const Values& v, const Weight& weight, typename Tile::Value* scratch) {
  using T = typename Tile::Value;
  constexpr int kShare = Tile::kCols / Tile::kHeldGroups;
#pragma unroll
  for (int group = 0; group < Tile::kHeldGroups; ++group) {
    T sums[Tile::kRows] = {};
#pragma unroll
    for (int c = group * kShare; c < (group + 1) * kShare; ++c) {
      const T factor = weight(Tile::column(c));
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) sums[r] += v[r][c] * factor;
    }
#pragma unroll
    for (int distance = 1; distance < Tile::kLanesPerRow; distance *= 2)
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) sums[r] += __shfl_xor_sync(~0u, sums[r], distance);
    if (threadIdx.x % Tile::kLanesPerRow == 0)
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r)
        scratch[(Tile::group() + group) * Tile::kTileRows + Tile::row(r)] = sums[r];
  }
  __syncthreads();
  double total = 0;
  if (threadIdx.x < Tile::kTileRows)
    for (int group = 0; group < Tile::kGroups; ++group)
      total += static_cast<double>(scratch[group * Tile::kTileRows + threadIdx.x]);
  return total;
}

// Two scratch arrays in turn for consecutive row_sums, so that one barrier between them is enough.
template <class Tile>
class Scratch {
 public:
  static constexpr size_t bytes() { return 2 * kSize * sizeof(typename Tile::Value); }
  explicit __device__ Scratch(unsigned char* shared)
      : arrays_(reinterpret_cast<typename Tile::Value*>(shared)) {}
  __device__ typename Tile::Value* next() { return arrays_ + (turn_ ^= 1) * kSize; }

 private:
  static constexpr int kSize = Tile::kGroups * Tile::kTileRows;
  typename Tile::Value* arrays_;
  int turn_ = 0;
};

}  // namespace lmc::cuda
