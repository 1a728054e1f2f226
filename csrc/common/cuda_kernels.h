// SPDX-License-Identifier: MIT
// The CUDA kernels of this build, by name. A .cu file that is compiled adds its own with a
// file-scope CudaKernel; one that is not is simply absent. So no other file asks whether this is a
// CUDA build.
#pragma once

#include <map>
#include <string>

namespace lmc {

using AnyFunction = void (*)();

inline std::map<std::string, AnyFunction>& cuda_kernels();

struct CudaKernel {
  template <class Function>
  CudaKernel(const char* name, Function* function) {
    cuda_kernels()[name] = reinterpret_cast<AnyFunction>(function);
  }
};

// The kernel of this name and launcher type, or null. The caller's contract header gives both.
template <class Function>
Function* find_cuda_kernel(const char* name) {
  const auto found = cuda_kernels().find(name);
  return found == cuda_kernels().end() ? nullptr : reinterpret_cast<Function*>(found->second);
}

inline std::map<std::string, AnyFunction>& cuda_kernels() {
  static std::map<std::string, AnyFunction> kernels;
  return kernels;
}

}  // namespace lmc
