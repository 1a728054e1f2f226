// SPDX-License-Identifier: MIT
// Backward, from the sign bits alone. With r = dL/df and mask = 1[z > 0]:
//   one output:  G = mask^T (r * [x, 1]);  dw1 = w2 G;  dw2 = <[w1, b1], G>  (relu is homogeneous)
//   c outputs:   dz = mask * (r w2);  dw1 = dz^T x;  dw2 = r^T relu(z), z computed again
//   dx = dz w1
// A task of the weight gradient owns a group of neurons and a span of samples and sums over the
// samples in chunks: within a chunk in registers, chunk by chunk in memory, and last span by span.
// Groups, chunks and spans depend on a student's own sizes only.
#pragma once

#include "two_layer_relu/forward-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kSampleChunk =
    504;  // a multiple of every kTileRows; its tile of x fits the L1 cache
inline constexpr int64_t kGroupPanels = 8;

// dz = mask * (r w2) for one sample and one panel.
template <class T>
LMC_INLINE void dz_panel(const T* r, const T* w2, int64_t c, uint64_t word, int first_bit, T* dz) {
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors<T>; ++v) {
    Vec<T> sum = broadcast(r[0]) * load(w2 + v * kLanes<T>);
    for (int64_t o = 1; o < c; ++o)
      sum += broadcast(r[o]) * load(w2 + o * kPanel<T> + v * kLanes<T>);
    store(dz + v * kLanes<T>,
          keep<T>(static_cast<LaneBits>(word >> (first_bit + v * kLanes<T>)), sum));
  }
}

