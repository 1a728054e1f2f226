// SPDX-License-Identifier: MIT
// Which samples a step takes, for both kinds of students on samples.
#pragma once

#include "train_ensemble/shuffle.cuh"
#include "train_ensemble/train_ensemble_cuda.h"

namespace lmc::train_ensemble {

// A run that, if it only evaluates, takes the samples in ranges.
template <class T>
struct SampleRun : Run<T> {
  T scale;  // 1 / (samples of a step)
  int64_t range, first_range, ranges;
  double* shares;   // (S, ranges)
  uint32_t* heads;  // (S, n): where the lists of a shuffle do not fit a block's own memory
};

// Mini-batches of one student, laid end to end over the shuffled epochs.
template <class T, int Threads>
class Batches {
 public:
  // Those from the student's next step on, unless the run has none.
  __device__ Batches(const SampleRun<T>& run, int64_t s) : run_(run), s_(s) {
    if (run.orders == nullptr || run.evaluate) return;
    const Sizes& z = run.problem.sizes;
    at_ = static_cast<int>(run.problem.steps_out[s] * z.batch % z.n);
  }

  // The samples of step t, the next one; every thread writes some of them, and a barrier must
  // follow. `lists`: what is free between steps, or null.
  __device__ void choose(int64_t t, uint32_t* lists, int* chosen) {
    const int64_t s = cuda::here(static_cast<int>(s_));
    const int n = static_cast<int>(run_.problem.sizes.n);
    const int batch = static_cast<int>(run_.problem.sizes.batch);
    uint32_t* const order = run_.orders + s * 2 * n;
    for (int done = 0; done < batch;) {
      if (at_ == 0) {
        const int64_t epoch = (t * batch + done) / n;
        const ChoiceLists where = lists == nullptr ? ChoiceLists{run_.heads + s * n, order + n}
                                                   : ChoiceLists{lists, lists + n};
        fill_shuffle<Threads>(run_.problem.seeds[s], n, static_cast<uint64_t>(epoch), where, order);
        if (threadIdx.x == 0) run_.epochs[s] = epoch;
      }
      const int left = n - at_, take = batch - done < left ? batch - done : left;
      for (int i = static_cast<int>(threadIdx.x); i < take; i += Threads)
        chosen[done + i] = static_cast<int>(order[at_ + i]);
      done += take;
      at_ = at_ + take == n ? 0 : at_ + take;
    }
  }

 private:
  const SampleRun<T>& run_;
  const int64_t s_;
  int at_ = 0;  // the next place in the epoch; at 0 its order is still to be made
};

}  // namespace lmc::train_ensemble
