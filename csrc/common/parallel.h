// SPDX-License-Identifier: MIT
// The threads of all kernels: torch's own where it is loaded (torch_team.h); a pool where it is
// not, and for calls during which the caller must wake up now and then (those of training). Work is
// cut into tasks by size alone, never by the number of threads, and no task reads what another
// writes (or it waits for it: evaluation-inl.h): so results do not depend on the thread count.
#pragma once

#include <cstdint>

namespace lmc {

// Called once per task; worker in [0, threads) is unique among the calls running at one time, and 0
// is always the calling thread.
using TaskFunction = void (*)(void* context, int64_t task, int worker);

// What the calling thread does every `milliseconds` once it has run out of tasks and waits for the
// others'.
struct WhileWaiting {
  void (*function)(void* context);  // must not throw
  void* context;
  int milliseconds;
};

// Runs all tasks on up to `threads` threads, the caller among them, and returns when all are done.
// They are begun in order: a task may wait for an earlier one that throws nothing.
// The first exception a task throws is rethrown here; the tasks not yet begun are then dropped.
// Safe to call from several threads at once, from inside a task, and after fork().
void parallel_for(int64_t tasks, int threads, TaskFunction function, void* context,
                  const WhileWaiting* while_waiting = nullptr);

// As many of `threads` as a call of so many multiply-adds deserves: one for less than some 20
// microseconds of work, since to start others and to wait for them takes a few, and thousands when
// other programs have their cores.
inline int threads_for(double multiply_adds, int threads) {
  return multiply_adds < 1 << 20 ? 1 : threads;
}

}  // namespace lmc
