// SPDX-License-Identifier: MIT
// The losses of one block of samples along the segments of P pairs; path_losses.h has the formulas.
//
// Block (x, y) owns block first_block + x of the samples, of the tile's height, for pair y, and
// walks all neurons, 128 at a time: both products z_a and z_b into registers; their sums over
// neurons for f(0), f(1) and F_c, added up exactly as two_layer_relu does; then the crossings. The
// threads that hold z_a and z_b list those sample by sample (crossings.cuh), and behind a barrier
// the bins' owners walk the lists: a thread owns a coefficient of a sample, all its bins, and adds
// what the sample's crossings bring in the order of the list. Nobody else touches its bins: no
// atomics, the same bits in every run.
//
// Where the bins lie in the workspace (path_bins.cuh) the samples of a tile are taken in parts, so
// that the lists of all passes fit; and if a thread's bins are few (`cached`) it copies them into
// shared memory, adds the lists, and copies them back.
#pragma once

#include "path_losses/crossings.cuh"
#include "path_losses/path_bins.cuh"

namespace lmc::path_losses {

// What an entry adds to a coefficient, and to which bin. With one output its numbers have the
// weights in them.
template <class T>
struct OneOutput {
  int offset;  // of the numbers for this coefficient
  __device__ T number(const T* entry, uint32_t) const { return entry[offset]; }
  __device__ T value(T number, uint32_t) const { return number; }
  __device__ uint32_t bin(uint32_t key) const { return key; }
};
template <class T>
struct AnyOutput {
  int offset;
  bool counts;       // neurons: one more for a birth, one less for a death
  const T* weights;  // (columns), of the coefficient
  __device__ T number(const T* entry, uint32_t key) const {
    const T number = entry[offset];
    return counts ? (key & kDies ? T(-1) : T(1)) : number;
  }
  __device__ T value(T number, uint32_t key) const { return number * weights[key & kColumn]; }
  __device__ uint32_t bin(uint32_t key) const { return key >> kBinShift; }
};

// Biases and weights on their way to shared memory: thread t has those of column t % 128, the
// weights of output t / 128.
template <class T>
struct HeldWeights {
  T bias_a, bias_b, a, b;
};

template <class Tile, bool Inside>
class PathBlock {
  using T = typename Tile::Value;
  using Shared = PathShared<Tile>;
  static constexpr int kHeight = Tile::kTileRows, kRows = Tile::kRows, kCols = Tile::kCols;
  static constexpr int kPasses = Shared::kPasses;
  using Values = T[kRows][kCols];
  using P = PathKernel<typename Tile::Element, T>;

 public:
  __device__ PathBlock(const P& p, unsigned char* shared)
      : p_(p),
        bins_(p, reinterpret_cast<double*>(shared + places(p).bins)),
        crossings_(shared, entries(p)),
        scratch_(reinterpret_cast<T*>(shared + Shared::kScratch)),
        weights_(reinterpret_cast<T*>(shared + places(p).weights)),
        pair_(blockIdx.y),
        c_(static_cast<int>(p.c)),
        A_(static_cast<int>(p.A)) {
    const int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    auto* const intervals = reinterpret_cast<Interval<T>*>(shared + places(p).intervals);
    if constexpr (Inside) {
      intervals_ = intervals;
    } else {
      intervals_ = p.intervals == nullptr ? intervals : p.intervals + block * (p.A + 1);
      cache_ = reinterpret_cast<double*>(shared + places(p).bins) + threadIdx.x;
    }
  }

  // Before the first tile. Nobody may read what is written here before the next barrier.
  __device__ void start() {
    bins_.start();
    for (int k = threadIdx.x; k <= A_; k += kThreads)
      intervals_[k] = {k == 0 ? -T(INFINITY) : static_cast<T>(p_.alphas[k - 1]),
                       k == A_ ? T(INFINITY) : static_cast<T>(p_.alphas[k])};
    // Behind the last column every weight is zero. All weights for counting are one.
    for (int q = threadIdx.x; q < 3 * p_.outputs; q += kThreads) weights(0, q)[kTileColumns] = 0;
    for (int column = threadIdx.x; column <= kTileColumns; column += kThreads)
      ones()[column] = column < kTileColumns ? T(1) : T(0);
    crossings_.start();
  }

