// SPDX-License-Identifier: MIT
// Division by a number that is known before a kernel starts, as one multiplication.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lmc::cuda {

// Quotients of e >= 0 by `divisor` > 0, exact where (e + 1) divisor is at most 2^32: the factor is
// less than 1 / divisor by at most divisor / 2^32 of it.
class Divisor {
 public:
  LMC_HOST_DEVICE explicit Divisor(int divisor)
      : divisor_(divisor), factor_(0xffffffffu / static_cast<uint32_t>(divisor)) {}
  LMC_HOST_DEVICE int quotient(int e) const {
    return static_cast<int>((uint64_t{factor_} * static_cast<uint32_t>(e) + factor_) >> 32);
  }
  LMC_HOST_DEVICE int remainder(int e) const { return e - quotient(e) * divisor_; }

 private:
  int divisor_;
  uint32_t factor_;
};

}  // namespace lmc::cuda
