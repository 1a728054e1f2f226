// SPDX-License-Identifier: MIT
// Defines this op's kernel tables for the target the including file is compiled for. A task is one
// student's whole training; the memory it works in belongs to its worker and is allocated before
// the first task.
#pragma once

#include <new>

#include "train_ensemble/descent-inl.h"
#include "train_ensemble/population_objective-inl.h"
#include "train_ensemble/sample_objective-inl.h"

namespace lmc::LMC_TARGET {

// What one worker trains with, one student after the other.
template <class Objective>
struct Trainer {
  Watch watch;
  Objective objective;
  DescentState<typename Objective::Scalar> state;

  template <class... Arguments>
  LMC_INLINE Trainer(Interrupt& interrupt, int worker, Arguments&... arguments)
      : watch(interrupt, worker), objective(arguments..., watch), state(objective.size()) {}
};

// `arguments` are what Objective is constructed from, but for the watch.
template <class Objective, class T, class... Arguments>
void train_all(const train_ensemble::Problem<T>& p, int threads, Interrupt& interrupt,
               Arguments&... arguments) {
  using Worker = Trainer<Objective>;
  const int workers = static_cast<int>(larger(1, smaller(threads, p.sizes.S)));
  struct Workers {
    AlignedBuffer<char> memory;
    int count = 0;
    LMC_INLINE explicit Workers(int size) : memory(size * static_cast<int64_t>(sizeof(Worker))) {}
    LMC_INLINE Worker* at(int i) { return reinterpret_cast<Worker*>(memory.data()) + i; }
    LMC_INLINE ~Workers() {
      while (count > 0) at(--count)->~Worker();
    }
  } all(workers);
  for (; all.count < workers; ++all.count)
    new (all.at(all.count)) Worker(interrupt, all.count, arguments...);

  const auto train_one = [&](int64_t s, int worker) {
    Worker& trainer = *all.at(worker);
    if (interrupt.requested(worker)) return;
    trainer.objective.begin(s);
    descend(p, s, trainer.objective, trainer.state, trainer.watch);
  };
  const WhileWaiting poll{[](void* context) { static_cast<Interrupt*>(context)->poll_now(); },
                          &interrupt, Interrupt::kPollMilliseconds};
  for_each_task(p.sizes.S, threads, train_one, &poll);
}

template <class T, int V>
void train_on_samples(const train_ensemble::Problem<T>& p, int threads, Interrupt& interrupt) {
  const train_ensemble::Sizes& z = p.sizes;
  if (z.n == 0) {
    const PopulationTeacher teacher(teacher_network(p), p.v1, p.v2, p.input_scale);
    return train_all<FreshSamplesObjective<T, V>>(p, threads, interrupt, p, teacher);
  }
  PackedSamples<T> packed(z.x_shared ? z.n : 0, z.d, p.method == train_ensemble::Method::gd);
  if (z.x_shared) pack_samples(p.x, z.n, z.d, packed);
  PackedSamples<T>* shared = z.x_shared ? &packed : nullptr;
  train_all<FixedSamplesObjective<T, V>>(p, threads, interrupt, p, shared);
}

template <class T>
void train(const train_ensemble::Problem<T>& p, int threads, Interrupt& interrupt) {
  if (p.method == train_ensemble::Method::population_gd) {
    const PopulationTeacher teacher(teacher_network(p), p.v1, p.v2, p.input_scale);
    return train_all<PopulationObjective<T>>(p, threads, interrupt, p, teacher);
  }
  // Half panels where whole ones would be a tenth more padding: their tiles reuse a lane load half
  // as often.
  constexpr int kWide = kPanelVectors<T>, kNarrow = kWide / 2, L = kLanes<T>;
  const int64_t wide = round_up(p.sizes.m, kWide * L), narrow = round_up(p.sizes.m, kNarrow * L);
  if (10 * wide > 11 * narrow)
    train_on_samples<T, kNarrow>(p, threads, interrupt);
  else
    train_on_samples<T, kWide>(p, threads, interrupt);
}

}  // namespace lmc::LMC_TARGET

namespace lmc::train_ensemble::LMC_TARGET {

using namespace lmc::LMC_TARGET;

inline void philox_block(uint64_t seed, uint64_t index, uint64_t step, uint64_t stream,
                         uint64_t* words) {
  const PhiloxBlocks blocks = philox(seed, index, step, stream);
  for (int w = 0; w < 4; ++w) words[w] = blocks.word[w][0];
}

inline void normals(uint64_t seed, int64_t count, uint64_t step, double* out) {
  AlignedBuffer<double> padded(padded_normals(count));
  fill_normals(seed, count, step, padded.data());
  memcpy(out, padded.data(), static_cast<size_t>(count) * sizeof(double));
}

inline void shuffle(uint64_t seed, int64_t n, uint64_t epoch, int64_t* out) {
  AlignedBuffer<uint32_t> words(shuffle_words(n));
  fill_shuffle(seed, n, epoch, words.data(), out);
}

extern const Kernels<float> kernels_float32{train<float>, philox_block, normals, shuffle};
extern const Kernels<double> kernels_float64{train<double>, philox_block, normals, shuffle};

}  // namespace lmc::train_ensemble::LMC_TARGET
