// SPDX-License-Identifier: MIT
// Where costs come from, a row at a time: a matrix in memory, or the product of two factors.
#pragma once

#include "common/simd-inl.h"

namespace lmc::LMC_TARGET {

LMC_INLINE Vec<double> load_double(const double* p) { return load(p); }
LMC_INLINE Vec<double> load_double(const float* p) {
  typedef float Half __attribute__((vector_size(LMC_VECTOR_BYTES / 2)));
  Half half;
  memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, Vec<double>);
}

template <class T>
struct MatrixCosts {
  const T* matrix;  // (m,m), the caller's
  int64_t m;

  class Reader {
   public:
    LMC_INLINE explicit Reader(const MatrixCosts& costs) : costs_(costs) {}
    LMC_INLINE const T* row(int64_t i) const { return costs_.matrix + i * costs_.m; }
    LMC_INLINE int64_t row_work() const { return costs_.m; }  // in multiplications

   private:
    const MatrixCosts costs_;
  };
};

// c_ij = -a_i.b_j, a sum over the d products in order. A row costs d passes over m numbers; the
// solver reads each a few times only, so that none is kept.
template <class T>
struct FactorCosts {
  const T* a;               // (m,d), the caller's
  const double* b_columns;  // (d,m): b transposed, the caller's
  int64_t m, d;

  class Reader {
   public:
    LMC_INLINE explicit Reader(const FactorCosts& costs) : costs_(costs), row_(costs.m) {}

    // Good until the next call.
    LMC_INLINE const double* row(int64_t i) {
      constexpr int64_t L = kLanes<double>, kStrip = 8 * L;
      const int64_t m = costs_.m, whole = m / kStrip * kStrip;
      const T* a = costs_.a + i * costs_.d;
      for (int64_t j = 0; j < whole; j += kStrip) {
        Vec<double> sum[8] = {};
        for (int64_t k = 0; k < costs_.d; ++k) {
          const Vec<double> factor = broadcast(-static_cast<double>(a[k]));
#pragma GCC unroll 8
          for (int s = 0; s < 8; ++s) sum[s] += factor * load(costs_.b_columns + k * m + j + s * L);
        }
#pragma GCC unroll 8
        for (int s = 0; s < 8; ++s) store(&row_[j + s * L], sum[s]);
      }
      for (int64_t j = whole; j < m; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < costs_.d; ++k)
          sum += -static_cast<double>(a[k]) * costs_.b_columns[k * m + j];
        row_[j] = sum;
      }
      return row_.data();
    }
    LMC_INLINE int64_t row_work() const { return costs_.m * (costs_.d + 1); }

   private:
    const FactorCosts costs_;
    AlignedBuffer<double> row_;
  };
};

}  // namespace lmc::LMC_TARGET
