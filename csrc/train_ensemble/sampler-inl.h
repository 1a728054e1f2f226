// SPDX-License-Identifier: MIT
// Which samples a step of sgd sees. Everything is a function of a student's seed and the step.
#pragma once

#include "train_ensemble/philox-inl.h"

namespace lmc::LMC_TARGET {

// Mini-batches of shuffled epochs, laid end to end: batches run across the borders of epochs.
class EpochSampler {
 public:
  LMC_INLINE explicit EpochSampler(int64_t n) : n_(n), words_(shuffle_words(n)), order_(n) {}

  LMC_INLINE void begin(uint64_t seed) {
    seed_ = seed;
    next_epoch_ = 0;
    position_ = n_;
  }
  // Calls take(place in the batch, sample) for the next `size` samples.
  template <class Take>
  LMC_INLINE void draw(int64_t size, const Take& take) {
    for (int64_t i = 0; i < size; ++i) {
      if (position_ == n_) {
        fill_shuffle(seed_, n_, next_epoch_++, words_.data(), order_.data());
        position_ = 0;
      }
      take(i, order_[position_++]);
    }
  }

 private:
  const int64_t n_;
  uint64_t seed_ = 0, next_epoch_ = 0;
  int64_t position_ = 0;
  AlignedBuffer<uint32_t> words_;
  AlignedBuffer<int64_t> order_;
};

// Fresh inputs: the (size,d) matrix of a step is filled row by row with that step's normals.
template <class T>
class FreshSampler {
 public:
  LMC_INLINE FreshSampler(int64_t size, int64_t d, double radius)
      : size_(size), d_(d), radius_(radius), normals_(padded_normals(size * d)), x_(d) {}

  // Calls take(row, x) for every row, x (d).
  template <class Take>
  LMC_INLINE void draw(uint64_t seed, uint64_t step, const Take& take) {
    fill_normals(seed, size_ * d_, step, normals_.data());
    for (int64_t i = 0; i < size_; ++i) {
      const double* row = &normals_[i * d_];
      double scale = 1;
      if (radius_ > 0) {  // a normal vector's direction is uniform
        double square = 0;
        for (int64_t k = 0; k < d_; ++k) square += row[k] * row[k];
        scale = radius_ / __builtin_sqrt(square);
      }
      for (int64_t k = 0; k < d_; ++k) x_[k] = static_cast<T>(scale * row[k]);
      take(i, x_.data());
    }
  }

 private:
  const int64_t size_, d_;
  const double radius_;
  AlignedBuffer<double> normals_;
  AlignedBuffer<T> x_;
};

}  // namespace lmc::LMC_TARGET
