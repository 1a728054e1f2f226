// SPDX-License-Identifier: MIT
// The objectives of gd and sgd: the loss on samples, for descent-inl.h.
#pragma once

#include "train_ensemble/population_objective-inl.h"
#include "train_ensemble/sample_pass-inl.h"
#include "train_ensemble/sampler-inl.h"
#include "train_ensemble/train_ensemble.h"

namespace lmc::LMC_TARGET {

template <class T>
LMC_INLINE void pack_samples(const T* x, int64_t n, int64_t d, PackedSamples<T>& packed) {
  for (int64_t i = 0; i < n; ++i) packed.set(i, x + i * d);
}

// What the two have in common: a packed student, and the pass over samples.
template <class T, int V>
class SampleObjective {
 public:
  using Scalar = T;
  LMC_INLINE SampleObjective(const train_ensemble::Problem<T>& p, Watch& watch)
      : p_(p),
        z_(p.sizes),
        net_(z_.m, z_.d, z_.c),
        pass_(larger(net_.panels, PackedNet<T, V>(z_.M, z_.d, z_.c).panels), z_.c, p.train_w2),
        watch_(watch) {}

  LMC_INLINE int64_t size() const { return net_.size; }
  LMC_INLINE int64_t trained() const { return p_.train_w2 ? net_.size : net_.w1_size; }
  LMC_INLINE void load(T* w) const {
    net_.pack(p_.w1 + s_ * z_.m * z_.d, p_.w2 + s_ * z_.c * z_.m, w);
  }
  LMC_INLINE void store(const T* w) const {
    net_.unpack(w, p_.w1_out + s_ * z_.m * z_.d, p_.w2_out + s_ * z_.c * z_.m);
  }

 protected:
  LMC_INLINE const T* x() const { return p_.x + (z_.x_shared ? 0 : s_ * z_.n * z_.d); }
  LMC_INLINE const T* y() const {
    return p_.y ? p_.y + (z_.y_shared ? 0 : s_ * z_.n * z_.c) : nullptr;
  }
  LMC_INLINE const int64_t* labels() const {
    return p_.labels ? p_.labels + (z_.y_shared ? 0 : s_ * z_.n) : nullptr;
  }
  // The mean loss over all n samples of the network whose outputs are 0.
  LMC_INLINE double zero_loss_on_samples() const {
    if (p_.labels) return __builtin_log(static_cast<double>(z_.c));
    double sum = 0;
    for (int64_t e = 0; e < z_.n * z_.c; ++e)
      sum += static_cast<double>(y()[e]) * static_cast<double>(y()[e]);
    return sum / 2 / static_cast<double>(z_.n);
  }

  const train_ensemble::Problem<T>& p_;
  const train_ensemble::Sizes& z_;
  const PackedNet<T, V> net_;
  SamplePass<T, V> pass_;
  Watch& watch_;
  int64_t s_ = 0;
};

// gd, and sgd on mini-batches: `shared` is x packed once for all students, or null when each has
// its own.
template <class T, int V>
class FixedSamplesObjective : public SampleObjective<T, V> {
  using Base = SampleObjective<T, V>;
  using Base::p_, Base::z_, Base::net_, Base::pass_, Base::watch_, Base::s_;

 public:
  LMC_INLINE FixedSamplesObjective(const train_ensemble::Problem<T>& p, PackedSamples<T>* shared,
                                   Watch& watch)
      : Base(p, watch),
        mini_batches_(p.method == train_ensemble::Method::sgd),
        shared_(shared),
        own_(shared ? 0 : z_.n, z_.d, !mini_batches_),
        batch_(z_.batch, z_.d, true),
        batch_y_(p.y ? z_.batch * z_.c : 0),
        batch_labels_(p.labels ? z_.batch : 0),
        sampler_(mini_batches_ ? z_.n : 0) {}

  LMC_INLINE void begin(int64_t s) {
    s_ = s;
    if (!shared_) pack_samples(this->x(), z_.n, z_.d, own_);
    sampler_.begin(p_.seeds[s]);
  }
  LMC_INLINE bool exact() const { return !mini_batches_; }
  LMC_INLINE double zero_loss() const { return this->zero_loss_on_samples(); }
  double full_loss(const T* w) { return pass_.loss(net_, w, all(), nullptr, watch_); }
  double loss_and_gradient(const T* w, T* g, int64_t) {
    return pass_.loss(net_, w, mini_batches_ ? next_batch() : all(), g, watch_);
  }

 private:
  LMC_INLINE Samples<T> all() {
    return (shared_ ? *shared_ : own_).view(this->y(), this->labels());
  }

  Samples<T> next_batch() {
    const T *x = this->x(), *y = this->y();
    const int64_t* labels = this->labels();
    sampler_.draw(z_.batch, [&](int64_t i, int64_t sample) {
      batch_.set(i, x + sample * z_.d);
      if (labels)
        batch_labels_[i] = labels[sample];
      else
        for (int64_t o = 0; o < z_.c; ++o) batch_y_[i * z_.c + o] = y[sample * z_.c + o];
    });
    return batch_.view(labels ? nullptr : batch_y_.data(), labels ? batch_labels_.data() : nullptr);
  }

  const bool mini_batches_;
  PackedSamples<T>* shared_;
  PackedSamples<T> own_, batch_;
  AlignedBuffer<T> batch_y_;
  AlignedBuffer<int64_t> batch_labels_;
  EpochSampler sampler_;
};

// sgd on samples drawn for every step and labelled by the teacher; the full objective is the
// population loss.
template <class T, int V>
class FreshSamplesObjective : public SampleObjective<T, V> {
  using Base = SampleObjective<T, V>;
  using Base::p_, Base::z_, Base::net_, Base::pass_, Base::watch_, Base::s_;

 public:
  LMC_INLINE FreshSamplesObjective(const train_ensemble::Problem<T>& p,
                                   const PopulationTeacher& teacher, Watch& watch)
      : Base(p, watch),
        labeller_(z_.M, z_.d, z_.c),
        v_(labeller_.size),
        batch_(z_.batch, z_.d, true),
        batch_y_(z_.batch * z_.c),
        sampler_(z_.batch, z_.d, p.radius),
        population_(teacher, p.sizes),
        w1_(z_.m * z_.d),
        w2_(z_.c * z_.m) {
    labeller_.pack(p.v1, p.v2, v_.data());
  }

  LMC_INLINE void begin(int64_t s) { s_ = s; }
  LMC_INLINE bool exact() const { return false; }
  LMC_INLINE double zero_loss() { return population_.zero_loss(); }
  double full_loss(const T* w) {
    net_.unpack(w, w1_.data(), w2_.data());
    return population_.loss(w1_.data(), w2_.data(), nullptr, nullptr);
  }
  double loss_and_gradient(const T* w, T* g, int64_t step) {
    sampler_.draw(p_.seeds[s_], static_cast<uint64_t>(step),
                  [&](int64_t i, const T* x) { batch_.set(i, x); });
    pass_.outputs(labeller_, v_.data(), batch_.view(nullptr, nullptr), batch_y_.data());
    return pass_.loss(net_, w, batch_.view(batch_y_.data(), nullptr), g, watch_);
  }

 private:
  const PackedNet<T, V> labeller_;
  AlignedBuffer<T> v_;
  PackedSamples<T> batch_;
  AlignedBuffer<T> batch_y_;
  FreshSampler<T> sampler_;
  PopulationLoss population_;
  AlignedBuffer<double> w1_, w2_;
};

}  // namespace lmc::LMC_TARGET
