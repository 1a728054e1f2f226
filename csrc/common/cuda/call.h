// SPDX-License-Identifier: MIT
// How a binding asks for CUDA kernels. An op's host function is called twice: without a workspace
// it sets how many bytes it needs, with one it enqueues its kernels, allocates nothing and waits
// for nothing. So the two cannot disagree, and the caller's allocator owns all memory.
#pragma once

#include <cstdint>

namespace lmc::cuda {

struct Call {
  int device;
  void* stream;
  int terms;        // bfloat16 terms of a float32 on tensor cores: 3, 2 or 1; 0: without them
  void* workspace;  // null: only measure
  int64_t bytes;    // of the workspace, set when measuring
};

// What the networks of a group may need; one network may take more.
inline constexpr int64_t kGroupBytes = int64_t{256} << 20;
inline constexpr int64_t kMostNetworks = 65535;  // a grid's third dimension

inline int64_t group_of(int64_t networks, int64_t bytes_each) {
  const int64_t fit = kGroupBytes / (bytes_each < 1 ? 1 : bytes_each);
  const int64_t most = fit < 1 ? 1 : fit < kMostNetworks ? fit : kMostNetworks;
  return networks < most ? networks : most;
}

}  // namespace lmc::cuda

// For host functions that return null or what went wrong.
#define LMC_CUDA_TRY(call) \
  if (const char* error_ = (call)) return error_
