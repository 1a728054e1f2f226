// SPDX-License-Identifier: MIT
// The losses of one block of samples along the segments of P pairs; path_losses.h has the formulas.
//
// Block (x, y) owns block first_block + x of the samples, of the tile's height, for pair y, and
// walks all neurons, 128 at a time: both products z_a and z_b into registers; their sums over
// neurons for f(0), f(1) and F_c, added up exactly as two_layer_relu does; then the crossings. For
// these z_a and z_b go through shared memory, 64 neurons at a time, so that a warp can take one
// sample: each lane looks at one neuron and finds its bin. Lanes that hit the same bin add to it in
// turn, in the order of the lanes: no atomics, the same bits in every run. Warp w owns the samples
// w h ... w h + h - 1 of the block's 8 h, and nobody else touches their bins.
//
// After the last neuron: sums along the bins (a thread owns a sample and coefficient), losses (a
// thread owns a sample and alpha), and their sums over the samples in order (a thread owns an
// alpha).
#pragma once

#include "common/cuda/z_tile.cuh"

namespace lmc::path_losses {

using namespace cuda;

inline constexpr int kScanColumns = 64;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kUnit = 16;  // samples whose losses make one sum, whatever the tile's height

template <class Element, class T>
struct PathKernel {
  int64_t n, m, d, c, A;
  int64_t units, first_block;    // of samples: sums in all, and the first block of this launch
  const Element *x, *w_a, *w_b;  // (n, d), (P, m, d), or in terms
  int64_t w_pair, x_term, w_term;
  const T *b1_a, *b1_b, *w2_a, *w2_b, *b2_a, *b2_b;
  const T* y;
  const int64_t* labels;
  const double* alphas;
  int64_t tiles_per_part;    // of two_layer_relu's sum over neurons
  double* sums;              // (blocks, 5, c, height): f(0), f(1), F_c, and parts of the first two
  double* bins;              // (blocks, height, A + 1, coefficients); null: in shared memory
  double *losses, *correct;  // (P, units, A); correct null for squares
  bool count_active;         // classes tie where no neuron is active: count how many are
};

// A bin holds (F_a, F_b, F_c) of every output, and perhaps a number of neurons.
LMC_HOST_DEVICE inline int64_t coefficients(int64_t c, bool count_active) {
  return 3 * c + (count_active ? 1 : 0);
}

// The first k with alphas[k] >= t, A if there is none; 0 for NaN. The guess is right on an equally
// spaced grid.
LMC_HOST_DEVICE inline int64_t bin_of(double t, const double* alphas, int64_t A) {
  int64_t low = 0, high = A;
  const double scaled = t * static_cast<double>(A - 1);
  if (scaled >= 0 && scaled <= static_cast<double>(A - 1)) {
    const int64_t floor = static_cast<int64_t>(scaled);
    const int64_t guess = floor + (static_cast<double>(floor) < scaled ? 1 : 0);
    const bool after = guess == 0 || alphas[guess - 1] < t;
    const bool reached = guess >= A || alphas[guess] >= t;
    if (after && reached) return guess;
  }
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (alphas[middle] < t)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Equal ends without crossings give exactly their value.
LMC_HOST_DEVICE inline double blend(double alpha, double F_a, double F_b, double F_c) {
  return F_a + alpha * ((F_b - F_a) + (1.0 - alpha) * F_c);
}

template <class Tile>
struct PathShared {
  using T = typename Tile::Value;
  static constexpr int kPitch = kScanColumns + 1;
  static constexpr size_t kScratch = Tile::shared_bytes();
  static constexpr size_t kScan = kScratch + Scratch<Tile>::bytes();
  static constexpr size_t kBins = kScan + 2 * Tile::kTileRows * kPitch * sizeof(T);
  static constexpr size_t kPadded = (kBins + 15) / 16 * 16;
  static int64_t bytes(int64_t bins) {
    return static_cast<int64_t>(kPadded) + Tile::kTileRows * bins * 8;
  }
};

template <class Tile>
class PathBlock {
  using T = typename Tile::Value;
  using Shared = PathShared<Tile>;
  static constexpr int kHeight = Tile::kTileRows, kPerWarp = kHeight / kWarps;
  using P = PathKernel<typename Tile::Element, T>;

 public:
  __device__ PathBlock(const P& p, unsigned char* shared)
      : p_(p),
        scratch_(shared + Shared::kScratch),
        scan_(reinterpret_cast<T*>(shared + Shared::kScan)),
        pair_(blockIdx.y),
        first_row_((p.first_block + blockIdx.x) * kHeight),
        width_(coefficients(p.c, p.count_active)) {
    const int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const int64_t row_size = (p.A + 1) * width_;
    bins_ = p.bins ? p.bins + block * kHeight * row_size
                   : reinterpret_cast<double*>(shared + Shared::kPadded);
    row_size_ = row_size;
    sums_ = p.sums + block * 5 * p.c * kHeight;
  }

  __device__ void start() {
    for (int64_t e = threadIdx.x; e < kHeight * row_size_; e += kThreads) bins_[e] = 0;
    for (int64_t e = threadIdx.x; e < 5 * p_.c * kHeight; e += kThreads) sums_[e] = 0;
    __syncthreads();
  }

  // A tile of both networks: z_a, z_b of neurons first ... first + 127.
  __device__ void add_tile(const T (&z_a)[Tile::kRows][Tile::kCols],
                           const T (&z_b)[Tile::kRows][Tile::kCols], int first) {
    T values[Tile::kRows][Tile::kCols];
    const auto each = [&](const auto& value) {
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
        for (int c = 0; c < Tile::kCols; ++c) values[r][c] = value(z_a[r][c], z_b[r][c]);
    };
    each([](T za, T) { return !(za <= T(0)) ? za : T(0); });
    add_sums(values, first, 3, [&](int64_t at) { return w2_a()[at]; });
    each([](T, T zb) { return !(zb <= T(0)) ? zb : T(0); });
    add_sums(values, first, 4, [&](int64_t at) { return w2_b()[at]; });
    each([](T za, T zb) { return !(za <= T(0)) ? za - zb : T(0); });
    add_sums(values, first, 2, [&](int64_t at) { return w2_b()[at] - w2_a()[at]; });
    for (int scan = 0; scan < kTileColumns; scan += kScanColumns) {
      share(z_a, scan, scan_);
      share(z_b, scan, scan_ + kHeight * Shared::kPitch);
      __syncthreads();
      for (int column = 0; column < kScanColumns; column += 32) scan_columns(first + scan, column);
      __syncthreads();
    }
  }

  // two_layer_relu adds up each part of the neurons on its own.
  __device__ void end_part() {
    if (threadIdx.x >= kHeight) return;
    for (int64_t o = 0; o < p_.c; ++o)
      for (int net = 0; net < 2; ++net) {
        sum(net, o, threadIdx.x) += sum(3 + net, o, threadIdx.x);
        sum(3 + net, o, threadIdx.x) = 0;
      }
  }

  __device__ void finish() {
    __syncthreads();
    run_along_bins();
    __syncthreads();
    evaluate();
    __syncthreads();
    for (int64_t e = threadIdx.x; e < p_.A * (kHeight / kUnit); e += kThreads) {
      const int64_t unit = e / p_.A, k = e % p_.A;
      double loss = 0, correct = 0;
      for (int64_t row = unit * kUnit; row < (unit + 1) * kUnit && first_row_ + row < p_.n; ++row) {
        loss += bin(row, k)[0];
        correct += bin(row, k)[1];
      }
      const int64_t place = first_row_ / kUnit + unit;
      if (place >= p_.units) break;
      const int64_t at = (pair_ * p_.units + place) * p_.A + k;
      p_.losses[at] = loss;
      if (p_.correct) p_.correct[at] = correct;
    }
  }

 private:
  __device__ const T* w2_a() const { return p_.w2_a + pair_ * p_.c * p_.m; }
  __device__ const T* w2_b() const { return p_.w2_b + pair_ * p_.c * p_.m; }
  __device__ double& sum(int which, int64_t o, int64_t row) {
    return sums_[(which * p_.c + o) * kHeight + row];
  }
  __device__ double* bin(int64_t row, int64_t k) { return bins_ + row * row_size_ + k * width_; }

  template <class Weight>
  __device__ void add_sums(const T (&values)[Tile::kRows][Tile::kCols], int first, int which,
                           const Weight& weight) {
    for (int64_t o = 0; o < p_.c; ++o) {
      const double total = row_sums<Tile>(
          values,
          [&](int column) {
            const int j = first + column;
            return j < p_.m ? weight(o * p_.m + j) : T(0);
          },
          scratch_.next());
      if (threadIdx.x < kHeight) sum(which, o, threadIdx.x) += total;
    }
  }

  // Columns scan ... scan + 63 of the tile, for all to read.
  __device__ void share(const T (&z)[Tile::kRows][Tile::kCols], int scan, T* to) {
#pragma unroll
    for (int c = 0; c < Tile::kCols; ++c) {
      const int column = Tile::column(c) - scan;
      if (column < 0 || column >= kScanColumns) continue;
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) to[Tile::row(r) * Shared::kPitch + column] = z[r][c];
    }
  }

  // Lane l looks at neuron first + column + l of each of the warp's samples.
  __device__ void scan_columns(int first, int column) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int j = first + column + lane;
    const T* const w_a = w2_a() + j;
    const T* const w_b = w2_b() + j;
    const T one_a = j < p_.m ? w_a[0] : T(0), one_b = j < p_.m ? w_b[0] : T(0);
    for (int row = warp * kPerWarp; row < (warp + 1) * kPerWarp; ++row) {
      const T* const z = scan_ + row * Shared::kPitch + column + lane;
      const T za = z[0], zb = z[kHeight * Shared::kPitch];
      const bool active_a = !(za <= T(0)), active_b = !(zb <= T(0));
      const bool crosses = active_a != active_b;
      if (p_.count_active) {
        const unsigned active = __ballot_sync(~0u, active_a);
        if (lane == 0) bin(row, 0)[width_ - 1] += __popc(active);
        __syncwarp();
      }
      if (__ballot_sync(~0u, crosses) == 0) continue;
      const T size_a = za < T(0) ? -za : za, size_b = zb < T(0) ? -zb : zb;
      const int64_t k =
          crosses ? bin_of(static_cast<double>(size_a / (size_a + size_b)), p_.alphas, p_.A) : 0;
      const int key = crosses ? static_cast<int>(k) : -1 - lane;
      const unsigned same = __match_any_sync(~0u, key);
      const int turn = __popc(same & ((1u << lane) - 1u));
      for (int round = 0; __ballot_sync(~0u, crosses && turn >= round) != 0; ++round) {
        if (crosses && turn == round) {
          double* const to = bin(row, k);
          if (p_.c == 1) {
            add(to, one_a, one_b, size_a, size_b);
          } else {
            for (int64_t o = 0; o < p_.c; ++o)
              add(to + o, w_a[o * p_.m], w_b[o * p_.m], size_a, size_b);
          }
          if (p_.count_active) to[width_ - 1] += active_b ? 1.0 : -1.0;
        }
        __syncwarp();
      }
    }
  }
  // A birth adds (q_a, q_b, q_c), a death takes it away; their signs come out so either way.
  __device__ void add(double* to, T w_a, T w_b, T size_a, T size_b) {
    to[0] += static_cast<double>(-size_a * w_a);
    to[p_.c] += static_cast<double>(size_b * w_b);
    to[2 * p_.c] += static_cast<double>((size_a + size_b) * (w_a - w_b));
  }