  // What the neurons from `first` on need first, so that it is on its way while others multiply.
  __device__ HeldWeights<T> fetch_weights(int first) const {
    const int j = first + static_cast<int>(threadIdx.x) % kTileColumns;
    const int o = static_cast<int>(threadIdx.x) / kTileColumns;
    const bool valid = j < p_.m;
    return {valid && p_.b1_a ? p_.b1_a[pair_ * p_.m + j] : T(0),
            valid && p_.b1_b ? p_.b1_b[pair_ * p_.m + j] : T(0),
            valid && o < c_ ? w2(p_.w2_a, o, j) : T(0), valid && o < c_ ? w2(p_.w2_b, o, j) : T(0)};
  }
  // It and the other weights of the first outputs into shared memory, for all to read behind a
  // barrier.
  __device__ void keep_weights(const HeldWeights<T>& held, int first) {
    const int column = static_cast<int>(threadIdx.x) % kTileColumns;
    const int o = static_cast<int>(threadIdx.x) / kTileColumns;
    if (o < outputs_from(0)) keep_weight(o, column, held.a, held.b);
    keep_outputs(first, 0, o + kThreads / kTileColumns);
    if (o > 0) return;
    biases(0)[column] = held.bias_a;
    biases(1)[column] = held.bias_b;
  }

  // Adds a network's biases; neurons beyond the last one stay zero.
  __device__ void add_bias(const Values& z, Values& to, int net, int first) {
#pragma unroll
    for (int c = 0; c < kCols; ++c) {
      const T bias = biases(net)[Tile::column(c)];
      const bool valid = first + Tile::column(c) < p_.m;
#pragma unroll
      for (int r = 0; r < kRows; ++r) to[r][c] = valid ? z[r][c] + bias : T(0);
    }
  }

