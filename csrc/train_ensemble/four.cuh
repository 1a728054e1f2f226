// SPDX-License-Identifier: MIT
// Neighbours of a row in one access, where they are aligned: four, or any other number.
#pragma once

#include "cuda_device.h"

namespace lmc::train_ensemble {

template <class T, int Count>
struct alignas(Count * sizeof(T) < 16 ? Count * sizeof(T) : 16) Pack {
  T v[Count];
};
template <int Count, class T>
__device__ Pack<T, Count> pack(const T* from) {
  return *reinterpret_cast<const Pack<T, Count>*>(from);
}
template <class T, int Count>
__device__ void put(T* to, const Pack<T, Count>& value) {
  *reinterpret_cast<Pack<T, Count>*>(to) = value;
}

template <class T>
using Four = Pack<T, 4>;
template <class T>
__device__ Four<T> four(const T* from) {
  return pack<4>(from);
}

}  // namespace lmc::train_ensemble