// Sum of a[k] b[k stride] in float64, in eight partial sums whatever the target.
template <int stride, class T>
LMC_INLINE double product_in_float64(int64_t size, const T* a, const T* b) {
  double sums[8] = {};
  int64_t k = 0;
  for (; k + 8 <= size; k += 8)
    for (int e = 0; e < 8; ++e)
      sums[e] += static_cast<double>(a[k + e]) * static_cast<double>(b[(k + e) * stride]);
  for (; k < size; ++k)
    sums[k % 8] += static_cast<double>(a[k]) * static_cast<double>(b[k * stride]);
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

// The weight gradient's view of the problem, and its two ways of filling a group's sums.
template <class T>
struct WeightGradient {
  static constexpr int V = kPanelVectors<T>, L = kLanes<T>, N = kPanel<T>;
  const two_layer_relu::Backward<T>& p;
  const two_layer_relu::Sizes& z;
  PackedNeurons<T>& neurons;
  const int64_t columns;  // of [x, 1]: d, and one more when there is a b1
  const int column_height = tile_height<T>(columns);
  const int64_t column_tiles = ceil_div(columns, column_height);
  const int64_t row_tiles = ceil_div(z.n, kTileRows<T>);
  const bool one_output = z.c == 1;
  const bool recompute = !one_output && p.dw2;
  // (S,column_tiles,n,column_height): [x, 1], times r when there is one output
  AlignedBuffer<T> x_columns;
  AlignedBuffer<T> x_rows;  // (S,row_tiles,d,kTileRows), only to compute z again

  LMC_INLINE WeightGradient(const two_layer_relu::Backward<T>& p_, PackedNeurons<T>& neurons_,
                            int threads)
      : p(p_),
        z(p_.sizes),
        neurons(neurons_),
        columns(z.d + (p_.b1 ? 1 : 0)),
        x_columns(z.S * column_tiles * z.n * column_height),
        x_rows(recompute ? z.S * row_tiles * z.d * kTileRows<T> : 0) {
    for_each_task(z.S * column_tiles, threads, [&](int64_t task, int) {
      const int64_t s = task / column_tiles, first = task % column_tiles * column_height;
      const T* x = p.x + (z.x_shared ? 0 : s * z.n * z.d) + first;
      T* to = &x_columns[task * z.n * column_height];
      const int64_t filled = smaller(column_height, z.d - first);
      for (int64_t i = 0; i < z.n; ++i, x += z.d, to += column_height) {
        const T r = one_output ? p.df[s * z.n + i] : T{1};
        for (int64_t k = 0; k < filled; ++k) to[k] = x[k] * r;
        for (int64_t k = larger(0, filled); k < column_height; ++k)
          to[k] = first + k < columns ? r : T{0};
      }
    });
    if (recompute)
      for_each_task(z.S, threads, [&](int64_t s, int) {
        constexpr int R = kTileRows<T>;
        pack_panels<T, R>(p.x + (z.x_shared ? 0 : s * z.n * z.d), z.n, z.d, z.d, 0, row_tiles,
                          &x_rows[s * row_tiles * z.d * R]);
      });
  }

  // sums (padded columns, N) of panel q = its terms of samples [first, first + count), added to
  // those there when `add`.
  LMC_INLINE void put_chunk(bool add, int64_t s, int64_t q, int64_t tile_index, int64_t first,
                            int64_t count, const uint64_t* words, const T* dz, T* sums) {
    with_tile_height<T>(column_height, [&](auto height) {
      put_tile<decltype(height)::rows>(add, s, q, tile_index, first, count, words, dz, sums);
    });
  }
  template <int R>
  LMC_INLINE void put_tile(bool add, int64_t s, int64_t q, int64_t tile_index, int64_t first,
                           int64_t count, const uint64_t* words, const T* dz, T* sums) {
    Tile<T, R, V> tile;
    const T* x = &x_columns[((s * column_tiles + tile_index) * z.n + first) * R];
    if (one_output)
      tile.set_masked(count, x, words, static_cast<int>(q * N % 64));
    else
      tile.set_product(count, x, dz);
    T* to = sums + tile_index * R * N;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        T* at = to + r * N + v * L;
        store(at, add ? load(at) + tile.sum[r][v] : tile.sum[r][v]);
      }
  }

  // dw2 (c,N) of panel q += r^T relu(z) over samples [first, first + count), first a multiple of R.
  LMC_INLINE void add_output_weights(int64_t s, int64_t q, int64_t first, int64_t count, T* chunk,
                                     T* dw2) {
    constexpr int R = kTileRows<T>;
    memset(chunk, 0, static_cast<size_t>(z.c * N) * sizeof(T));
    for (int64_t row = 0; row < count; row += R) {
      Tile<T, R, V> tile;
      tile.set_product(z.d, &x_rows[(s * row_tiles * R + first + row) * z.d],
                       neurons.w1_panel(s, q));
      tile.add_to_rows(neurons.b1_panel(s, q));
      const int64_t rows = smaller(R, count - row);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        if (r >= rows) break;
        const T* df = p.df + (s * z.n + first + row + r) * z.c;
        for (int64_t o = 0; o < z.c; ++o)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            T* at = chunk + o * N + v * L;
            store(at, load(at) + broadcast(df[o]) * relu<T>(tile.sum[r][v]));
          }
      }
    }
    for (int64_t e = 0; e < z.c * N; e += L) store(dw2 + e, load(dw2 + e) + load(chunk + e));
  }
};

