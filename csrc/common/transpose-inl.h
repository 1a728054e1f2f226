// SPDX-License-Identifier: MIT
// As many vectors as they have lanes: rows and lanes exchanged, and lanes summed.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

// Lane l of the new a is a[l] where bit h of l is 0, else b[l - h]; of the new b, a[l + h] or b[l].
template <class T>
LMC_INLINE void exchange_halves(Vec<T>& a, Vec<T>& b, int h) {
  constexpr int L = kLanes<T>;
#if defined(__clang__)
  Vec<T> low, high;
  for (int l = 0; l < L; ++l) {
    low[l] = l & h ? b[l - h] : a[l];
    high[l] = l & h ? b[l] : a[l + h];
  }
#else
  IntVec<T> first, second;
  for (int l = 0; l < L; ++l) {
    first[l] = l & h ? L + l - h : l;
    second[l] = l & h ? L + l : l + h;
  }
  const Vec<T> low = __builtin_shuffle(a, b, first), high = __builtin_shuffle(a, b, second);
#endif
  a = low;
  b = high;
}

// Lane l of v[r] goes to lane r of v[l].
template <class T>
LMC_INLINE void transpose(Vec<T> (&v)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
#pragma GCC unroll 4
  for (int h = 1; h < L; h *= 2)
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r)
      if (!(r & h)) exchange_halves<T>(v[r], v[r + h], h);
}

// Lane i of the result is the sum of the lanes of rows[i], for kLanes rows.
template <class T>
LMC_INLINE Vec<T> sum_rows(const T* rows) {
  constexpr int L = kLanes<T>;
  Vec<T> v[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) v[i] = load(rows + i * L);
#pragma GCC unroll 4
  for (int h = 1; h < L; h *= 2)
#pragma GCC unroll 16
    for (int i = 0; i < L; i += 2 * h) {
      exchange_halves<T>(v[i], v[i + h], h);
      v[i] += v[i + h];
    }
  return v[0];
}

}  // namespace lmc::LMC_TARGET
