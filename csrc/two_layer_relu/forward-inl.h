// SPDX-License-Identifier: MIT
// Forward: a task owns one block of samples and one chunk of neurons of one student. It computes
// the pre-activations tile by tile in registers and at once reduces each tile to sign bits and to
// its share of the outputs; nothing of size (n,m) but the bits is ever stored.
//
// Order of accumulation, the same for every sample of every call: z over k = 0 ... d-1 in
// runs of 64 (gemm-inl.h), then b1; an output over the neurons of a chunk lane by lane, then
// lane 0, 1, ... in float64, then chunk by chunk.
#pragma once

#include "common/gemm-inl.h"
#include "two_layer_relu/two_layer_relu.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kSampleBlock = 96;    // a multiple of every kTileRows
inline constexpr int64_t kNeuronChunk = 4096;  // a multiple of 64: a sign word belongs to one chunk

// The neurons' parameters laid out in panels of N = kPanel neurons, padded with zero neurons.
template <class T>
struct PackedNeurons {
  static constexpr int N = kPanel<T>;
  int64_t panels, d, c;
  AlignedBuffer<T> w1, b1, w2;  // (S,panels,d,N), (S,panels,N), (S,panels,c,N)

  // Not `packed`: the number of panels is all that is wanted.
  LMC_INLINE PackedNeurons(const two_layer_relu::Sizes& z, const T* w1_in, const T* b1_in,
                           const T* w2_in, int threads, bool packed = true)
      : panels(ceil_div(z.m, N)),
        d(z.d),
        c(z.c),
        w1(packed ? z.S * panels * z.d * N : 0),
        b1(packed ? z.S * panels * N : 0),
        w2(packed ? z.S * panels * z.c * N : 0) {
    if (!packed) return;
    constexpr int64_t kShare = 16;  // panels packed by one task
    const int64_t shares = ceil_div(panels, kShare);
    for_each_task(z.S * shares, threads, [&](int64_t task, int) {
      const int64_t s = task / shares, first = task % shares * kShare;
      const int64_t last = smaller(first + kShare, panels);
      pack_panels<T, N>(w1_in + s * z.m * d, z.m, d, d, first, last, &w1[s * panels * d * N]);
      for (int64_t j = first * N; j < last * N; ++j) {
        const int64_t p = j / N, lane = j % N;
        const bool real = j < z.m;
        b1[(s * panels + p) * N + lane] = real && b1_in ? b1_in[s * z.m + j] : T{0};
        for (int64_t o = 0; o < c; ++o)
          w2[((s * panels + p) * c + o) * N + lane] = real ? w2_in[(s * c + o) * z.m + j] : T{0};
      }
    });
  }
  LMC_INLINE const T* w1_panel(int64_t s, int64_t p) { return &w1[(s * panels + p) * d * N]; }
  LMC_INLINE const T* b1_panel(int64_t s, int64_t p) { return &b1[(s * panels + p) * N]; }
  LMC_INLINE const T* w2_panel(int64_t s, int64_t p) { return &w2[(s * panels + p) * c * N]; }
};

// Which of vector v's lanes of panel p are neurons and not padding.
template <class T>
LMC_INLINE LaneBits real_lanes(int64_t m, int64_t p, int v) {
  const int64_t left = m - p * kPanel<T> - v * kLanes<T>;
  if (left >= kLanes<T>) return ~LaneBits{0};
  return left <= 0 ? LaneBits{0} : (LaneBits{1} << left) - 1;
}

// h = relu(z) of one sample and panel p; returns the sign bits. kTail: the lanes beyond neuron m -
// 1 are inactive and zero, whatever z holds there.
template <class T, bool kTail>
LMC_INLINE uint64_t relu_panel(const Vec<T>* z, int64_t m, int64_t p, Vec<T>* h) {
  uint64_t bits = 0;
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors<T>; ++v) {
    LaneBits active = active_lanes(z[v]);
    h[v] = relu<T>(z[v]);
    if (kTail) {
      const LaneBits real = real_lanes<T>(m, p, v);
      active &= real;
      h[v] = keep<T>(real, h[v]);
    }
    bits |= static_cast<uint64_t>(active) << (v * kLanes<T>);
  }
  return bits;
}

// Adds one sample's and panel's share of the outputs to its lanes (c, lanes). Every kernel whose
// outputs must have the bits of two_layer_relu's adds through this function, panel by panel.
template <class T>
LMC_INLINE void add_to_outputs(const Vec<T>* h, int64_t c, const T* w2, T* lanes) {
  constexpr int L = kLanes<T>;
  for (int64_t o = 0; o < c; ++o) {
    Vec<T> sum = load(lanes + o * L);
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors<T>; ++v) sum += h[v] * load(w2 + o * kPanel<T> + v * L);
    store(lanes + o * L, sum);
  }
}

