// SPDX-License-Identifier: MIT
// Bindings of ceiling: the arrays are the caller's, so that it can time the loops alone.
#include "ceiling/ceiling.h"

#include <vector>

#include "common/bindings.h"
#include "common/tensor_view.h"

namespace lmc::ceiling {
namespace {

LMC_DEFINE_KERNELS()

int64_t multiply_add(py::handle sink_, int64_t rounds, int threads) {
  TensorView sink(sink_, "sink");
  threads = checked_threads(threads);
  if (rounds < 0) throw py::value_error("rounds must be at least 0; got " + std::to_string(rounds));
  int64_t operations = 0;
  with_float_type(sink, [&](auto zero) {
    using T = decltype(zero);
    T* out = sink.output<T>({threads});
    py::gil_scoped_release release;
    operations = kernels<T>().multiply_add(rounds, threads, out);
  });
  return operations;
}

void copy(py::handle source, py::handle target, int threads) {
  TensorView in(source, "source"), out(target, "target");
  threads = checked_threads(threads);
  in.require_ndim(1, "(n,)");
  with_float_type(in, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = in.size(0);
    const T* from = in.input<T>({count});
    T* to = out.output<T>({count});
    py::gil_scoped_release release;
    kernels<T>().copy(count, from, to, threads);
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("ceiling_multiply_add", &multiply_add, arg("sink"), arg("rounds"), arg("threads"),
        "Multiply-adds in registers on every thread; sink (threads,) gives their type. Returns the "
        "number of operations.");
  m.def("ceiling_copy", &copy, arg("source"), arg("target"), arg("threads"),
        "Copies (n,) floats, a share on every thread.");
}};

}  // namespace
}  // namespace lmc::ceiling
