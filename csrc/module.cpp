// SPDX-License-Identifier: MIT
// lmc_fast._native: every op's bindings, and facts about the build. Nothing else.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/bindings.h"
#include "common/cpu_target.h"
#include "common/cuda_kernels.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, m) {
  m.doc() = "The compiled kernels of lmc_fast. Arrays come as DLPack objects; see csrc/README.md.";
  for (auto add_op : lmc::Bindings::all()) add_op(m);

  m.def(
      "cpu_target", [] { return std::string(lmc::name_of(lmc::active_cpu_target())); },
      "The instruction set the kernels run with.");
  m.def("use_cpu_target", &lmc::use_cpu_target, py::arg("name"),
        "Switches the instruction set for calls that begin afterwards (benchmarks and tests).");
  m.def(
      "supported_cpu_targets",
      [] {
        std::vector<std::string> names;
        for (auto target : lmc::supported_cpu_targets()) names.push_back(lmc::name_of(target));
        return names;
      },
      "The instruction sets this build and processor support, slowest first.");
  m.def(
      "cuda_kernels",
      [] {
        std::vector<std::string> names;
        for (const auto& kernel : lmc::cuda_kernels()) names.push_back(kernel.first);
        return names;
      },
      "The CUDA kernels compiled into this build; empty for a build without CUDA.");
  m.attr("version") = LMC_FAST_VERSION;
  m.attr("compiler") = LMC_FAST_COMPILER;
}
