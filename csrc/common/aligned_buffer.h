// SPDX-License-Identifier: MIT
// Memory a kernel works in: aligned for the widest vector. It is given back when it goes out of
// scope, and some of it is kept for the next call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmc {

void* allocate_aligned(size_t bytes);  // throws std::bad_alloc
void free_aligned(void* memory);

// Always inline: a copy of a member compiled for a wide target must never serve a narrower one.
#define LMC_INLINE inline __attribute__((always_inline))

template <class T>
class AlignedBuffer {
 public:
  LMC_INLINE explicit AlignedBuffer(int64_t size)
      : data_(static_cast<T*>(allocate_aligned(static_cast<size_t>(size) * sizeof(T)))) {}
  LMC_INLINE ~AlignedBuffer() { free_aligned(data_); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  LMC_INLINE T* data() { return data_; }
  LMC_INLINE T& operator[](int64_t i) { return data_[i]; }

 private:
  T* data_;
};

}  // namespace lmc