// Adds a tile's share of the outputs to output_lanes (rows, c, lanes), and writes its sign bits if
// wanted.
template <class T, bool kTail>
LMC_INLINE void finish_tile(const Tile<T, kTileRows<T>, kPanelVectors<T>>& tile, int64_t rows,
                            const two_layer_relu::Sizes& z, int64_t p, const T* w2, T* output_lanes,
                            uint64_t* signs) {
  constexpr int L = kLanes<T>, N = kPanel<T>;
  const int first_bit = static_cast<int>(p * N % 64);
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows<T>; ++r) {
    if (r >= rows) break;
    Vec<T> h[kPanelVectors<T>];
    const uint64_t bits = relu_panel<T, kTail>(tile.sum[r], z.m, p, h);
    add_to_outputs(h, z.c, w2, output_lanes + r * z.c * L);
    if (signs) {
      if (first_bit == 0)
        signs[r] = bits;  // clears the rest of the word, which may lie beyond the last panel
      else
        memcpy(reinterpret_cast<char*>(signs + r) + first_bit / 8, &bits, N / 8);
    }
  }
}

template <class T>
void forward(const two_layer_relu::Forward<T>& p, int threads) {
  constexpr int R = kTileRows<T>, L = kLanes<T>, N = kPanel<T>;
  const two_layer_relu::Sizes& z = p.sizes;
  // Smaller blocks for few samples, so that there is work for every thread.
  const int64_t block_size =
      smaller(kSampleBlock, larger(kSampleBlock / 4, round_up(ceil_div(z.n, 8), R)));
  const int64_t blocks = ceil_div(z.n, block_size);
  const int64_t chunks = larger(1, ceil_div(z.m, kNeuronChunk));
  const int64_t words = two_layer_relu::words_per_sample(z.m);
  PackedNeurons<T> neurons(z, p.w1, p.b1, p.w2, threads);
  AlignedBuffer<double> partial(z.S * chunks * z.n * z.c);
  const int64_t x_size = block_size * z.d, lanes_size = block_size * z.c * L;
  AlignedBuffer<T> x_packed(threads * x_size), output_lanes(threads * lanes_size);

  for_each_task(z.S * blocks * chunks, threads, [&](int64_t task, int worker) {
    const int64_t chunk = task % chunks, block = task / chunks % blocks, s = task / chunks / blocks;
    const int64_t first = block * block_size, count = smaller(block_size, z.n - first);
    const T* x = p.x + ((z.x_shared ? 0 : s * z.n) + first) * z.d;
    T* xp = &x_packed[worker * x_size];
    T* sums = &output_lanes[worker * lanes_size];
    pack_panels<T, R>(x, count, z.d, z.d, 0, ceil_div(count, R), xp);
    memset(sums, 0, static_cast<size_t>(count * z.c * L) * sizeof(T));

    const int64_t last_panel = smaller(neurons.panels, (chunk + 1) * kNeuronChunk / N);
    for (int64_t q = chunk * kNeuronChunk / N; q < last_panel; ++q) {
      const T* w1 = neurons.w1_panel(s, q);
      uint64_t* signs = p.signs ? p.signs + (s * words + q * N / 64) * z.n + first : nullptr;
      const bool tail = (q + 1) * N > z.m;
      for (int64_t row = 0; row < count; row += R) {
        Tile<T, R, kPanelVectors<T>> tile;
        tile.set_product(z.d, xp + row * z.d, w1);
        tile.add_to_rows(neurons.b1_panel(s, q));
        T* lanes = sums + row * z.c * L;
        uint64_t* out = signs ? signs + row : nullptr;
        if (tail)
          finish_tile<T, true>(tile, count - row, z, q, neurons.w2_panel(s, q), lanes, out);
        else
          finish_tile<T, false>(tile, count - row, z, q, neurons.w2_panel(s, q), lanes, out);
      }
    }
    double* to = &partial[((s * chunks + chunk) * z.n + first) * z.c];
    for (int64_t e = 0; e < count * z.c; ++e) to[e] = lane_sum<T>(load(sums + e * L));
  });

  for (int64_t s = 0; s < z.S; ++s)
    for (int64_t i = 0; i < z.n; ++i)
      for (int64_t o = 0; o < z.c; ++o) {
        double sum = p.b2 ? static_cast<double>(p.b2[s * z.c + o]) : 0.0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk)
          sum += partial[((s * chunks + chunk) * z.n + i) * z.c + o];
        p.f[(s * z.n + i) * z.c + o] = static_cast<T>(sum);
      }
}

}  // namespace lmc::LMC_TARGET
