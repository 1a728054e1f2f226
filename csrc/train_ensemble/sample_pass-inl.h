// SPDX-License-Identifier: MIT
// Loss and gradient of one network on samples, in one pass over blocks of them. A block's
// activations h stay in the cache from the forward product, which makes them, to the gradient,
// which turns them into dz in place. One thread does all of it.
//
// Order of accumulation: z over k = 0 ... d-1; an output lane by lane over the panels, then over
// the lanes as a binary tree; losses and gradients over the samples of a block, then block by
// block.
#pragma once

#include "common/transpose-inl.h"
#include "common/watch-inl.h"
#include "train_ensemble/packed_net-inl.h"
#include "train_ensemble/residuals-inl.h"
#include "train_ensemble/samples-inl.h"

namespace lmc::LMC_TARGET {

template <class T, int V>
class SamplePass {
  static constexpr int L = kLanes<T>, N = V * L;
  static constexpr int64_t kMaxBlock = 96, kBlockBytes = 1 << 18;  // of h: a share of the L2 cache
  static constexpr int kGroup = 4;  // samples whose dz is made together

 public:
  // For networks of up to `panels` panels with c outputs.
  LMC_INLINE SamplePass(int64_t panels, int64_t c, bool train_w2)
      : c_(c),
        fitting_(kBlockBytes / (larger(panels, 1) * N * static_cast<int64_t>(sizeof(T)))),
        output_height_(tile_height<T>(c)),
        train_w2_(train_w2),
        h_(panels * room() * N),
        lanes_((room() * c + L) * L),
        f_(room() * c + L),
        r_(room() * c),
        r_columns_(room() * round_up(c, output_height_)),
        softmax_(softmax_scratch(room(), c)) {
    memset(r_.data(), 0, static_cast<size_t>(room() * c) * sizeof(T));
    memset(r_columns_.data(), 0,
           static_cast<size_t>(room() * round_up(c, output_height_)) * sizeof(T));
  }

  // f (count,c), overwritten.
  void outputs(const PackedNet<T, V>& net, const T* w, const Samples<T>& samples, T* f) {
    for (int64_t first = 0, rows; first < samples.count; first += rows) {
      rows = smaller(block_rows(samples), samples.count - first);
      forward(net, w, samples, first, rows);
      memcpy(f + first * c_, f_.data(), static_cast<size_t>(rows * c_) * sizeof(T));
    }
  }

  // The mean loss; its gradient goes to g, in the layout of w, unless g is null. w2's part of it is
  // left alone when w2 is not trained. Returns NaN when the watch stops it.
  double loss(const PackedNet<T, V>& net, const T* w, const Samples<T>& samples, T* g,
              Watch& watch) {
    if (g) memset(g, 0, static_cast<size_t>(train_w2_ ? net.size : net.w1_size) * sizeof(T));
    const T scale = T{1} / static_cast<T>(samples.count);
    double sum = 0;
    for (int64_t first = 0, rows; first < samples.count; first += rows) {
      rows = smaller(block_rows(samples), samples.count - first);
      if (watch.stop(rows * net.panels * N * (net.d + c_))) return __builtin_nan("");
      forward(net, w, samples, first, rows);
      if (samples.labels)
        sum += cross_entropy_residuals<T>(rows, c_, f_.data(), samples.labels + first, scale,
                                          softmax_.data(), r_.data());
      else
        sum += squared_residuals<T>(rows * c_, f_.data(), samples.y + first * c_, scale, r_.data());
      if (g) backward(net, w, samples, first, rows, g);
    }
    return sum / static_cast<double>(samples.count);
  }

 private:
  // A block is a whole number of row tiles; its buffers have room for the tiles and groups to run
  // over.
  LMC_INLINE int64_t block_rows(const Samples<T>& samples) const {
    const int64_t R = samples.row_height;
    return larger(1, smaller(kMaxBlock, fitting_) / R) * R;
  }
  static constexpr int64_t room() { return kMaxBlock + kTileRows<T> + kGroup; }

