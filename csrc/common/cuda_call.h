// SPDX-License-Identifier: MIT
// A binding's way to CUDA kernels: finds the op's host function in this build, hands it the
// caller's stream and workspace, and turns what went wrong into a Python exception.
#pragma once

#include <initializer_list>
#include <string>

#include "common/cuda/call.h"
#include "common/cuda_kernels.h"
#include "common/tensor_view.h"

namespace lmc {

class CudaCall {
 public:
  // `view` is an array of the type and on the device that all must have.
  CudaCall(const char* op, const TensorView& view, std::initializer_list<int64_t> sizes, int terms,
           uintptr_t stream)
      : op_(op), suffix_(view.is_float32() ? ".float32" : ".float64"), device_(view.device()) {
    if (device_.type != dlpack::kCuda)
      view.fail("must be on a CUDA device for this function; got an array on another one");
    check_sizes(view, sizes);
    if (terms < 0 || terms > 3)
      throw py::value_error("terms must be 0, 1, 2 or 3; got " + std::to_string(terms));
    call_ = {device_.id, reinterpret_cast<void*>(stream), terms, nullptr, 0};
  }

  dlpack::Device device() const { return device_; }

  static void check_sizes(const TensorView& view, std::initializer_list<int64_t> sizes) {
    for (int64_t size : sizes)
      if (size >= int64_t{1} << 31)
        view.fail("and the others must have sizes below 2^31 each; got " + std::to_string(size) +
                  ". Cut the samples or the networks into several calls");
  }

  // Measures when `workspace` is None. Returns the bytes that a workspace needs.
  template <class Function, class Arguments>
  int64_t run(const char* kernel, const Arguments& arguments, py::handle workspace) {
    auto* const function = find<Function>(kernel);
    attempt(function, arguments);
    // Never nothing: a null workspace would ask to measure again.
    const int64_t bytes = call_.bytes > 0 ? call_.bytes : 8;
    if (workspace.is_none()) return bytes;
    TensorView view(workspace, "workspace");
    call_.workspace = view.output<int64_t>({(bytes + 7) / 8}, device_);
    if (reinterpret_cast<uintptr_t>(call_.workspace) % 256 != 0)
      view.fail("must begin at a multiple of 256 bytes, as what the device's allocator gives does");
    attempt(function, arguments);
    return bytes;
  }
  // For kernels that need no workspace.
  template <class Function, class Arguments>
  void run(const char* kernel, const Arguments& arguments) {
    attempt(find<Function>(kernel), arguments);
  }

 private:
  template <class Function>
  Function* find(const char* kernel) const {
    auto* const function = find_cuda_kernel<Function>((kernel + suffix_).c_str());
    if (function == nullptr)
      throw std::runtime_error(op_ +
                               ": this build of lmc_fast has no CUDA kernels; install it where "
                               "nvcc is found, or move the arrays to the CPU");
    return function;
  }

  template <class Function, class Arguments>
  void attempt(Function* function, const Arguments& arguments) {
    const char* error = nullptr;
    {
      py::gil_scoped_release release;
      error = function(arguments, call_);
    }
    if (error != nullptr)
      throw std::runtime_error(op_ + " on cuda:" + std::to_string(device_.id) +
                               ": the CUDA launch failed: " + error +
                               ". With CUDA_LAUNCH_BLOCKING=1 the first failing call is named");
  }

  std::string op_, suffix_;
  dlpack::Device device_;
  cuda::Call call_;
};

}  // namespace lmc