  // f(0) or f(1) as two_layer_relu gives it.
  __device__ double end(int net, int64_t o, int64_t row) {
    const T* const bias = net == 0 ? p_.b2_a : p_.b2_b;
    double f = sum(net, o, row);
    if (bias) f += static_cast<double>(bias[pair_ * p_.c + o]);
    return static_cast<double>(static_cast<T>(f));
  }

  // From what happens at each alpha to what holds there. f(1) already has every birth and no death,
  // so F_b starts without all the bins' terms and regains them.
  __device__ void run_along_bins() {
    for (int64_t e = threadIdx.x; e < kHeight * width_; e += kThreads) {
      const int64_t row = e / width_, coefficient = e % width_;
      const int64_t which = coefficient / p_.c, o = coefficient % p_.c;
      double* const terms = bins_ + row * row_size_ + coefficient;
      double running = 0;
      if (which == 0) running = end(0, o, row);
      if (which == 2) running = sum(2, o, row);
      if (which == 1) {
        for (int64_t k = 0; k <= p_.A; ++k) running += terms[k * width_];
        running = end(1, o, row) - running;
      }
      for (int64_t k = 0; k < p_.A; ++k) terms[k * width_] = running += terms[k * width_];
    }
  }

  __device__ double output(int64_t row, int64_t k, int64_t o) {
    const double alpha = p_.alphas[k];
    if (alpha == 0.0) return end(0, o, row);
    if (alpha == 1.0) return end(1, o, row);
    const double* const F = bin(row, k);
    if (p_.count_active && F[width_ - 1] == 0) {  // the biases, exactly
      const double a = p_.b2_a ? static_cast<double>(p_.b2_a[pair_ * p_.c + o]) : 0.0;
      const double b = p_.b2_b ? static_cast<double>(p_.b2_b[pair_ * p_.c + o]) : 0.0;
      return blend(alpha, a, b, 0.0);
    }
    return blend(alpha, F[o], F[p_.c + o], F[2 * p_.c + o]);
  }