template <class T>
LMC_INLINE void weight_gradient(const two_layer_relu::Backward<T>& p, PackedNeurons<T>& neurons,
                                int threads) {
  constexpr int N = kPanel<T>;
  const two_layer_relu::Sizes& z = p.sizes;
  WeightGradient<T> gradient(p, neurons, threads);
  const int64_t words = two_layer_relu::words_per_sample(z.m);
  const int64_t group_panels = larger(1, smaller(kGroupPanels, neurons.panels / 4));
  const int64_t groups = ceil_div(neurons.panels, group_panels);
  // Few neurons and many samples: the samples are split too, so that there is work for every
  // thread.
  const int64_t chunks = larger(1, ceil_div(z.n, kSampleChunk));
  const int64_t span_chunks =
      ceil_div(chunks, smaller(ceil_div(chunks, 8), ceil_div(16, larger(groups, 1))));
  const int64_t spans = ceil_div(chunks, span_chunks);  // none of them empty
  const int64_t span = span_chunks * kSampleChunk;
  const int64_t G_size = gradient.column_tiles * gradient.column_height * N;  // a panel's G
  const int64_t dw2_size = gradient.recompute ? z.c * N : 0;
  const int64_t panel_size = G_size + dw2_size;
  AlignedBuffer<T> sums(z.S * spans * neurons.panels * panel_size);
  const int64_t dz_size = gradient.one_output ? 0 : kSampleChunk * N;
  AlignedBuffer<T> scratch(threads * (dz_size + dw2_size));

  for_each_task(z.S * spans * groups, threads, [&](int64_t task, int worker) {
    const int64_t group = task % groups, t = task / groups % spans, s = task / groups / spans;
    const int64_t first_panel = group * group_panels;
    const int64_t last_panel = smaller(first_panel + group_panels, neurons.panels);
    T* base = &sums[(s * spans + t) * neurons.panels * panel_size];
    T* dz = &scratch[worker * (dz_size + dw2_size)];
    for (int64_t q = first_panel; q < last_panel; ++q)
      memset(base + q * panel_size + G_size, 0, static_cast<size_t>(dw2_size) * sizeof(T));
    // One pass at least: without samples the sums are zero.
    for (int64_t i = t * span; i == t * span || i < smaller(z.n, (t + 1) * span);
         i += kSampleChunk) {
      const bool add = i > t * span;
      const int64_t count = smaller(kSampleChunk, smaller(z.n, (t + 1) * span) - i);
      if (gradient.one_output) {
        // A tile of x stays in the L1 cache while all panels of the group use it.
        for (int64_t k = 0; k < gradient.column_tiles; ++k)
          for (int64_t q = first_panel; q < last_panel; ++q)
            gradient.put_chunk(add, s, q, k, i, count, p.signs + (s * words + q * N / 64) * z.n + i,
                               nullptr, base + q * panel_size);
        continue;
      }
      for (int64_t q = first_panel; q < last_panel; ++q) {
        const uint64_t* signs = p.signs + (s * words + q * N / 64) * z.n + i;
        for (int64_t e = 0; e < count; ++e)
          dz_panel<T>(p.df + (s * z.n + i + e) * z.c, neurons.w2_panel(s, q), z.c, signs[e],
                      static_cast<int>(q * N % 64), dz + e * N);
        for (int64_t k = 0; k < gradient.column_tiles; ++k)
          gradient.put_chunk(add, s, q, k, i, count, nullptr, dz, base + q * panel_size);
        if (gradient.recompute)
          gradient.add_output_weights(s, q, i, count, dz + dz_size, base + q * panel_size + G_size);
      }
    }
  });

  // From the panels' columns to the rows of the results, in blocks that the L1 cache holds.
  constexpr int64_t kColumns = 64;
  for_each_task(z.S * groups, threads, [&](int64_t task, int) {
    const int64_t s = task / groups, first_panel = task % groups * group_panels;
    for (int64_t q = first_panel; q < smaller(first_panel + group_panels, neurons.panels); ++q) {
      T* G = &sums[(s * spans * neurons.panels + q) * panel_size];
      for (int64_t t = 1; t < spans; ++t) {
        const T* more = G + t * neurons.panels * panel_size;
        for (int64_t e = 0; e < panel_size; ++e) G[e] += more[e];
      }
      const int64_t first = s * z.m + q * N, lanes = smaller(N, z.m - q * N);
      double dw2[N];
      for (int64_t l = 0; l < lanes; ++l)
        dw2[l] = p.b1 ? static_cast<double>(p.b1[first + l]) * G[z.d * N + l] : 0.0;
      for (int64_t k = 0; k < z.d; k += kColumns) {
        const int64_t count = smaller(kColumns, z.d - k);
        for (int64_t l = 0; l < lanes; ++l) {
          const int64_t row = (first + l) * z.d + k;
          const T* column = G + k * N + l;
          const T scale = gradient.one_output ? p.w2[first + l] : T{1};
          if (p.dw1)
            for (int64_t e = 0; e < count; ++e) p.dw1[row + e] = scale * column[e * N];
          if (p.dw2 && gradient.one_output)
            dw2[l] += product_in_float64<N>(count, p.w1 + row, column);
        }
      }
      for (int64_t l = 0; l < lanes; ++l) {
        if (p.db1)
          p.db1[first + l] = (gradient.one_output ? p.w2[first + l] : T{1}) * G[z.d * N + l];
        if (p.dw2 && gradient.one_output) p.dw2[first + l] = static_cast<T>(dw2[l]);
        if (gradient.recompute)
          for (int64_t o = 0; o < z.c; ++o)
            p.dw2[(s * z.c + o) * z.m + q * N + l] = G[G_size + o * N + l];
      }
    }
  });
}

