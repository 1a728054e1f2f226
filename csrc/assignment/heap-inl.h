// SPDX-License-Identifier: MIT
// A binary min-heap of some of the numbers 0 ... n - 1, each with a key that can be changed.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

class Heap {
 public:
  struct Item {
    double key;
    int64_t id;
  };

  LMC_INLINE explicit Heap(int64_t n) : items_(n), place_(n) {
    for (int64_t id = 0; id < n; ++id) place_[id] = -1;
  }
  LMC_INLINE bool empty() const { return size_ == 0; }
  LMC_INLINE int64_t size() const { return size_; }
  LMC_INLINE Item at(int64_t place) { return items_[place]; }
  LMC_INLINE Item first() { return items_[0]; }
  LMC_INLINE void clear() {
    while (size_ > 0) place_[items_[--size_].id] = -1;
  }

  // Inserts id, or lowers its key.
  LMC_INLINE void put(double key, int64_t id) {
    int64_t at = place_[id] < 0 ? size_++ : place_[id];
    for (int64_t parent; at > 0 && items_[parent = (at - 1) / 2].key > key; at = parent)
      set(at, items_[parent]);
    set(at, {key, id});
  }

  // Raises the key of an id that is in the heap.
  LMC_INLINE void raise(double key, int64_t id) { sink(place_[id], {key, id}); }

  LMC_INLINE Item pop() {
    const Item top = items_[0];
    place_[top.id] = -1;
    const Item last = items_[--size_];
    if (size_ > 0) sink(0, last);
    return top;
  }

 private:
  LMC_INLINE void sink(int64_t at, Item item) {
    for (int64_t child; (child = 2 * at + 1) < size_; at = child) {
      if (child + 1 < size_ && items_[child + 1].key < items_[child].key) ++child;
      if (items_[child].key >= item.key) break;
      set(at, items_[child]);
    }
    set(at, item);
  }
  LMC_INLINE void set(int64_t at, Item item) {
    items_[at] = item;
    place_[item.id] = static_cast<int32_t>(at);
  }

  AlignedBuffer<Item> items_;
  AlignedBuffer<int32_t> place_;  // of an id in items_; -1: nowhere
  int64_t size_ = 0;
};

}  // namespace lmc::LMC_TARGET
