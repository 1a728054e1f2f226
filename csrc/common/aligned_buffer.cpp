// SPDX-License-Identifier: MIT
#include "common/aligned_buffer.h"

#include <new>

namespace lmc {

static constexpr std::align_val_t kAlignment{64};

void* allocate_aligned(size_t bytes) { return ::operator new(bytes == 0 ? 1 : bytes, kAlignment); }
void free_aligned(void* memory) { ::operator delete(memory, kAlignment); }

}  // namespace lmc
