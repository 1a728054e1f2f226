// SPDX-License-Identifier: MIT
// Crossing neurons: gathered from a tile into a dense list, then located among the alphas, then
// added to their samples' bins. Bin k holds what starts at alpha k: of the crossings with
// alphas[k-1] < alpha* <= alphas[k]. A crossing that rounding puts on the wrong side of an alpha
// adds about 0 there.
#pragma once

#include "common/compress-inl.h"
#include "common/gemm-inl.h"

namespace lmc::LMC_TARGET {

// The integer as wide as T, in which a list keeps positions.
template <class T>
using IntOf = decltype(IntVec<T>{}[0] + IntVec<T>{}[0]);

template <class T>
LMC_INLINE Vec<T> magnitude(Vec<T> v) {
  return (Vec<T>)((IntVec<T>)v & ~(IntVec<T>)broadcast(T(-0.0)));
}
template <class T>
LMC_INLINE IntVec<T> clamp(IntVec<T> v, IntOf<T> low, IntOf<T> high) {
  const IntVec<T> lowest = low - IntVec<T>{}, highest = high - IntVec<T>{};
  v = v < lowest ? lowest : v;
  return v > highest ? highest : v;
}

// Four values, one per output.
template <class T>
struct FourOf {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
};
template <class T>
using Four = typename FourOf<T>::type;

// The alphas, cut into equal buckets so that a crossing's place is found in a step or two.
struct Grid {
  static constexpr int64_t kMaxBuckets = 1 << 20;  // so that float holds a bucket's number exactly
  const double* alphas;
  int64_t A;
  bool uniform;  // alphas[k] = k / buckets: then the bucket is the place
  int64_t buckets;
  AlignedBuffer<int32_t> first;  // (buckets + 5): the first k with alphas[k] >= (i - 2) / buckets

  LMC_INLINE Grid(const double* alphas_, int64_t A_)
      : alphas(alphas_),
        A(A_),
        uniform(is_uniform(alphas_, A_)),
        buckets(uniform ? A - 1 : smaller(kMaxBuckets, 4 * A + 16)),
        first(uniform ? 0 : buckets + 5) {
    if (uniform) return;
    for (int64_t i = 0, k = 0; i < buckets + 5; ++i) {
      while (k < A && alphas[k] * static_cast<double>(buckets) < static_cast<double>(i - 2)) ++k;
      first[i] = static_cast<int32_t>(k);
    }
  }
  static LMC_INLINE bool is_uniform(const double* alphas, int64_t A) {
    if (A < 2 || A - 1 > kMaxBuckets) return false;
    const double step = 1.0 / static_cast<double>(A - 1);
    for (int64_t k = 0; k < A; ++k) {
      const double off = alphas[k] - static_cast<double>(k) * step;
      if (!(off < 1e-15 && off > -1e-15)) return false;
    }
    return true;
  }
  // The first k with alphas[k] >= t, for t in bucket u (clamped to 0 ... buckets + 1; u is off by
  // less than one). Safe for any t.
  LMC_INLINE int64_t locate(int64_t u, double t) {
    int64_t low = first[u], high = first[u + 3];
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (alphas[middle] < t)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
};

// A list of crossings. With one output it carries each neuron's output weights, else its number.
template <class T>
struct Crossings {
  using Int = IntOf<T>;
  static constexpr int L = kLanes<T>;
  // All of a tile, and a vector's overhang.
  static constexpr int kCapacity = kTileRows<T> * kPanel<T> + L;
  int64_t count;
  alignas(64) T z_a[kCapacity], z_b[kCapacity];
  alignas(64) T w2_a[kCapacity], w2_b[kCapacity];
  alignas(64) T alpha[kCapacity];
  alignas(64) Int neuron[kCapacity];
  alignas(64) Int bin[kCapacity];  // first the sample's first bin, then the crossing's own

  // Each puts the crossings of one vector at place `at`; count is the caller's to set.
  LMC_INLINE void put(int64_t at, LaneBits bits, Vec<T> za, Vec<T> zb, Int first_bin) {
    store_compressed(z_a + at, bits, za);
    store_compressed(z_b + at, bits, zb);
    const IntVec<T> bins = first_bin - IntVec<T>{};
    memcpy(bin + at, &bins, sizeof bins);
  }
  LMC_INLINE void put_weights(int64_t at, LaneBits bits, Vec<T> wa, Vec<T> wb) {
    store_compressed(w2_a + at, bits, wa);
    store_compressed(w2_b + at, bits, wb);
  }
  LMC_INLINE void put_neurons(int64_t at, LaneBits bits, IntVec<T> neurons) {
    alignas(64) T compressed[L];
    store_compressed(compressed, bits, (Vec<T>)neurons);
    memcpy(neuron + at, compressed, sizeof compressed);
  }