  // A tile of both networks: z_a, z_b of the neurons from `first` on, which are overwritten.
  __device__ void add_tile(Values& z_a, Values& z_b, int first, bool ends_part) {
    crossings_.count(z_a, z_b, p_.count_active);
    for (int o = 0; o < c_; o += p_.outputs) {
      if (o > 0) change_weights(first, o);
      add_sums(z_a, z_b, o, ends_part);
    }
    crossings_.turn(z_a, z_b);
    if constexpr (Inside) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        if (pass > 0) __syncthreads();
        gather(z_a, z_b, pass, 0, 0, kHeight);
        __syncthreads();
        add_crossings(pass, first);
      }
    } else {
#pragma unroll 1
      for (int row = 0; row < kHeight; row += p_.listed) {
        if (row > 0) __syncthreads();
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) gather(z_a, z_b, pass, pass, row, p_.listed);
        __syncthreads();
        add_crossings(row, first);
      }
    }
  }

  __device__ void finish() {
    __syncthreads();
    bins_.finish();
  }

 private:
  static __device__ int entries(const P& p) {
    return Inside ? Shared::kEntries : p.listed * kTileColumns;
  }
  static __device__ Shared places(const P& p) {
    return {entries(p), Inside || p.intervals == nullptr ? p.A + 1 : 0, p.outputs, 0};
  }

  // Which of the five sums of an output a kind of sum over neurons goes to: f(0), f(1), F_c.
  static __device__ int sum_of(int kind) { return kind == 2 ? 2 : 3 + kind; }
  __device__ int outputs_from(int first_output) const {
    return c_ - first_output < p_.outputs ? c_ - first_output : p_.outputs;
  }
  // Of w2_a, w2_b or their difference, for output o of the chunk in shared memory.
  __device__ T* weights(int kind, int o) const {
    return weights_ + (kind * p_.outputs + o) * kWeightPitch;
  }
  __device__ T* biases(int net) const { return weights(3, net); }
  __device__ T* ones() const { return weights(3, 2); }
  __device__ T w2(const T* of, int o, int j) const { return of[(pair_ * p_.c + o) * p_.m + j]; }
  __device__ void keep_weight(int o, int column, T a, T b) {
    weights(0, o)[column] = a;
    weights(1, o)[column] = b;
    weights(2, o)[column] = b - a;
  }
  // Weights of outputs from, from + 2, ... of the chunk into shared memory, by half of the threads.
  __device__ void keep_outputs(int first, int first_output, int from) {
    const int column = static_cast<int>(threadIdx.x) % kTileColumns, j = first + column;
    for (int o = from; o < outputs_from(first_output); o += kThreads / kTileColumns) {
      const bool valid = j < p_.m;
      keep_weight(o, column, valid ? w2(p_.w2_a, first_output + o, j) : T(0),
                  valid ? w2(p_.w2_b, first_output + o, j) : T(0));
    }
  }
  __device__ void change_weights(int first, int first_output) {
    __syncthreads();
    keep_outputs(first, first_output, static_cast<int>(threadIdx.x) / kTileColumns);
    __syncthreads();
  }

  // The sums over a tile's neurons for the outputs of a chunk.
  __device__ void add_sums(const Values& z_a, const Values& z_b, int first_output, bool ends_part) {
    const auto value = [&](int kind, int r, int c) {
      const T za = z_a[r][c], zb = z_b[r][c];
      if (kind == 1) return !(zb <= T(0)) ? zb : T(0);
      return !(za <= T(0)) ? (kind == 0 ? za : za - zb) : T(0);
    };
    if (c_ == 1) {
      add_batch<3>([](int n) { return n; }, [](int) { return 0; }, value, 0, 1, ends_part);
      return;
    }
    const int outputs = outputs_from(first_output);
#pragma unroll
    for (int kind = 0; kind < 3; ++kind) {
      Values values;
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int c = 0; c < kCols; ++c) values[r][c] = value(kind, r, c);
      for (int o = 0; o < outputs; o += kSumsAtOnce)
        add_batch<kSumsAtOnce>([&](int) { return kind; }, [&](int n) { return o + n; },
                               [&](int, int r, int c) { return values[r][c]; }, first_output,
                               outputs, ends_part);
    }
  }

  // N sums, each added up as row_sums does: over a thread's columns in order, the lanes of a row in
  // a tree, the groups in order, in float64. Thread t owns sum t / height of row t % height. The
  // weights are those of output output(n) of the chunk, if it has so many. A barrier is passed.
  template <int N, class Kind, class Output, class Value>
  __device__ void add_batch(const Kind& kind, const Output& output, const Value& value,
                            int first_output, int outputs, bool ends_part) {
    static_assert(N <= kSumsAtOnce && kSumsAtOnce * kHeight <= kThreads);
    const int mine = static_cast<int>(threadIdx.x) / kHeight;
    const int my_row = static_cast<int>(threadIdx.x) % kHeight;
    const bool owner = mine < N && output(mine) < outputs;
    const int which = sum_of(owner ? kind(mine) : 0), o = first_output + output(mine);
    const double before = owner ? bins_.sum(which, o, my_row) : 0;
    T sums[N][kRows] = {};
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const T* const weight = weights(kind(n), output(n) < outputs ? output(n) : 0);
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
        const T factor = weight[Tile::column(c)];
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[n][r] += value(kind(n), r, c) * factor;
      }
    }
#pragma unroll
    for (int distance = 1; distance < Tile::kLanesPerRow; distance *= 2)
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[n][r] += __shfl_xor_sync(~0u, sums[n][r], distance);
    T* const scratch = scratch_ + (turn_ ^= 1) * Shared::kSums;
    if (threadIdx.x % Tile::kLanesPerRow == 0)
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          scratch[(n * Tile::kGroups + Tile::group()) * kHeight + Tile::row(r)] = sums[n][r];
    __syncthreads();
    if (!owner) return;
    double total = 0;
