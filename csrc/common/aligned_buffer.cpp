// SPDX-License-Identifier: MIT
#include "common/aligned_buffer.h"

#include <mutex>
#include <new>

namespace lmc {

constexpr size_t kAlignment = 64;

#if defined(__SANITIZE_ADDRESS__)
// Each block is an allocation of its own and of the size asked for, and ends where it is freed:
// AddressSanitizer sees what lies outside.
void* allocate_aligned(size_t bytes) { return ::operator new(bytes, std::align_val_t{kAlignment}); }
void free_aligned(void* memory) { ::operator delete(memory, std::align_val_t{kAlignment}); }
#else
namespace {

// A block is a header of one alignment unit, which holds its capacity, and the memory handed out.
char* new_block(size_t capacity) {
  void* block = ::operator new(kAlignment + capacity, std::align_val_t{kAlignment});
  *static_cast<size_t*>(block) = capacity;
  return static_cast<char*>(block);
}
size_t capacity_of(const char* block) { return *reinterpret_cast<const size_t*>(block); }
void delete_block(char* block) { ::operator delete(block, std::align_val_t{kAlignment}); }

// A few freed blocks wait for the next call: fresh pages from the system cost more than what many
// kernels compute in them. Small blocks are left to malloc, which keeps its own.
constexpr size_t kSmallest = size_t{1} << 16, kKept = size_t{1} << 25;
constexpr int kSlots = 16;

std::mutex mutex;
char* kept[kSlots] = {};
size_t kept_bytes = 0;

// The lock is only tried, never waited for: after fork() it may belong to a thread that is gone.
char* take_block(size_t bytes) {
  std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
  if (!lock) return nullptr;
  int best = -1;
  for (int i = 0; i < kSlots; ++i)
    if (kept[i] && capacity_of(kept[i]) >= bytes && capacity_of(kept[i]) / 2 <= bytes &&
        (best < 0 || capacity_of(kept[i]) < capacity_of(kept[best])))
      best = i;
  if (best < 0) return nullptr;
  char* block = kept[best];
  kept[best] = nullptr;
  kept_bytes -= capacity_of(block);
  return block;
}

bool keep_block(char* block) {
  std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
  const size_t capacity = capacity_of(block);
  if (!lock || kept_bytes + capacity > kKept) return false;
  for (char*& slot : kept)
    if (!slot) {
      slot = block;
      kept_bytes += capacity;
      return true;
    }
  return false;
}

}  // namespace

void* allocate_aligned(size_t bytes) {
  char* block = bytes < kSmallest ? nullptr : take_block(bytes);
  return (block ? block : new_block(bytes)) + kAlignment;
}

void free_aligned(void* memory) {
  char* block = static_cast<char*>(memory) - kAlignment;
  if (capacity_of(block) < kSmallest || !keep_block(block)) delete_block(block);
}
#endif

}  // namespace lmc
