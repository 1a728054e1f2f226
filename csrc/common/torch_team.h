// SPDX-License-Identifier: MIT
// The threads torch itself computes with. Work given to them starts at once where threads of our
// own would have to share cores with torch's, which after every parallel operation spin for a
// while, waiting for the next.
#pragma once

#include <cstdint>

namespace lmc {

// Calls function(context) once on each of up to `threads` threads of torch's OpenMP runtime, the
// calling thread among them, and returns when all have returned. Of more threads than torch itself
// uses only as many as there are `tasks`; but never fewer than torch uses because of few tasks,
// since a team of another size is made anew. False, and nothing was called, where no torch with
// OpenMP is loaded, and in a child of fork(), which has none of those threads. `function` must not
// throw.
bool run_on_torch_team(void (*function)(void* context), void* context, int64_t tasks, int threads);

}  // namespace lmc
