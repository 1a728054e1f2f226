// SPDX-License-Identifier: MIT
#include "common/torch_team.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#endif

namespace lmc {

#if defined(__linux__)
namespace {

// What compilers call at "#pragma omp parallel"; GNU's, LLVM's and Intel's runtimes all have it.
using ParallelFunction = void (*)(void (*function)(void*), void* context, unsigned threads,
                                  unsigned flags);

std::atomic<bool> forked{false};

// From the moment this library is loaded: torch may have started its threads before our first call.
[[maybe_unused]] const int fork_is_seen = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// Loads nothing: the caller of this holds the lock on the list of libraries, and a dlopen of
// another thread, which holds the lock on loading, waits for it.
int find_torch(dl_phdr_info* library, size_t, void* name) {
  if (std::strstr(library->dlpi_name, "libtorch_cpu.so") == nullptr) return 0;
  *static_cast<std::string*>(name) = library->dlpi_name;
  return 1;
}

// Of the runtime that torch is linked with; another library may have brought its own.
struct Runtime {
  ParallelFunction parallel = nullptr;
  int (*max_threads)() = nullptr;  // what torch.set_num_threads set

  Runtime() {
    std::string name;
    dl_iterate_phdr(find_torch, &name);
    void* torch = name.empty() ? nullptr : dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (torch == nullptr) return;
    max_threads = reinterpret_cast<int (*)()>(dlsym(torch, "omp_get_max_threads"));
    if (max_threads) parallel = reinterpret_cast<ParallelFunction>(dlsym(torch, "GOMP_parallel"));
  }
};

}  // namespace

bool run_on_torch_team(void (*function)(void*), void* context, int64_t tasks, int threads) {
  static const Runtime runtime;
  if (runtime.parallel == nullptr || forked) return false;
  const int64_t team = std::min<int64_t>(threads, std::max<int64_t>(tasks, runtime.max_threads()));
  runtime.parallel(function, context, static_cast<unsigned>(team), 0);
  return true;
}
#else
bool run_on_torch_team(void (*)(void*), void*, int64_t, int) { return false; }
#endif

}  // namespace lmc