  void forward(const PackedNet<T, V>& net, const T* w, const Samples<T>& samples, int64_t first,
               int64_t rows) {
    memset(lanes_.data(), 0, static_cast<size_t>(((rows + kTileRows<T>)*c_ + L) * L) * sizeof(T));
    with_tile_height<T>(samples.row_height, [&](auto height) {
      constexpr int R = decltype(height)::rows;
      for (int64_t q = 0; q < net.panels; ++q) {
        const T *w1 = w + net.w1_panel(q), *w2 = w + net.w2_panel(q);
        for (int64_t row = 0; row < rows; row += R) {
          Tile<T, R, V> tile;
          tile.set_product(net.d, samples.rows + (first + row) * net.d, w1);
          T* h = &h_[(q * room() + row) * N];
          T* lanes = &lanes_[row * c_ * L];
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
              tile.sum[r][v] = relu<T>(tile.sum[r][v]);
              store(h + r * N + v * L, tile.sum[r][v]);
            }
            for (int64_t o = 0; o < c_; ++o) {
              Vec<T> sum = load(lanes + (r * c_ + o) * L);
#pragma GCC unroll 4
              for (int v = 0; v < V; ++v) sum += tile.sum[r][v] * load(w2 + o * N + v * L);
              store(lanes + (r * c_ + o) * L, sum);
            }
          }
        }
      }
    });
    for (int64_t e = 0; e < rows * c_; e += L) store(&f_[e], sum_rows<T>(&lanes_[e * L]));
  }

  void backward(const PackedNet<T, V>& net, const T* w, const Samples<T>& samples, int64_t first,
                int64_t rows, T* g) {
    const int64_t O = output_height_;
    if (train_w2_)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t o = 0; o < c_; ++o)
          r_columns_[o / O * O * room() + i * O + o % O] = r_[i * c_ + o];
    for (int64_t q = 0; q < net.panels; ++q) {
      T* h = &h_[q * room() * N];
      if (train_w2_)
        add_columns(output_height_, c_, room(), rows, r_columns_.data(), h, g + net.w2_panel(q));
      make_dz(w + net.w2_panel(q), rows, h);
      add_columns(samples.column_height, net.d, samples.count, rows,
                  samples.columns + first * samples.column_height, h, g + net.w1_panel(q));
    }
  }

  // h = 1[h > 0] * (r w2), a group of samples at a time.
  void make_dz(const T* w2, int64_t rows, T* h) {
    for (int64_t i = 0; i < rows; i += kGroup) {
      Vec<T> dz[kGroup][V] = {};
      const T* r = &r_[i * c_];
      for (int64_t o = 0; o < c_; ++o)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec<T> lanes = load(w2 + o * N + v * L);
#pragma GCC unroll 4
          for (int e = 0; e < kGroup; ++e) dz[e][v] += broadcast(r[e * c_ + o]) * lanes;
        }
#pragma GCC unroll 4
      for (int e = 0; e < kGroup; ++e)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          T* at = h + (i + e) * N + v * L;
          store(at, keep<T>(active_lanes(load(at)), dz[e][v]));
        }
    }
  }

  // to (size,N) += sum over samples of a[:, sample] b[sample, :], a (tiles,stride,R), b (rows,N).
  void add_columns(int column_height, int64_t size, int64_t stride, int64_t rows, const T* a,
                   const T* b, T* to) {
    with_tile_height<T>(column_height, [&](auto height) {
      constexpr int R = decltype(height)::rows;
      for (int64_t k = 0; k < size; k += R) {
        Tile<T, R, V> tile;
        tile.set_product(rows, a + k * stride, b);
        const int64_t filled = smaller(R, size - k);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          if (r >= filled) break;
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            T* at = to + (k + r) * N + v * L;
            store(at, load(at) + tile.sum[r][v]);
          }
        }
      }
    });
  }

  const int64_t c_, fitting_;
  const int output_height_;
  const bool train_w2_;
  AlignedBuffer<T> h_;          // (panels,room,N)
  AlignedBuffer<T> lanes_;      // (room,c,L) outputs before the lanes are summed
  AlignedBuffer<T> f_, r_;      // (room,c)
  AlignedBuffer<T> r_columns_;  // (output tiles,room,R)
  AlignedBuffer<double> softmax_;
};

}  // namespace lmc::LMC_TARGET