  // Finds the bins: those of alphas first_alpha ... first_alpha + bins - 2 in order, earlier ones
  // in the first and later ones in the last.
  LMC_INLINE void locate(Grid& grid, int64_t first_alpha, int64_t bins) {
    constexpr T kRound = sizeof(T) == 4 ? T(0x1p23) : T(0x1p52);  // adding it rounds to an integer
    const T buckets = static_cast<T>(grid.buckets);
    for (int64_t i = 0; i < count; i += L) {
      const Vec<T> za = magnitude<T>(load(z_a + i)), zb = magnitude<T>(load(z_b + i));
      const Vec<T> t = za / (za + zb);
      const Vec<T> shifted = (t * buckets + T(0.5)) + kRound;
      IntVec<T> bucket = (IntVec<T>)shifted - (IntVec<T>)broadcast(kRound);
      if (grid.uniform) {
        // NaN gives any integer, and the clamp a bin.
        bucket = clamp<T>(bucket, static_cast<Int>(first_alpha),
                          static_cast<Int>(first_alpha + bins - 1));
        IntVec<T> sum;
        memcpy(&sum, bin + i, sizeof sum);
        sum += bucket - static_cast<Int>(first_alpha);
        memcpy(bin + i, &sum, sizeof sum);
      } else {
        bucket = clamp<T>(bucket, 0, static_cast<Int>(grid.buckets + 1));
        store(alpha + i, t);
        for (int64_t e = i; e < smaller(count, i + L); ++e) {
          const int64_t k = grid.locate(bucket[e - i], static_cast<double>(alpha[e]));
          bin[e] += static_cast<Int>(smaller(larger(k, first_alpha), first_alpha + bins - 1) -
                                     first_alpha);
        }
      }
    }
  }

  // One output: adds (q_a, q_b, q_c), positive for a birth and negative for a death, to the bins
  // (*,3). Either way their signs are those of (-|z_a|, |z_b|, -(|z_a| + |z_b|)) times the weights.
  LMC_INLINE void scatter_one(double* bins) {
    for (int64_t i = 0; i < count; i += L) {
      const Vec<T> za = magnitude<T>(load(z_a + i)), zb = magnitude<T>(load(z_b + i));
      const Vec<T> wa = load(w2_a + i), wb = load(w2_b + i);
      store(z_a + i, -za * wa);
      store(z_b + i, zb * wb);
      store(w2_a + i, (za + zb) * (wa - wb));
    }
    const int64_t crossings = count;
    for (int64_t i = 0; i < crossings; ++i) {
      double* to = bins + 3 * static_cast<int64_t>(bin[i]);
      to[0] += static_cast<double>(z_a[i]);
      to[1] += static_cast<double>(z_b[i]);
      to[2] += static_cast<double>(w2_a[i]);
    }
  }

  // Several outputs: bins (*,3,c4); weights (m,2,c4) hold neuron by neuron w2_a and w2_b, padded
  // with zeros. Unless null, births (*) counts births as +1 and deaths as -1 in the same bins.
  LMC_INLINE void scatter_many(int64_t c4, const T* weights, double* bins, int32_t* births) {
    for (int64_t i = 0; i < count; ++i) {
      const T* wa = weights + 2 * c4 * static_cast<int64_t>(neuron[i]);
      const T* wb = wa + c4;
      double* to = bins + 3 * c4 * static_cast<int64_t>(bin[i]);
      const double za = __builtin_fabs(static_cast<double>(z_a[i]));
      const double zb = __builtin_fabs(static_cast<double>(z_b[i]));
      if (births) births[bin[i]] += z_b[i] > 0 ? 1 : -1;
      for (int64_t o = 0; o < c4; o += 4) {
        Four<T> narrow_a, narrow_b;
        Four<double> F_a, F_b, F_c;
        memcpy(&narrow_a, wa + o, sizeof narrow_a);
        memcpy(&narrow_b, wb + o, sizeof narrow_b);
        memcpy(&F_a, to + o, sizeof F_a);
        memcpy(&F_b, to + c4 + o, sizeof F_b);
        memcpy(&F_c, to + 2 * c4 + o, sizeof F_c);
        const auto a = __builtin_convertvector(narrow_a, Four<double>);
        const auto b = __builtin_convertvector(narrow_b, Four<double>);
        F_a -= za * a;
        F_b += zb * b;
        F_c += (za + zb) * (a - b);
        memcpy(to + o, &F_a, sizeof F_a);
        memcpy(to + c4 + o, &F_b, sizeof F_b);
        memcpy(to + 2 * c4 + o, &F_c, sizeof F_c);
      }
    }
  }
};

}  // namespace lmc::LMC_TARGET
