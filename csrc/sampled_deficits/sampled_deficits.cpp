// SPDX-License-Identifier: MIT
// Bindings of sampled_deficits: checks, then the kernel of the CPU target in use.
#include "sampled_deficits/sampled_deficits.h"

#include "common/bindings.h"
#include "common/parallel.h"
#include "common/tensor_view.h"

namespace lmc::sampled_deficits {
namespace {

struct Range {
  const TensorView& array;
  const double* first;
  int64_t size;
};

// Raises when `written` shares memory with the other.
void check_apart(const Range& written, const Range& other) {
  const auto begin = reinterpret_cast<uintptr_t>(written.first);
  const auto other_begin = reinterpret_cast<uintptr_t>(other.first);
  const auto bytes = [](const Range& r) { return static_cast<uintptr_t>(r.size) * sizeof(double); };
  if (begin < other_begin + bytes(other) && other_begin < begin + bytes(written))
    written.array.fail(std::string("must not overlap ") + other.array.name() +
                       ", because sums are added to it; pass an array of its own");
}

void sampled_deficits(py::handle z_, py::handle z_other_, py::handle squares_, py::handle mixed_,
                      py::handle turned_, int threads) {
  TensorView z(z_, "z"), z_other(z_other_, "z_other"), squares(squares_, "squares"),
      mixed(mixed_, "mixed"), turned(turned_, "turned");
  checked_threads(threads);
  z.require_ndim(2, "(n, m)");
  const int64_t n = z.size(0), m = z.size(1);
  Sums sums{};
  sums.n = n;
  sums.m = m;
  sums.z = z.input<double>({n, m});
  sums.z_other = z_other.input<double>({n, m});
  sums.squares = squares.output<double>({m, m});
  sums.mixed = mixed.output<double>({m, m});
  sums.turned = turned.output<double>({m, m});
  const Range ranges[] = {{squares, sums.squares, m * m},
                          {mixed, sums.mixed, m * m},
                          {turned, sums.turned, m * m},
                          {z, sums.z, n * m},
                          {z_other, sums.z_other, n * m}};
  for (int written = 0; written < 3; ++written)
    for (int other = written + 1; other < 5; ++other) check_apart(ranges[written], ranges[other]);
  const Kernels& table = LMC_SELECT_TABLE(kernels);
  py::gil_scoped_release release;
  table.add(sums, threads_for(static_cast<double>(n) * m * m, threads));
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("sampled_deficits", &sampled_deficits, arg("z"), arg("z_other"), arg("squares"),
        arg("mixed"), arg("turned"), arg("threads"),
        "Adds the sums of z and z_other (n, m) to squares, mixed and turned (m, m), all float64.");
}};

}  // namespace
}  // namespace lmc::sampled_deficits