// dx: a task owns the samples of one tile; V vectors of input dimensions are the lanes.
template <class T, int V>
void input_gradient(const two_layer_relu::Backward<T>& p, PackedNeurons<T>& neurons, int threads) {
  constexpr int R = kTileRows<T>, L = kLanes<T>, N = kPanel<T>, D = V * L;
  const two_layer_relu::Sizes& z = p.sizes;
  const int64_t words = two_layer_relu::words_per_sample(z.m);
  const int64_t dim_panels = ceil_div(z.d, D), tiles = ceil_div(z.n, R);
  constexpr int64_t kChunk = 512;                   // neurons whose terms are summed in registers
  AlignedBuffer<T> w1(z.S * dim_panels * z.m * D);  // (S,dim_panels,m,D)
  for_each_task(z.S * dim_panels, threads, [&](int64_t task, int) {
    const int64_t s = task / dim_panels, first = task % dim_panels * D;
    for (int64_t j = 0; j < z.m; ++j)
      for (int64_t k = 0; k < D; ++k)
        w1[(task * z.m + j) * D + k] =
            first + k < z.d ? p.w1[(s * z.m + j) * z.d + first + k] : T{0};
  });
  const int64_t dz_size = kChunk * R, dx_size = dim_panels * R * D;
  AlignedBuffer<T> scratch(threads * (dz_size + dx_size));

  for_each_task(z.S * tiles, threads, [&](int64_t task, int worker) {
    const int64_t s = task / tiles, first = task % tiles * R, rows = smaller(R, z.n - first);
    T* dz = &scratch[worker * (dz_size + dx_size)];  // (neurons of the chunk, R)
    T* dx = dz + dz_size;                            // (dim_panels,R,D)
    memset(dz, 0, static_cast<size_t>(dz_size + dx_size) * sizeof(T));
    for (int64_t start = 0; start < z.m; start += kChunk) {
      const int64_t count = smaller(kChunk, z.m - start);
      for (int64_t q = start / N; q * N < start + count; ++q)
        for (int64_t r = 0; r < rows; ++r) {
          alignas(64) T panel[N];
          dz_panel<T>(p.df + (s * z.n + first + r) * z.c, neurons.w2_panel(s, q), z.c,
                      p.signs[(s * words + q * N / 64) * z.n + first + r],
                      static_cast<int>(q * N % 64), panel);
          const int64_t at = q * N - start;
          for (int64_t l = 0; l < smaller(N, count - at); ++l) dz[(at + l) * R + r] = panel[l];
        }
      for (int64_t q = 0; q < dim_panels; ++q) {
        Tile<T, R, V> tile;
        tile.set_product(count, dz, &w1[((s * dim_panels + q) * z.m + start) * D]);
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < V; ++v) {
            T* at = dx + (q * R + r) * D + v * L;
            store(at, load(at) + tile.sum[r][v]);
          }
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < z.d; ++k)
        p.dx[(s * z.n + first + r) * z.d + k] = dx[(k / D * R + r) * D + k % D];
  });
}

template <class T>
void backward(const two_layer_relu::Backward<T>& p, int threads) {
  const two_layer_relu::Sizes& z = p.sizes;
  // With one output the weight gradient needs the signs alone.
  PackedNeurons<T> neurons(z, p.w1, p.b1, p.w2, threads, z.c > 1 || p.dx);
  if (p.dw1 || p.db1 || p.dw2) weight_gradient<T>(p, neurons, threads);
  if (p.dx) {
    if (z.d <= kLanes<T>)
      input_gradient<T, 1>(p, neurons, threads);
    else
      input_gradient<T, kPanelVectors<T>>(p, neurons, threads);
  }
  if (p.db2)
    for (int64_t s = 0; s < z.S; ++s)
      for (int64_t o = 0; o < z.c; ++o) {
        double sum = 0;
        for (int64_t i = 0; i < z.n; ++i) sum += static_cast<double>(p.df[(s * z.n + i) * z.c + o]);
        p.db2[s * z.c + o] = static_cast<T>(sum);
      }
}

}  // namespace lmc::LMC_TARGET
