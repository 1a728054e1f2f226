// SPDX-License-Identifier: MIT
// Sizes that kernels, their launches and the workspace agree on. They follow from an op's own sizes
// alone, never from the device or from how many networks there are, so that results do not either.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lmc::cuda {

inline constexpr int kThreads = 256;  // of most blocks, and the most of any
inline constexpr int kMostWarps = kThreads / 32;
inline constexpr int kTileColumns = 128;  // of every tile of pre-activations, see z_tile.cuh

LMC_HOST_DEVICE inline int64_t blocks_of(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}
LMC_HOST_DEVICE inline int64_t padded(int64_t count, int64_t unit) {
  return blocks_of(count, unit) * unit;
}

// Into how many parts a sum over `tiles` is cut, where `blocks` blocks make one part of it: enough
// blocks for every GPU, but no part of less than `least` tiles.
inline int64_t splits_of(int64_t blocks, int64_t tiles, int64_t least) {
  constexpr int64_t kWanted = 512;
  const int64_t wanted = blocks_of(kWanted, blocks < 1 ? 1 : blocks);
  const int64_t possible = tiles / least < 1 ? 1 : tiles / least;
  return wanted < possible ? wanted : possible;
}

// Parts of a sum over `columns` of tiles of pre-activations, for all `rows`: neither the tile's
// height nor the device decides.
inline int64_t parts_of_columns(int64_t rows, int64_t columns) {
  return splits_of(blocks_of(rows, 128), blocks_of(columns, kTileColumns), 4);
}

// Hands out parts of a workspace, each aligned; from null it measures.
class Workspace {
 public:
  LMC_HOST_DEVICE explicit Workspace(void* base) : base_(static_cast<unsigned char*>(base)) {}
  template <class T>
  LMC_HOST_DEVICE T* take(int64_t count) {
    unsigned char* here = base_ == nullptr ? nullptr : base_ + used_;
    used_ += padded(count * static_cast<int64_t>(sizeof(T)), 256);
    return reinterpret_cast<T*>(here);
  }
  LMC_HOST_DEVICE int64_t bytes() const { return used_; }

 private:
  unsigned char* base_;
  int64_t used_ = 0;
};

}  // namespace lmc::cuda
