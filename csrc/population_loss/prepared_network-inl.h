// SPDX-License-Identifier: MIT
// A network's neurons as directions and lengths, in the layouts the population loss reads.
#pragma once

#include "common/math-inl.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kMostRows = 12;  // accumulators of a product

// Rows of a product, in equal groups of at most kMostRows.
struct RowGroups {
  int64_t count;
  int64_t groups() const { return larger(1, ceil_div(count, kMostRows)); }
  int64_t rows() const { return ceil_div(count, groups()); }
  int64_t total() const { return groups() * rows(); }
};

// The sizes of one network's prepared form; see PreparedNetwork.
struct NetworkSizes {
  int64_t m, d, c;
  int64_t padded() const { return round_up(m, kLanes<double>); }
  RowGroups inputs() const { return {d}; }
  RowGroups outputs() const { return {c}; }
  int64_t doubles() const {
    return padded() * (d + 1 + 2 * c + inputs().total() + (c > 1 ? outputs().total() : 0));
  }
};

// In memory of sizes.doubles() doubles. Padding neurons are zero, and a zero neuron has length 0
// and direction 0: its angles are then meaningless but finite, and all its products exactly zero.
struct PreparedNetwork {
  NetworkSizes sizes;
  int64_t padded;
  double* unit;    // (d,padded)
  double* norm;    // (padded)
  double* w2;      // (c,padded)
  double* weight;  // (c,padded): w2 * norm
  // As products read them: (groups,padded,rows).
  double* unit_panels;    // unit, times the weight where there is one output
  double* weight_panels;  // weight, where there are more

  LMC_INLINE PreparedNetwork(const NetworkSizes& z, double* memory)
      : sizes(z),
        padded(z.padded()),
        unit(memory),
        norm(unit + z.d * padded),
        w2(norm + padded),
        weight(w2 + z.c * padded),
        unit_panels(weight + z.c * padded),
        weight_panels(unit_panels + z.inputs().total() * padded) {}

  // Fills in neurons [first, last), multiples of the lanes (last may be `padded`), from w1 (m,d),
  // w2 (c,m).
  void prepare(int64_t first, int64_t last, const double* w1, const double* w2_in) {
    const int64_t real = smaller(last, sizes.m);
    for (int64_t i = first; i < last; ++i)
      for (int64_t k = 0; k < sizes.d; ++k)
        unit[k * padded + i] = i < real ? w1[i * sizes.d + k] : 0.0;
    for (int64_t o = 0; o < sizes.c; ++o)
      for (int64_t i = first; i < last; ++i)
        w2[o * padded + i] = i < real ? w2_in[o * sizes.m + i] : 0.0;
    for (int64_t i = first; i < last; i += kLanes<double>) normalise(i);
    if (sizes.c == 1) {
      pack(sizes.inputs(), first, last, unit_panels, [&](int64_t i, int64_t k) {
        return i < real ? w2[i] * w1[i * sizes.d + k] : 0.0;  // norm * unit is the neuron itself
      });
      return;
    }
    pack(sizes.inputs(), first, last, unit_panels,
         [&](int64_t i, int64_t k) { return unit[k * padded + i]; });
    pack(sizes.outputs(), first, last, weight_panels,
         [&](int64_t i, int64_t o) { return weight[o * padded + i]; });
  }

  // From here on the network's terms count negatively.
  void negate() {
    negate(sizes.c, weight);
    sizes.c == 1 ? negate(sizes.inputs().total(), unit_panels)
                 : negate(sizes.outputs().total(), weight_panels);
  }

 private:
  template <class Value>
  LMC_INLINE void pack(const RowGroups& g, int64_t first, int64_t last, double* panels,
                       const Value& value) {
    const int64_t rows = g.rows();
    for (int64_t k = 0; k < g.count; k += rows) {
      double* panel = panels + k * padded;
      const int64_t used = smaller(rows, g.count - k);
      for (int64_t i = first; i < last; ++i)
        for (int64_t r = 0; r < rows; ++r) panel[i * rows + r] = r < used ? value(i, k + r) : 0.0;
    }
  }
  LMC_INLINE void negate(int64_t rows, double* values) {
    for (int64_t e = 0; e < rows * padded; ++e) values[e] = -values[e];
  }
  LMC_INLINE void normalise(int64_t i) {
    double* u = unit + i;
    Vec<double> largest{};
    for (int64_t k = 0; k < sizes.d; ++k) {
      const Vec<double> lanes = load(u + k * padded), size = lanes < 0 ? -lanes : lanes;
      largest = size > largest ? size : largest;
    }
    // Squares of huge or tiny components leave float64's range; a power of two brings them back
    // exactly.
    const auto huge = largest > 0x1p500, tiny = largest < 0x1p-500;
    const Vec<double> up = broadcast(0x1p600), down = broadcast(0x1p-600), one = broadcast(1.0);
    const Vec<double> power = huge ? down : (tiny ? up : one);
    Vec<double> square{};
    for (int64_t k = 0; k < sizes.d; ++k) {
      const Vec<double> scaled = power * load(u + k * padded);
      square += scaled * scaled;
    }
    const Vec<double> root = square_root(square), inverse = 1.0 / root;
    const Vec<double> length = root * (huge ? up : (tiny ? down : one));
    store(norm + i, length);
    const auto dead = square == 0;  // false for NaN, which thus reaches the loss
    for (int64_t k = 0; k < sizes.d; ++k) {
      const Vec<double> direction = power * load(u + k * padded) * inverse;
      store(u + k * padded, dead ? Vec<double>{} : direction);
    }
    for (int64_t o = 0; o < sizes.c; ++o)
      store(weight + o * padded + i, load(w2 + o * padded + i) * length);
  }
};

}  // namespace lmc::LMC_TARGET
