// SPDX-License-Identifier: MIT
// How a long kernel is stopped from outside (Ctrl-C). The workers ask requested() now and then; for
// the calling thread, worker 0, that also asks the outside, at most every kPollMilliseconds.
#pragma once

#include <atomic>
#include <chrono>

namespace lmc {

class Interrupt {
 public:
  using Poll = bool (*)();  // true: stop. Called on the calling thread only
  static constexpr int kPollMilliseconds = 50;

  explicit Interrupt(Poll poll);
  bool requested(int worker);  // costs a clock reading for worker 0, a load for the others
  bool requested() const;
  void poll_now();  // for a calling thread that has nothing else to do; see parallel_for

 private:
  const Poll poll_;
  std::atomic<bool> requested_{false};
  std::chrono::steady_clock::time_point next_poll_;  // worker 0's own
};

}  // namespace lmc
