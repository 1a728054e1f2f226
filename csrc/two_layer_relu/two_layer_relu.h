// SPDX-License-Identifier: MIT
// f = w2 relu(w1 x + b1) + b2, keeping one bit per pre-activation for the backward pass.
//
// Letters: S students, n samples, d inputs, m neurons, c outputs. All arrays are dense and
// row-major. Sign words: word (s, w, i) holds neurons 64 w ... 64 w + 63 of sample i, bit l for
// neuron 64 w + l, set when z > 0 (or NaN). Word-major, so that the backward pass, which walks the
// samples of a few neurons, reads memory in order. Bits beyond neuron m - 1 are zero.
#pragma once

#include <cstdint>

#include "common/cpu_target.h"

namespace lmc::two_layer_relu {

struct Sizes {
  int64_t S, n, d, m, c;
  bool x_shared;  // one x (n,d) for all students, else (S,n,d)
};

inline int64_t words_per_sample(int64_t m) { return (m + 63) / 64; }

template <class T>
struct Forward {
  Sizes sizes;
  const T *x, *w1, *b1, *w2, *b2;  // (n,d)|(S,n,d), (S,m,d), (S,m)|null, (S,c,m), (S,c)|null
  T* f;                            // (S,n,c), overwritten
  uint64_t* signs;                 // (S,words,n), overwritten; null: not wanted
};

template <class T>
struct Backward {
  Sizes sizes;
  const T *df, *x, *w1, *b1, *w2;  // (S,n,c) and as above
  const uint64_t* signs;           // (S,words,n)
  // Overwritten; null: not wanted. dx is (S,n,d) also when x is shared (the caller sums over S).
  T *dx, *dw1, *db1, *dw2, *db2;
};

template <class T>
struct Kernels {
  void (*forward)(const Forward<T>&, int threads);
  void (*backward)(const Backward<T>&, int threads);
};

LMC_DECLARE_TABLE(Kernels<float>, kernels_float32)
LMC_DECLARE_TABLE(Kernels<double>, kernels_float64)

}  // namespace lmc::two_layer_relu
