// SPDX-License-Identifier: MIT
// How an op's bindings reach the module: a file-scope `const Bindings bindings{register_op};` in
// the op's .cpp adds its functions, so that the module's own file need not name the ops.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

namespace lmc {

struct Bindings {
  using Function = void (*)(pybind11::module_&);
  explicit Bindings(Function function) { all().push_back(function); }
  static std::vector<Function>& all() {
    static std::vector<Function> functions;
    return functions;
  }
};

}  // namespace lmc
