// SPDX-License-Identifier: MIT
// Which instruction set the kernels run with: every kernel is compiled once per target, and one
// target is chosen at the first call that needs one. LMC_FAST_CPU_TARGET=baseline|avx2|avx512
// forces one.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

namespace lmc {

enum class CpuTarget { baseline, avx2, avx512 };

const char* name_of(CpuTarget target);

// The targets this build holds and this processor can run, from slowest to fastest.
std::vector<CpuTarget> supported_cpu_targets();

// The target in use. Throws std::invalid_argument when LMC_FAST_CPU_TARGET names none or one that
// this processor cannot run.
CpuTarget active_cpu_target();

// Makes the supported target of that name the one of calls that begin afterwards, in any thread.
// For benchmarks and tests. Throws std::invalid_argument for any other name and changes nothing.
void use_cpu_target(const std::string& name);

// Chooses among a kernel table's versions. The tables are constant data, so that nothing compiled
// for a wider instruction set runs before this choice.
template <class Table>
const Table& select(const Table& baseline, const Table& avx2, const Table& avx512) {
  switch (active_cpu_target()) {
    case CpuTarget::avx512:
      return avx512;
    case CpuTarget::avx2:
      return avx2;
    default:
      return baseline;
  }
}

}  // namespace lmc

// Declares TABLE once per target; LMC_SELECT_TABLE(TABLE) is the one of the active target.
#if LMC_FAST_X86_TARGETS
#define LMC_DECLARE_TABLE(TYPE, TABLE) \
  namespace baseline {                 \
  extern const TYPE TABLE;             \
  }                                    \
  namespace avx2 {                     \
  extern const TYPE TABLE;             \
  }                                    \
  namespace avx512 {                   \
  extern const TYPE TABLE;             \
  }
#define LMC_SELECT_TABLE(TABLE) ::lmc::select(baseline::TABLE, avx2::TABLE, avx512::TABLE)
#else
#define LMC_DECLARE_TABLE(TYPE, TABLE) \
  namespace baseline {                 \
  extern const TYPE TABLE;             \
  }
#define LMC_SELECT_TABLE(TABLE) (baseline::TABLE)
#endif

// For an op with a table per type: defines kernels<T>(), the active target's.
#define LMC_DEFINE_KERNELS()                    \
  template <class T>                            \
  const Kernels<T>& kernels() {                 \
    if constexpr (std::is_same_v<T, float>)     \
      return LMC_SELECT_TABLE(kernels_float32); \
    else                                        \
      return LMC_SELECT_TABLE(kernels_float64); \
  }
