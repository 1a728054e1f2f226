// SPDX-License-Identifier: MIT
// A block's bins and sums, and what becomes of them after the last neuron: sums along the bins (a
// thread owns a sample and coefficient), losses (a thread owns a sample and alpha), and their sums
// over the samples of a unit, in order (a thread owns a unit and alpha).
//
// Bins in shared memory lie with the samples side by side: neighbouring threads own neighbouring
// samples, and reach all banks whatever their bins are. Bins in the workspace lie with a sample's
// coefficients side by side, and neighbouring threads own those.
#pragma once

#include "path_losses/path_memory.cuh"

namespace lmc::path_losses {

// Equal ends without crossings give exactly their value.
LMC_HOST_DEVICE inline double blend(double alpha, double F_a, double F_b, double F_c) {
  return F_a + alpha * ((F_b - F_a) + (1.0 - alpha) * F_c);
}

template <class Tile, bool Inside>
class PathBins {
  using T = typename Tile::Value;
  static constexpr int kHeight = Tile::kTileRows;
  using P = PathKernel<typename Tile::Element, T>;

 public:
  __device__ PathBins(const P& p, double* shared_bins)
      : p_(p),
        pair_(blockIdx.y),
        first_row_((p.first_block + blockIdx.x) * kHeight),
        c_(static_cast<int>(p.c)),
        A_(static_cast<int>(p.A)),
        width_(static_cast<int>(coefficients(p.c, p.count_active))),
        row_size_((p.A + 1) * width_) {
    const int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    if constexpr (Inside)
      bins_ = shared_bins;
    else
      bins_ = p.bins + block * kHeight * row_size_;
    sums_ = p.sums + block * 5 * p.c * kHeight;
  }

  __device__ void start() {
    for (int64_t e = threadIdx.x; e < kHeight * row_size_; e += kThreads) bins_[e] = 0;
    for (int64_t e = threadIdx.x; e < 5 * p_.c * kHeight; e += kThreads) sums_[e] = 0;
  }

  __device__ double& sum(int which, int64_t o, int64_t row) {
    return sums_[(which * p_.c + o) * kHeight + row];
  }
  __device__ double& bin(int64_t row, int64_t k, int64_t coefficient) {
    return bins_[Inside ? (k * width_ + coefficient) * kHeight + row
                        : row * row_size_ + k * width_ + coefficient];
  }
  // From a bin of a coefficient to the next one.
  __device__ int stride() const { return Inside ? width_ * kHeight : width_; }

  // Behind a barrier and in front of none.
  __device__ void finish() {
    run_along_bins();
    __syncthreads();
    evaluate();
    __syncthreads();
    for (int64_t e = threadIdx.x; e < p_.A * (kHeight / kUnit); e += kThreads) {
      const int64_t unit = e / p_.A, k = e % p_.A;
      double loss = 0, correct = 0;
      for (int64_t row = unit * kUnit; row < (unit + 1) * kUnit && first_row_ + row < p_.n; ++row) {
        loss += bin(row, k, 0);
        correct += bin(row, k, 1);
      }
      const int64_t place = first_row_ / kUnit + unit;
      if (place >= p_.units) break;
      const int64_t at = (pair_ * p_.units + place) * p_.A + k;
      p_.losses[at] = loss;
      if (p_.correct) p_.correct[at] = correct;
    }
  }

 private:
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
    for (int e = threadIdx.x; e < kHeight * width_; e += kThreads) {
      const int row = Inside ? e % kHeight : e / width_;
      const int coefficient = Inside ? e / kHeight : e % width_;
      const int which = coefficient / c_, o = coefficient % c_;
      double* const terms = &bin(row, 0, coefficient);
      const int64_t step = stride();
      double running = 0;
      if (which == 0) running = end(0, o, row);
      if (which == 2) running = sum(2, o, row);
      if (which == 1) {
        for (int k = 0; k <= A_; ++k) running += terms[k * step];
        running = end(1, o, row) - running;
      }
      double next = terms[0];
      for (int k = 0; k < A_; ++k) {
        running += next;
        next = terms[(k + 1) * step];
        terms[k * step] = running;
      }
    }
  }

  __device__ double output(int64_t row, int64_t k, int64_t o) {
    const double alpha = p_.alphas[k];
    if (alpha == 0.0) return end(0, o, row);
    if (alpha == 1.0) return end(1, o, row);
    if (p_.count_active && bin(row, k, width_ - 1) == 0) {  // the biases, exactly
      const double a = p_.b2_a ? static_cast<double>(p_.b2_a[pair_ * p_.c + o]) : 0.0;
      const double b = p_.b2_b ? static_cast<double>(p_.b2_b[pair_ * p_.c + o]) : 0.0;
      return blend(alpha, a, b, 0.0);
    }
    return blend(alpha, bin(row, k, o), bin(row, k, p_.c + o), bin(row, k, 2 * p_.c + o));
  }

  // The loss of a sample at an alpha takes the place of its first coefficient, whether it is
  // classified right that of the second.
  __device__ void evaluate() {
    for (int64_t e = threadIdx.x; e < kHeight * p_.A; e += kThreads) {
      const int64_t row = Inside ? e % kHeight : e / p_.A, k = Inside ? e / kHeight : e % p_.A;
      const int64_t i = first_row_ + row;
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
      bin(row, k, 0) = loss;
      bin(row, k, 1) = correct;
    }
  }

  const P& p_;
  int64_t pair_, first_row_;
  int c_, A_, width_;
  int64_t row_size_;
  double *bins_, *sums_;
};

// The mean over samples. Thread (g, k) of a block adds up units g, g + kRuns, ... of alpha k in
// order, and thread (0, k) those runs in order. Block (x, y) owns 32 alphas of pair y.
struct MeanLosses {
  static constexpr int kAlphas = 32, kRuns = kThreads / kAlphas;
  int64_t units, A, n;
  const double *sums, *correct;  // (P, units, A); correct may be null
  double *losses, *accuracies;   // (P, A)
};

template <int>  // so that a header may define it
__global__ void __launch_bounds__(kThreads) mean_losses_kernel(MeanLosses p) {
  auto* const runs = reinterpret_cast<double*>(dynamic_shared());  // (2, kThreads)
  const int t = static_cast<int>(threadIdx.x);
  const int64_t k = int64_t{blockIdx.x} * MeanLosses::kAlphas + t % MeanLosses::kAlphas;
  const int64_t pair = blockIdx.y;
  double loss = 0, correct = 0;
  if (k < p.A)
    for (int64_t unit = t / MeanLosses::kAlphas; unit < p.units; unit += MeanLosses::kRuns) {
      const int64_t at = (pair * p.units + unit) * p.A + k;
      loss += p.sums[at];
      if (p.correct) correct += p.correct[at];
    }
  runs[t] = loss;
  runs[kThreads + t] = correct;
  __syncthreads();
  if (t >= MeanLosses::kAlphas || k >= p.A) return;
  loss = correct = 0;
  for (int run = 0; run < MeanLosses::kRuns; ++run) {
    loss += runs[run * MeanLosses::kAlphas + t];
    correct += runs[kThreads + run * MeanLosses::kAlphas + t];
  }
  p.losses[pair * p.A + k] = loss / static_cast<double>(p.n);
  if (p.correct) p.accuracies[pair * p.A + k] = correct / static_cast<double>(p.n);
}

}  // namespace lmc::path_losses
