// SPDX-License-Identifier: MIT
// Samples in the two layouts that the products read: as rows of tiles for z = x w1^T, where a
// tile's R samples are the broadcast operand, and as columns for dw1 = dz^T x, where R input
// dimensions are.
#pragma once

#include "common/gemm-inl.h"

namespace lmc::LMC_TARGET {

template <class T>
struct Samples {
  int64_t count;
  int row_height, column_height;  // R of the two layouts
  const T* rows;                  // (row tiles, d, R), samples beyond count zero
  const T* columns;       // (column tiles, count, R), dimensions beyond d zero; null: no gradient
  const T* y;             // (count,c), or null and
  const int64_t* labels;  // (count)
};

// Owns both layouts of `count` samples; what is padding stays zero.
template <class T>
class PackedSamples {
 public:
  LMC_INLINE PackedSamples(int64_t count, int64_t d, bool with_columns)
      : count_(count),
        d_(d),
        row_height_(tile_height<T>(count)),
        column_height_(tile_height<T>(d)),
        rows_size_(round_up(count, row_height_) * d),
        columns_size_(with_columns ? count * round_up(d, column_height_) : 0),
        rows_(rows_size_),
        columns_(columns_size_) {
    memset(rows_.data(), 0, static_cast<size_t>(rows_size_) * sizeof(T));
    memset(columns_.data(), 0, static_cast<size_t>(columns_size_) * sizeof(T));
  }

  LMC_INLINE void set(int64_t i, const T* x) {
    const int64_t R = row_height_, C = column_height_;
    T* row = &rows_[i / R * R * d_ + i % R];
    for (int64_t k = 0; k < d_; ++k) row[k * R] = x[k];
    if (columns_size_ == 0) return;
    for (int64_t k = 0; k < d_; k += C)
      memcpy(&columns_[k * count_ + i * C], x + k,
             static_cast<size_t>(smaller(C, d_ - k)) * sizeof(T));
  }

  LMC_INLINE Samples<T> view(const T* y, const int64_t* labels) {
    return {count_,
            row_height_,
            column_height_,
            rows_.data(),
            columns_size_ ? columns_.data() : nullptr,
            y,
            labels};
  }

 private:
  const int64_t count_, d_;
  const int row_height_, column_height_;
  const int64_t rows_size_, columns_size_;
  AlignedBuffer<T> rows_, columns_;
};

}  // namespace lmc::LMC_TARGET
