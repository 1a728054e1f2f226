// SPDX-License-Identifier: MIT
// A network's neurons as directions and lengths, as the pairs of pairs.cuh read them.
#pragma once

#include "common/cuda/shape.h"
#include "cuda_device.h"
#include "population_loss/arc.cuh"

namespace lmc::population_loss {

using namespace cuda;

inline constexpr int kRowUnit = 32;  // of all that Prepared holds; zeros fill the last one
inline constexpr int kLanesOfNeuron = 4;

// From one neuron to the next in sums of directions: two numbers are loaded at once.
LMC_HOST_DEVICE inline int pitch_of(int64_t d) { return static_cast<int>((d + 1) / 2 * 2); }

// A network w1 (m, d) and what its pairs need. The direction of neuron j is w1_j inverse_j. A
// neuron of zeros, or shorter than 2^-1020, has length, inverse and direction 0: its angles are
// then meaningless but finite, and all its products exactly zero. So are those of the neurons that
// fill the last rows.
struct Prepared {
  int m, rows, d, c;
  const double* w1;  // (m, d)
  double* norm;      // (rows)
  double* inverse;   // (rows): 1 / norm
  double* weight;    // (c, rows): w2 norm, of a teacher with a minus

  // The first of `networks`, which follow one another in each of the arrays.
  LMC_HOST_DEVICE Prepared(int64_t m_, int64_t d_, int64_t c_, const double* w1_, Workspace& space,
                           int64_t networks = 1)
      : m(static_cast<int>(m_)),
        rows(static_cast<int>(padded(m_, kRowUnit))),
        d(static_cast<int>(d_)),
        c(static_cast<int>(c_)),
        w1(w1_),
        norm(space.take<double>(networks * rows)),
        inverse(space.take<double>(networks * rows)),
        weight(space.take<double>(networks * c * rows)) {}

  static LMC_HOST_DEVICE int64_t doubles(int64_t m, int64_t c) {
    return padded(m, kRowUnit) * (2 + c);
  }

  LMC_HOST_DEVICE Prepared at(int64_t s) const {
    Prepared net = *this;
    net.w1 += s * m * d;
    net.norm += s * rows;
    net.inverse += s * rows;
    net.weight += s * c * rows;
    return net;
  }
};

// Four neighbouring lanes prepare neuron j of the network with w2 (c, m): each walks every fourth
// dimension and output, and their squares are added in a tree. `sign` goes into the weights.
inline __device__ void prepare_neuron(const Prepared& to, int j, const double* w2, double sign) {
  const int lane = static_cast<int>(threadIdx.x) % kLanesOfNeuron;
  const bool real = j < to.m;
  const double* const w = to.w1 + static_cast<int64_t>(real ? j : 0) * to.d;
  double largest = 0;
  for (int k = lane; k < to.d; k += kLanesOfNeuron) {
    const double size = fabs(w[k]);
    largest = size > largest ? size : largest;
  }
#pragma unroll
  for (int distance = kLanesOfNeuron / 2; distance > 0; distance /= 2) {
    const double other = __shfl_xor_sync(~0u, largest, distance);
    largest = other > largest ? other : largest;
  }
  // Squares of huge or tiny components leave float64's range; a power of two brings them back
  // exactly.
  const bool huge = largest > 0x1p500, tiny = largest < 0x1p-500;
  const double factor = huge ? 0x1p-600 : tiny ? 0x1p600 : 1.0;
  double square = 0;
  for (int k = lane; k < to.d; k += kLanesOfNeuron) {
    const double scaled = factor * w[k];
    square += scaled * scaled;
  }
#pragma unroll
  for (int distance = kLanesOfNeuron / 2; distance > 0; distance /= 2)
    square += __shfl_xor_sync(~0u, square, distance);
  const double inverse = reciprocal_root(square);
  const double length = square * inverse * (huge ? 0x1p600 : tiny ? 0x1p-600 : 1.0);
  // NaN is none of these, and thus reaches the loss.
  const bool dead = !real || square == 0 || length < 0x1p-1020;
  if (lane == 0) {
    to.norm[j] = dead ? 0.0 : length;
    to.inverse[j] = dead ? 0.0 : inverse * factor;
  }
  for (int o = lane; o < to.c; o += kLanesOfNeuron)
    to.weight[static_cast<int64_t>(o) * to.rows + j] =
        dead ? 0.0 : sign * w2[static_cast<int64_t>(o) * to.m + j] * length;
}

}  // namespace lmc::population_loss
