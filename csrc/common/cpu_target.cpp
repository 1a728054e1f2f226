// SPDX-License-Identifier: MIT
#include "common/cpu_target.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace lmc {

const char* name_of(CpuTarget target) {
  switch (target) {
    case CpuTarget::avx512:
      return "avx512";
    case CpuTarget::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

std::vector<CpuTarget> supported_cpu_targets() {
  std::vector<CpuTarget> targets{CpuTarget::baseline};
#if LMC_FAST_X86_TARGETS
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (has_avx2) targets.push_back(CpuTarget::avx2);
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    targets.push_back(CpuTarget::avx512);
#endif
  return targets;
}

// The supported target of that name; `argument` and `remedy` begin and end the message otherwise.
static CpuTarget find(const std::string& name, const std::string& argument,
                      const std::string& remedy) {
  std::string names;
  for (CpuTarget target : supported_cpu_targets()) {
    if (name == name_of(target)) return target;
    names += (names.empty() ? "" : ", ") + std::string(name_of(target));
  }
  throw std::invalid_argument(argument + " must be one of " + names +
                              " (what this build and processor support); got '" + name + "'" +
                              remedy);
}

static CpuTarget choose() {
  const char* forced = std::getenv("LMC_FAST_CPU_TARGET");
  if (forced == nullptr || *forced == '\0') return supported_cpu_targets().back();
  return find(forced, "LMC_FAST_CPU_TARGET", ". Unset it to use the fastest.");
}

static std::atomic<CpuTarget>& current() {
  static std::atomic<CpuTarget> target{choose()};
  return target;
}

CpuTarget active_cpu_target() { return current().load(std::memory_order_relaxed); }

void use_cpu_target(const std::string& name) {
  current().store(find(name, "name", ""), std::memory_order_relaxed);
}

}  // namespace lmc
