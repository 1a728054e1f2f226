// SPDX-License-Identifier: MIT
#include "common/cpu_target.h"

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

static CpuTarget choose() {
  const auto supported = supported_cpu_targets();
  const char* forced = std::getenv("LMC_FAST_CPU_TARGET");
  if (forced == nullptr || *forced == '\0') return supported.back();
  std::string names;
  for (CpuTarget target : supported) {
    if (std::string(forced) == name_of(target)) return target;
    names += (names.empty() ? "" : ", ") + std::string(name_of(target));
  }
  throw std::invalid_argument("LMC_FAST_CPU_TARGET must be one of " + names +
                              " (what this build and processor support); got '" + forced +
                              "'. Unset it to use the fastest.");
}

CpuTarget active_cpu_target() {
  static const CpuTarget target = choose();
  return target;
}

}  // namespace lmc
