// SPDX-License-Identifier: MIT
// A network's neurons as directions and lengths, as the pairs of pairs.cuh read them.
#pragma once

#include "common/cuda/shape.h"
#include "cuda_device.h"

namespace lmc::population_loss {

using namespace cuda;

// Neurons of a tile. It follows from a student's width alone, and with it the order of sums.
inline constexpr int kSmallTile = 32, kLargeTile = 64;
LMC_HOST_DEVICE inline int tile_of(int64_t m) { return m > kSmallTile ? kLargeTile : kSmallTile; }

// From one row of a matrix to the next: two doubles are loaded at once, and rows begin at an odd
// multiple of that, to spread the banks of shared memory.
LMC_HOST_DEVICE inline int pitch_of(int64_t columns) {
  return static_cast<int>(columns + 1) / 4 * 4 + 2;
}

// A neuron of zeros has length 0 and direction 0: its angles are then meaningless but finite, and
// all its products exactly zero. So are those of the neurons that fill the last tile.
struct Prepared {
  int m, rows, d, c;
  double* unit;    // (rows, pitch_of(d))
  double* norm;    // (rows)
  double* w2;      // (c, rows)
  double* weight;  // (c, rows): w2 norm

  // The first of `networks`, which follow one another in each of the arrays.
  LMC_HOST_DEVICE Prepared(int64_t m_, int64_t d_, int64_t c_, Workspace& space,
                           int64_t networks = 1)
      : m(static_cast<int>(m_)),
        rows(static_cast<int>(padded(m_, kLargeTile))),
        d(static_cast<int>(d_)),
        c(static_cast<int>(c_)),
        unit(space.take<double>(networks * rows * pitch_of(d))),
        norm(space.take<double>(networks * rows)),
        w2(space.take<double>(networks * c * rows)),
        weight(space.take<double>(networks * c * rows)) {}

  static LMC_HOST_DEVICE int64_t doubles(int64_t m, int64_t d, int64_t c) {
    return padded(m, kLargeTile) * (pitch_of(d) + 1 + 2 * c);
  }

  LMC_HOST_DEVICE Prepared at(int64_t s) const {
    Prepared net = *this;
    net.unit += s * rows * pitch_of(d);
    net.norm += s * rows;
    net.w2 += s * c * rows;
    net.weight += s * c * rows;
    return net;
  }
};

// A warp prepares neuron j of the network w1 (m, d), w2 (c, m): its lanes walk the dimensions, and
// their squares are added in a tree.
inline __device__ void prepare_neuron(const Prepared& to, int j, const double* w1,
                                      const double* w2) {
  const int lane = static_cast<int>(threadIdx.x) % 32, pitch = pitch_of(to.d);
  const bool real = j < to.m;
  const double* const w = w1 + static_cast<int64_t>(real ? j : 0) * to.d;
  double largest = 0;
  for (int k = lane; k < to.d; k += 32) {
    const double size = fabs(w[k]);
    largest = size > largest ? size : largest;
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const double other = __shfl_xor_sync(~0u, largest, distance);
    largest = other > largest ? other : largest;
  }
  // Squares of huge or tiny components leave float64's range; a power of two brings them back
  // exactly.
  const bool huge = largest > 0x1p500, tiny = largest < 0x1p-500;
  const double factor = huge ? 0x1p-600 : tiny ? 0x1p600 : 1.0;
  double square = 0;
  for (int k = lane; k < to.d; k += 32) {
    const double scaled = factor * w[k];
    square += scaled * scaled;
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    square += __shfl_xor_sync(~0u, square, distance);
  const double root = sqrt(square), inverse = 1.0 / root;
  const double length = root * (huge ? 0x1p600 : tiny ? 0x1p-600 : 1.0);
  const bool dead = square == 0 || !real;  // false for NaN, which thus reaches the loss
  double* const unit = to.unit + static_cast<int64_t>(j) * pitch;
  for (int k = lane; k < pitch; k += 32)
    unit[k] = dead || k >= to.d ? 0.0 : factor * w[k] * inverse;
  if (lane == 0) to.norm[j] = real ? length : 0.0;
  for (int o = lane; o < to.c; o += 32) {
    const double a = real ? w2[static_cast<int64_t>(o) * to.m + j] : 0.0;
    to.w2[static_cast<int64_t>(o) * to.rows + j] = a;
    to.weight[static_cast<int64_t>(o) * to.rows + j] = real ? a * length : 0.0;
  }
}

// For the trainer: prepares a teacher v1 (M, d), v2 (c, M) and writes its tiles' shares of the
// loss. Defined in population_loss.cu.
const char* prepare_teacher(const Prepared& teacher, const double* v1, const double* v2,
                            double* shares, const Device& device, void* stream);

}  // namespace lmc::population_loss
