// SPDX-License-Identifier: MIT
#include "common/torch_team.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include <atomic>
#include <cstring>
#endif

namespace lmc {

#if defined(__linux__)
namespace {

// What compilers call at "#pragma omp parallel"; GNU's, LLVM's and Intel's runtimes all have it.
using ParallelFunction = void (*)(void (*function)(void*), void* context, unsigned threads,
                                  unsigned flags);

std::atomic<bool> forked{false};

int find_torch(dl_phdr_info* library, size_t, void* handle) {
  if (std::strstr(library->dlpi_name, "libtorch_cpu.so") == nullptr) return 0;
  *static_cast<void**>(handle) = dlopen(library->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
  return 1;
}

// From the runtime that torch is linked with; another library may have brought its own.
ParallelFunction find_parallel() {
  void* torch = nullptr;
  dl_iterate_phdr(find_torch, &torch);
  if (torch == nullptr) return nullptr;
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
  return reinterpret_cast<ParallelFunction>(dlsym(torch, "GOMP_parallel"));
}

}  // namespace

bool run_on_torch_team(void (*function)(void*), void* context, int threads) {
  static const ParallelFunction parallel = find_parallel();
  if (parallel == nullptr || forked) return false;
  parallel(function, context, static_cast<unsigned>(threads), 0);
  return true;
}
#else
bool run_on_torch_team(void (*)(void*), void*, int) { return false; }
#endif

}  // namespace lmc