  // The loss of a sample at an alpha takes the place of its first coefficient, whether it is
  // classified right that of the second.
  __device__ void evaluate() {
    for (int64_t e = threadIdx.x; e < kHeight * p_.A; e += kThreads) {
      const int64_t row = e / p_.A, k = e % p_.A, i = first_row_ + row;
      if (i >= p_.n) continue;
      double loss = 0, correct = 0;
      if (p_.y) {
        for (int64_t o = 0; o < p_.c; ++o) {
          const double residual = output(row, k, o) - static_cast<double>(p_.y[i * p_.c + o]);
          loss += residual * residual;
        }
        loss /= 2;
      } else {
        const int64_t label = p_.labels[i];
        double largest = output(row, k, 0), total = 0, chosen = nan("");
        int64_t first_largest = 0;
        for (int64_t o = 1; o < p_.c; ++o) {
          const double f = output(row, k, o);
          if (f > largest) largest = f, first_largest = o;
        }
        for (int64_t o = 0; o < p_.c; ++o) {
          const double f = output(row, k, o);
          total += exp(f - largest);
          if (o == label) chosen = f;
        }
        loss = log(total) + (largest - chosen);
        correct = first_largest == label && chosen == largest ? 1.0 : 0.0;
      }
      bin(row, k)[0] = loss;
      bin(row, k)[1] = correct;
    }
  }

