// SPDX-License-Identifier: MIT
// One worker's view of the interrupt: asked before every piece of work, it looks only after kBudget
// multiplications, some tens of microseconds.
#pragma once

#include "common/interrupt.h"
#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

class Watch {
 public:
  LMC_INLINE Watch(Interrupt& interrupt, int worker) : interrupt_(interrupt), worker_(worker) {}

  // True: give up. `work` is that of the piece to come, in multiplications.
  LMC_INLINE bool stop(int64_t work) {
    left_ -= work;
    if (left_ > 0) return stopped_;
    left_ = kBudget;
    return stopped_ = interrupt_.requested(worker_);
  }
  LMC_INLINE bool stopped() const { return stopped_; }

 private:
  static constexpr int64_t kBudget = 1 << 19;
  Interrupt& interrupt_;
  const int worker_;
  int64_t left_ = 0;
  bool stopped_ = false;
};

}  // namespace lmc::LMC_TARGET
