// SPDX-License-Identifier: MIT
// Vectors of the target a file is compiled for. Included by -inl.h bodies only, which are compiled
// once per CPU target, each in the namespace lmc::LMC_TARGET. Nothing here may use the standard
// library's templates: the linker keeps one copy of those, and it might be the one a processor
// cannot run.
#pragma once

#include <stdint.h>
#include <string.h>

#include "common/aligned_buffer.h"
#include "common/parallel.h"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LMC_TARGET avx512
#define LMC_VECTOR_BYTES 64
#define LMC_REGISTERS 32
#elif defined(__AVX2__)
#define LMC_TARGET avx2
#define LMC_VECTOR_BYTES 32
#define LMC_REGISTERS 16
#else
#define LMC_TARGET baseline
#define LMC_VECTOR_BYTES 16
#define LMC_REGISTERS 16
#endif

namespace lmc::LMC_TARGET {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(LMC_VECTOR_BYTES)));
  typedef int32_t integer __attribute__((vector_size(LMC_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(LMC_VECTOR_BYTES)));
  typedef int64_t integer __attribute__((vector_size(LMC_VECTOR_BYTES)));
};

// T per lane; comparisons of two Vec<T> give an IntVec<T> of 0 and -1; `mask ? a : b` selects.
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using IntVec = typename VectorOf<T>::integer;
template <class T>
inline constexpr int kLanes = LMC_VECTOR_BYTES / sizeof(T);

template <class T>
LMC_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
LMC_INLINE void store(T* p, Vec<T> v) {
  memcpy(p, &v, sizeof v);
}
template <class T>
LMC_INLINE Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // value - 0 is value for every value, -0 included; value + 0 is not
}

// Lane sum in a fixed order: lanes 0, 1, 2, ...
template <class T>
LMC_INLINE double lane_sum(Vec<T> v) {
  double sum = 0;
  for (int l = 0; l < kLanes<T>; ++l) sum += static_cast<double>(v[l]);
  return sum;
}

LMC_INLINE double lane_minimum(Vec<double> v) {
  double least = v[0];
  for (int l = 1; l < kLanes<double>; ++l) least = v[l] < least ? v[l] : least;
  return least;
}

// max(z, 0), and NaN for NaN as torch.relu gives.
template <class T>
LMC_INLINE Vec<T> relu(Vec<T> z) {
  return z < 0 ? Vec<T>{} : z;
}

// A set of lanes as bits: bit l for lane l.
using LaneBits = uint32_t;

// The lanes a gradient passes through relu: z > 0 or NaN (as torch's threshold_backward).
LMC_INLINE LaneBits active_lanes(Vec<float> z) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)z, _mm512_setzero_ps(), _CMP_NLE_UQ);
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)z, _mm256_setzero_ps(), _CMP_NLE_UQ));
#elif defined(__SSE2__)
  return _mm_movemask_ps(_mm_cmpnle_ps((__m128)z, _mm_setzero_ps()));
#else
  LaneBits bits = 0;
  for (int l = 0; l < kLanes<float>; ++l) bits |= LaneBits{!(z[l] <= 0)} << l;
  return bits;
#endif
}
LMC_INLINE LaneBits active_lanes(Vec<double> z) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)z, _mm512_setzero_pd(), _CMP_NLE_UQ);
#elif defined(__AVX2__)
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)z, _mm256_setzero_pd(), _CMP_NLE_UQ));
#elif defined(__SSE2__)
  return _mm_movemask_pd(_mm_cmpnle_pd((__m128d)z, _mm_setzero_pd()));
#else
  LaneBits bits = 0;
  for (int l = 0; l < kLanes<double>; ++l) bits |= LaneBits{!(z[l] <= 0)} << l;
  return bits;
#endif
}

// Lanes in and out of the set as 0 and -1 (all bits set).
template <class T>
LMC_INLINE IntVec<T> spread(LaneBits bits) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (IntVec<T>)_mm512_movm_epi32(static_cast<__mmask16>(bits));
  else
    return (IntVec<T>)_mm512_movm_epi64(static_cast<__mmask8>(bits));
#else
  IntVec<T> lane_bit;
  for (int l = 0; l < kLanes<T>; ++l) lane_bit[l] = 1 << l;
  using Int = decltype(lane_bit[0] + lane_bit[0]);
  const IntVec<T> all = static_cast<Int>(bits) - IntVec<T>{};
  return (all & lane_bit) == lane_bit;
#endif
}

// v in the set's lanes, 0 elsewhere (also where v is NaN or infinite).
template <class T>
LMC_INLINE Vec<T> keep(LaneBits bits, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), (__m512)v);
  else
    return (Vec<T>)_mm512_maskz_mov_pd(static_cast<__mmask8>(bits), (__m512d)v);
#else
  return (Vec<T>)(spread<T>(bits) & (IntVec<T>)v);
#endif
}

// A lane set ready for repeated use, and sum + v in its lanes, sum elsewhere.
#if defined(__AVX512F__)
template <class T>
using LaneSet = LaneBits;
template <class T>
LMC_INLINE LaneSet<T> lane_set(LaneBits bits) {
  return bits;
}
template <class T>
LMC_INLINE Vec<T> add_in(LaneSet<T> set, Vec<T> sum, Vec<T> v) {
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_mask_add_ps((__m512)sum, static_cast<__mmask16>(set), (__m512)sum,
                                      (__m512)v);
  else
    return (Vec<T>)_mm512_mask_add_pd((__m512d)sum, static_cast<__mmask8>(set), (__m512d)sum,
                                      (__m512d)v);
}
#else
template <class T>
using LaneSet = IntVec<T>;
template <class T>
LMC_INLINE LaneSet<T> lane_set(LaneBits bits) {
  return spread<T>(bits);
}
template <class T>
LMC_INLINE Vec<T> add_in(LaneSet<T> set, Vec<T> sum, Vec<T> v) {
  return sum + (Vec<T>)(set & (IntVec<T>)v);
}
#endif

// Calls body(task, worker) for every task; see common/parallel.h.
template <class Body>
LMC_INLINE void for_each_task(int64_t tasks, int threads, const Body& body,
                              const WhileWaiting* while_waiting = nullptr) {
  parallel_for(
      tasks, threads,
      [](void* context, int64_t task, int worker) {
        (*static_cast<const Body*>(context))(task, worker);
      },
      const_cast<Body*>(&body), while_waiting);
}

LMC_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
LMC_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
LMC_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
LMC_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace lmc::LMC_TARGET
