// SPDX-License-Identifier: MIT
#include "common/interrupt.h"

namespace lmc {

using Clock = std::chrono::steady_clock;
static constexpr std::chrono::milliseconds kPeriod{Interrupt::kPollMilliseconds};

Interrupt::Interrupt(Poll poll) : poll_(poll), next_poll_(Clock::now() + kPeriod) {}

bool Interrupt::requested() const { return requested_.load(std::memory_order_relaxed); }

bool Interrupt::requested(int worker) {
  if (worker == 0 && Clock::now() >= next_poll_) poll_now();
  return requested();
}

void Interrupt::poll_now() {
  if (!requested() && poll_()) requested_.store(true, std::memory_order_relaxed);
  next_poll_ = Clock::now() + kPeriod;
}

}  // namespace lmc
