// SPDX-License-Identifier: MIT
// Bindings of vector_math: one function that applies a named one to an array.
#include "vector_math/vector_math.h"

#include "common/bindings.h"
#include "common/tensor_view.h"

namespace lmc::vector_math {
namespace {

Function find(const std::string& name) {
  const Functions& table = LMC_SELECT_TABLE(functions);
  if (name == "exp") return table.exp;
  if (name == "log") return table.log;
  if (name == "sin_2pi") return table.sin_2pi;
  if (name == "cos_2pi") return table.cos_2pi;
  throw py::value_error("name must be one of exp, log, sin_2pi, cos_2pi; got '" + name + "'");
}

void vector_math(const std::string& name, py::handle x_, py::handle out_) {
  const Function function = find(name);
  TensorView x(x_, "x"), out(out_, "out");
  x.require_ndim(1, "(n,)");
  function(x.size(0), x.input<double>({x.size(0)}), out.output<double>({x.size(0)}));
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("vector_math", &vector_math, arg("name"), arg("x"), arg("out"),
        "Writes name(x) to out, both float64 (n,): exp, log, sin_2pi (sin(2 pi x)) or cos_2pi.");
}};

}  // namespace
}  // namespace lmc::vector_math
