// SPDX-License-Identifier: MIT
// A network's weights as one flat array, in the layout the products read: w1 (panels,d,N), then w2
// (panels,c,N), N neurons side by side. The neurons that pad the last panel are zero, and so are
// their gradients: training steps go over the flat array without looking at its layout.
#pragma once

#include "common/gemm-inl.h"

namespace lmc::LMC_TARGET {

template <class T, int V>
struct PackedNet {
  static constexpr int N = V * kLanes<T>;
  int64_t m, d, c;
  int64_t panels = ceil_div(m, N);
  int64_t w1_size = panels * d * N;
  int64_t size = w1_size + panels * c * N;

  LMC_INLINE PackedNet(int64_t m_, int64_t d_, int64_t c_) : m(m_), d(d_), c(c_) {}
  LMC_INLINE int64_t w1_panel(int64_t q) const { return q * d * N; }
  LMC_INLINE int64_t w2_panel(int64_t q) const { return w1_size + q * c * N; }

  template <class From>
  LMC_INLINE void pack(const From* w1, const From* w2, T* w) const {
    memset(w, 0, static_cast<size_t>(size) * sizeof(T));
    for (int64_t j = 0; j < m; ++j) {
      T *to1 = w + w1_panel(j / N) + j % N, *to2 = w + w2_panel(j / N) + j % N;
      for (int64_t k = 0; k < d; ++k) to1[k * N] = static_cast<T>(w1[j * d + k]);
      for (int64_t o = 0; o < c; ++o) to2[o * N] = static_cast<T>(w2[o * m + j]);
    }
  }
  template <class To>
  LMC_INLINE void unpack(const T* w, To* w1, To* w2) const {
    for (int64_t j = 0; j < m; ++j) {
      const T *from1 = w + w1_panel(j / N) + j % N, *from2 = w + w2_panel(j / N) + j % N;
      for (int64_t k = 0; k < d; ++k) w1[j * d + k] = static_cast<To>(from1[k * N]);
      for (int64_t o = 0; o < c; ++o) w2[o * m + j] = static_cast<To>(from2[o * N]);
    }
  }
};

}  // namespace lmc::LMC_TARGET