#pragma unroll
    for (int group = 0; group < Tile::kGroups; ++group)
      total += static_cast<double>(scratch[(mine * Tile::kGroups + group) * kHeight + my_row]);
    total += before;
    if (ends_part && which >= 3) {  // two_layer_relu adds up each part of the neurons on its own
      bins_.sum(which - 3, o, my_row) += total;
      total = 0;
    }
    bins_.sum(which, o, my_row) = total;
  }

  __device__ void gather(const Values& z_a, const Values& z_b, int pass, int list, int first,
                         int rows) {
    crossings_.gather(z_a, z_b, pass, list, first, rows, intervals_, A_,
                      c_ == 1 ? weights_ : nullptr);
  }

  // Adds the lists to the bins: those of a pass, or of all passes for a part of the rows.
  __device__ void add_crossings(int pass_or_row, int first) {
    for (int first_output = 0; first_output < c_; first_output += p_.outputs) {
      if (p_.outputs < c_) change_weights(first, first_output);
      const int outputs = outputs_from(first_output);
      const int own = 3 * outputs + (p_.count_active && first_output == 0 ? 1 : 0);
      const int listed = Inside ? kHeight : p_.listed;
      for (int e = threadIdx.x; e < listed * own; e += kThreads) {
        const int row = Inside ? e % kHeight : e / own, q = Inside ? e / kHeight : e % own;
        const int kind = q / outputs, o = q % outputs;
        if (c_ == 1) {
          add_lists(pass_or_row, row, q, false, OneOutput<T>{q * crossings_.next_number()});
        } else {
          const bool counts = kind == 3;
          const AnyOutput<T> term{counts ? 0 : kind * crossings_.next_number(), counts,
                                  counts ? ones() : weights(kind, o)};
          add_lists(pass_or_row, row, kind * c_ + (counts ? 0 : first_output + o), counts, term);
        }
      }
    }
  }

  template <class Term>
  __device__ void add_lists(int pass_or_row, int listed_row, int coefficient, bool counts,
                            const Term& term) {
    if constexpr (Inside) {
      double* const bins = &bins_.bin(listed_row, 0, coefficient);
      if (counts && pass_or_row == 0) bins[0] += crossings_.active(listed_row);
      crossings_.add_list(bins, bins_.stride(), 0, listed_row, kHeight,
                          crossings_.length(pass_or_row, listed_row), term);
    } else {
      const int row = pass_or_row + listed_row;
      double* const bins = &bins_.bin(row, 0, coefficient);
      if (p_.cached) {
        copy_bins(cache_, kThreads, bins, bins_.stride());
        add_all_lists(cache_, kThreads, listed_row, row, counts, term);
        copy_bins(bins, bins_.stride(), cache_, kThreads);
      } else {
        add_all_lists(bins, bins_.stride(), listed_row, row, counts, term);
      }
    }
  }
  template <class Term>
  __device__ void add_all_lists(double* bins, int stride, int listed_row, int row, bool counts,
                                const Term& term) {
    if (counts) bins[0] += crossings_.active(row);
#pragma unroll 1
    for (int pass = 0; pass < kPasses; ++pass)
      crossings_.add_list(bins, stride, pass, listed_row, p_.listed, crossings_.length(pass, row),
                          term);
  }
  __device__ void copy_bins(double* to, int to_stride, const double* from, int from_stride) {
    constexpr int kAtOnce = 8;
    for (int first = 0; first <= A_; first += kAtOnce) {
      double values[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (first + k <= A_) values[k] = from[(first + k) * from_stride];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (first + k <= A_) to[(first + k) * to_stride] = values[k];
    }
  }

  const P& p_;
  PathBins<Tile, Inside> bins_;
  Crossings<Tile, Inside> crossings_;
  T *scratch_, *weights_;
  int64_t pair_;
  int c_, A_, turn_ = 0;
  Interval<T>* intervals_;
  double* cache_ = nullptr;  // this thread's first one
};

template <class Tile, bool Inside>
__global__ void __launch_bounds__(kThreads, 1)
    path_kernel(PathKernel<typename Tile::Element, typename Tile::Value> p) {
  using T = typename Tile::Value;
  if constexpr (!Tile::kCompiled) return;
  unsigned char* const shared = dynamic_shared();
  Tile tile(shared, p.d, p.x_term, p.w_term);
  PathBlock<Tile, Inside> block(p, shared);
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
    T z_a[Tile::kRows][Tile::kCols], z_b[Tile::kRows][Tile::kCols];
    const HeldWeights<T> held = block.fetch_weights(first);
    tile.product(source);
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
      for (int c = 0; c < Tile::kCols; ++c) z_a[r][c] = tile.z[r][c];
    // A product's barriers: all are done with the last tile before it, and all see the weights
    // behind it.
    if (steps == 0) __syncthreads();
    block.keep_weights(held, first);
    tile.product(source);
    if (steps == 0) __syncthreads();
    block.add_bias(z_a, z_a, 0, first);
    block.add_bias(tile.z, z_b, 1, first);
    block.add_tile(z_a, z_b, first, (t + 1) % p.tiles_per_part == 0 || t + 1 == tiles);
  }
  block.finish();
}

}  // namespace lmc::path_losses