  const P& p_;
  Scratch<Tile> scratch_;
  T* scan_;
  int64_t pair_, first_row_, width_, row_size_;
  double *bins_, *sums_;
};

template <class Tile>
__global__ void __launch_bounds__(kThreads, 1)
    path_kernel(PathKernel<typename Tile::Element, typename Tile::Value> p) {
  using T = typename Tile::Value;
  if constexpr (Tile::kTensor && !kTensorCores) return;
  unsigned char* const shared = dynamic_shared();
  Tile tile(shared, p.d, p.x_term, p.w_term);
  PathBlock<Tile> block(p, shared);
  const int64_t pair = blockIdx.y;
  const int first_row = static_cast<int>(p.first_block + blockIdx.x) * Tile::kTileRows;
  const int n = static_cast<int>(p.n), m = static_cast<int>(p.m);
  const int tiles = static_cast<int>(blocks_of(m, kTileColumns));
  const int steps = tile.steps();
  const auto source = [&](int step) {
    const int product = step / steps;  // a's and b's in turn
    const auto* const w = product % 2 == 0 ? p.w_a : p.w_b;
    return Step<typename Tile::Element>{
        p.x, w + pair * p.w_pair,        first_row, n, product / 2 * kTileColumns,
        m,   step % steps * Tile::kDepth};
  };
  tile.begin(source, 2 * tiles * steps);
  block.start();
  for (int t = 0; t < tiles; ++t) {
    const int first = t * kTileColumns;
    const auto add_bias = [&](T(&z)[Tile::kRows][Tile::kCols], const T* bias) {
#pragma unroll
      for (int c = 0; c < Tile::kCols; ++c) {
        const int j = first + Tile::column(c);
        const T b = bias && j < m ? bias[pair * p.m + j] : T(0);
#pragma unroll
        for (int r = 0; r < Tile::kRows; ++r) z[r][c] = j < m ? tile.z[r][c] + b : T(0);
      }
    };
    T z_a[Tile::kRows][Tile::kCols], z_b[Tile::kRows][Tile::kCols];
    tile.product(source);
    add_bias(z_a, p.b1_a);
    tile.product(source);
    add_bias(z_b, p.b1_b);
    block.add_tile(z_a, z_b, first);
    if ((t + 1) % p.tiles_per_part == 0 || t + 1 == tiles) block.end_part();
  }
  block.finish();
}

// The mean over samples: the units' sums, in order. A thread owns an alpha of a pair.
struct MeanLosses {
  int64_t P, units, A, n;
  const double *sums, *correct;  // (P, units, A); correct may be null
  double *losses, *accuracies;   // (P, A)
};

template <int>  // so that a header may define it
__global__ void __launch_bounds__(kThreads) mean_losses_kernel(MeanLosses p) {
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.P * p.A) return;
  const int64_t pair = e / p.A, k = e % p.A;
  double loss = 0, correct = 0;
  for (int64_t unit = 0; unit < p.units; ++unit) {
    const int64_t at = (pair * p.units + unit) * p.A + k;
    loss += p.sums[at];
    if (p.correct) correct += p.correct[at];
  }
  p.losses[e] = loss / static_cast<double>(p.n);
  if (p.correct) p.accuracies[e] = correct / static_cast<double>(p.n);
}

}  // namespace lmc::path_losses
