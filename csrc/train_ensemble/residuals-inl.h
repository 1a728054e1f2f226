// SPDX-License-Identifier: MIT
// From outputs to losses and their derivatives. f, r and y are (count,c); r = scale * dloss/df.
#pragma once

#include "common/math-inl.h"

namespace lmc::LMC_TARGET {

// Sum over samples and outputs of (f - y)^2 / 2: lane by lane, then over the lanes, then the tail.
template <class T>
LMC_INLINE double squared_residuals(int64_t size, const T* f, const T* y, T scale, T* r) {
  Vec<T> lanes = {};
  int64_t e = 0;
  for (; e + kLanes<T> <= size; e += kLanes<T>) {
    const Vec<T> difference = load(f + e) - load(y + e);
    lanes += difference * difference;
    store(r + e, scale * difference);
  }
  double sum = lane_sum<T>(lanes);
  for (; e < size; ++e) {
    const T difference = f[e] - y[e];
    sum += static_cast<double>(difference) * static_cast<double>(difference);
    r[e] = scale * difference;
  }
  return sum / 2;
}

// Room that cross_entropy_residuals needs, in doubles.
LMC_INLINE int64_t softmax_scratch(int64_t count, int64_t c) {
  return round_up(count * c, kLanes<double>) + 2 * round_up(count, kLanes<double>);
}

// Sum over samples of -log softmax(f)[label], in float64 for every T.
template <class T>
LMC_INLINE double cross_entropy_residuals(int64_t count, int64_t c, const T* f,
                                          const int64_t* labels, T scale, double* scratch, T* r) {
  constexpr int L = kLanes<double>;
  double* e = scratch;                               // (count,c) exp(f - max)
  double* total = scratch + round_up(count * c, L);  // (count) sum over c of e
  double* margin = total + round_up(count, L);       // (count) f[label] - max
  for (int64_t i = 0; i < count; ++i) {
    T top = f[i * c];
    for (int64_t o = 1; o < c; ++o) top = f[i * c + o] > top ? f[i * c + o] : top;
    for (int64_t o = 0; o < c; ++o)
      e[i * c + o] = static_cast<double>(f[i * c + o]) - static_cast<double>(top);
    margin[i] = e[i * c + labels[i]];
  }
  for (int64_t k = count * c; k % L != 0; ++k) e[k] = 0;
  for (int64_t k = 0; k < count * c; k += L) store(e + k, vector_exp(load(e + k)));
  for (int64_t i = 0; i < count; ++i) {
    double sum = 0;
    for (int64_t o = 0; o < c; ++o) sum += e[i * c + o];
    total[i] = sum;
    for (int64_t o = 0; o < c; ++o)
      r[i * c + o] = scale * static_cast<T>(e[i * c + o] / sum - (o == labels[i] ? 1.0 : 0.0));
  }
  for (int64_t k = count; k % L != 0; ++k) {
    total[k] = 1;
    margin[k] = 0;
  }
  Vec<double> lanes = {};
  for (int64_t i = 0; i < count; i += L) lanes += vector_log(load(total + i)) - load(margin + i);
  return lane_sum<double>(lanes);
}

}  // namespace lmc::LMC_TARGET
