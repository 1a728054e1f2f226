// SPDX-License-Identifier: MIT
// The threads torch itself computes with. Work given to them starts at once where threads of our
// own would have to share cores with torch's, which after every parallel operation spin for a
// while, waiting for the next.
#pragma once

namespace lmc {

// Calls function(context) once on each of up to `threads` threads of torch's OpenMP runtime, the
// calling thread among them, and returns when all have returned. False, and nothing was called,
// where no torch with OpenMP is loaded, and in a child of fork(), which has none of those threads.
// `function` must not throw.
bool run_on_torch_team(void (*function)(void* context), void* context, int threads);

}  // namespace lmc
