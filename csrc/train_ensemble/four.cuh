// SPDX-License-Identifier: MIT
// Four neighbours of a matrix whose rows are whole fours, in one access (two in float64).
#pragma once

#include "cuda_device.h"

namespace lmc::train_ensemble {

template <class T>
struct alignas(16) Four {
  T v[4];
};
template <class T>
__device__ Four<T> four(const T* from) {
  return *reinterpret_cast<const Four<T>*>(from);
}
template <class T>
__device__ void put_four(T* to, const Four<T>& value) {
  *reinterpret_cast<Four<T>*>(to) = value;
}

}  // namespace lmc::train_ensemble
