// SPDX-License-Identifier: MIT
// The order in which an epoch visits n samples, by a block.
//
// It is that of philox-inl.h: for i = n-1 ... 1, the i-th and the c_i-th exchange places, where
// c_i <= i is drawn. Place k gets its last value before its own exchange from the exchange before
// it that chose it: of the smallest k' > k with c_k' = k, which brings what place k' held just
// before, and so on; if there is none, place k holds k. So every place can be followed by itself:
// exchange i brings to place i, and for good, what place c_i held by then. On average six links are
// read for that. They lie in a list of exchanges for each place that is chosen, whose own order
// does not matter.
#pragma once

#include "train_ensemble/philox.cuh"

namespace lmc::train_ensemble {

// Where the lists are kept, n numbers each; nothing is kept there from epoch to epoch.
struct ChoiceLists {
  uint32_t *heads, *links;
};

// The smallest exchange beyond `above` that chose this place, or kNoExchange.
inline constexpr uint32_t kNoExchange = 0xffffffffu;
inline __device__ uint32_t exchange_beyond(const ChoiceLists& lists, uint32_t place,
                                           uint32_t above) {
  uint32_t found = kNoExchange;
  for (uint32_t k = lists.heads[place]; k != kNoExchange; k = lists.links[k])
    if (k > above && k < found) found = k;
  return found;
}

// Calls f(i, c_i) of this thread's exchanges.
template <int Threads, class Function>
__device__ void for_choices(uint64_t seed, int n, uint64_t epoch, Function f) {
  for (int b = static_cast<int>(threadIdx.x); b < (n + 3) / 4; b += Threads) {
    const PhiloxBlock block = philox(seed, static_cast<uint64_t>(b), epoch, kShuffles);
    const uint32_t words[4] = {block.a, block.b, block.c, block.d};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const auto i = static_cast<uint32_t>(4 * b + e);
      if (i < static_cast<uint32_t>(n))
        f(i, static_cast<uint32_t>(words[e] * (static_cast<uint64_t>(i) + 1) >> 32));
    }
  }
}

template <int Threads>
__device__ void fill_shuffle(uint64_t seed, int n, uint64_t epoch, const ChoiceLists& lists,
                             uint32_t* order) {
  __syncthreads();  // the last epoch is not read any more, nor what the lists take the place of
  for (int i = static_cast<int>(threadIdx.x); i < n; i += Threads) lists.heads[i] = kNoExchange;
  __syncthreads();
  for_choices<Threads>(seed, n, epoch, [&](uint32_t i, uint32_t choice) {
    lists.links[i] = atomicExch(&lists.heads[choice], i);
  });
  __syncthreads();
  for_choices<Threads>(seed, n, epoch, [&](uint32_t i, uint32_t choice) {
    uint32_t value = choice;
    for (uint32_t k = exchange_beyond(lists, choice, i); k != kNoExchange;
         k = exchange_beyond(lists, k, k))
      value = k;
    order[i] = value;
  });
  __syncthreads();
}

}  // namespace lmc::train_ensemble
