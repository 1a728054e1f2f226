// SPDX-License-Identifier: MIT
// Ctrl-C, for bindings whose kernels run for long: what their Interrupt asks.
#pragma once

#include <pybind11/pybind11.h>

namespace lmc {

// Python runs its signal handlers when asked to, on its main thread. The exception they may raise
// stays set in this thread until the binding rethrows it.
inline bool signal_raised() {
  pybind11::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() != 0;
}

}  // namespace lmc
