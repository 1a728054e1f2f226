// SPDX-License-Identifier: MIT
// The op's kernels, and their tables for the target the including file is compiled for. A problem
// is one task, solved by one thread: prices by a short auction, unless some are given or the
// problem is narrow; then exactly, by shortest paths; then the proof. Problems wider than kAlone
// have threads for the proof.
//
// Shortest paths are exact for any prices but for their rounding, which matters where prices are
// far larger than the costs that are assigned: those given for another problem, or an auction's
// where pairs are forbidden by huge costs. The proof then leaves something open, and the problem
// is solved again: without the prices given; then without any, from which paths of low cost never
// make large ones.
#pragma once

#include "assignment/assignment.h"
#include "assignment/auction-inl.h"
#include "assignment/certificate-inl.h"
#include "assignment/narrow-inl.h"
#include "assignment/search-inl.h"

namespace lmc::LMC_TARGET {

// What one worker solves with, one problem after the other.
class AssignmentSolver {
 public:
  LMC_INLINE AssignmentSolver(int64_t m, Interrupt& interrupt, int worker)
      : narrow_(is_narrow(m) ? m : 0),
        market_(is_narrow(m) ? 0 : m),
        search_(is_narrow(m) ? 0 : m),
        waiting_(m),
        zeros_(m),
        watch_(interrupt, worker) {
    for (int64_t j = 0; j < m; ++j) zeros_[j] = 0;
  }

  LMC_INLINE const double* no_prices() { return zeros_.data(); }

  // Writes the permutation and the prices v; nothing of meaning once the interrupt is requested.
  template <class Costs>
  LMC_INLINE void solve(const Costs& costs, const double* start, int64_t* perm, double* v) {
    if (is_narrow(costs.m)) {
      narrow_.solve(costs, start, perm, v, watch_);
      return;
    }
    Market<Costs> market(market_, costs, start, watch_);
    if (watch_.stopped()) return;
    if (!start) Auction<Costs>(market, waiting_.data(), watch_).run();
    if (!Search<Costs>(market, search_, watch_).run()) return;
    for (int64_t i = 0; i < costs.m; ++i) {
      perm[i] = market.column_of[i];
      v[i] = market.price(i);
    }
  }

 private:
  static LMC_INLINE bool is_narrow(int64_t m) { return m <= NarrowSolver::kWidest; }

  NarrowSolver narrow_;
  MarketMemory market_;
  SearchMemory search_;
  AlignedBuffer<int32_t> waiting_;  // (m): the auction's
  AlignedBuffer<double> zeros_;     // (m)
  Watch watch_;
};

inline constexpr int64_t kAlone = 1024;

template <class T>
class MatrixProblems {
 public:
  LMC_INLINE MatrixProblems(const assignment::Matrices<T>& given, int) : given_(given) {}
  LMC_INLINE MatrixCosts<T> costs(int64_t p, int) {
    return {given_.cost + p * given_.m * given_.m, given_.m};
  }

 private:
  const assignment::Matrices<T>& given_;
};

// Every worker has memory for one b transposed: costs are good until its next.
template <class T>
class FactorProblems {
 public:
  LMC_INLINE FactorProblems(const assignment::Factors<T>& given, int workers)
      : given_(given), columns_(workers * given.d * given.m) {}
  LMC_INLINE FactorCosts<T> costs(int64_t p, int worker) {
    const int64_t m = given_.m, d = given_.d;
    double* columns = &columns_[worker * d * m];
    const T* b = given_.b + p * m * d;
    for (int64_t j = 0; j < m; ++j)
      for (int64_t k = 0; k < d; ++k) columns[k * m + j] = static_cast<double>(b[j * d + k]);
    return {given_.a + p * m * d, columns, m, d};
  }

 private:
  const assignment::Factors<T>& given_;
  AlignedBuffer<double> columns_;  // (workers, d, m)
};

// Given is what Problems are made from.
template <class Problems, class Given>
void solve_all(const Given& given, int threads, Interrupt& interrupt) {
  const int64_t P = given.P, m = given.m;
  const double* start = given.start;
  const assignment::Results& r = given.results;
  const int workers = static_cast<int>(larger(1, smaller(threads, P)));
  Problems problems(given, workers);
  const auto solve_one = [&](AssignmentSolver& solver, int64_t p, int worker, int proof_threads) {
    const auto costs = problems.costs(p, worker);
    const Proof proof{r.perm + p * m,  r.v + p * m, r.u + p * m,
                      r.objective + p, r.gap + p,   r.violation + p};
    const auto done = [&](const double* prices) {
      solver.solve(costs, prices, r.perm + p * m, r.v + p * m);
      return interrupt.requested(worker) || prove(costs, proof, proof_threads, interrupt, worker) ||
             interrupt.requested(worker);
    };
    if (start && done(start + p * m)) return;
    if (!done(nullptr)) done(solver.no_prices());
  };
  if (workers == 1) {
    AssignmentSolver solver(m, interrupt, 0);
    for (int64_t p = 0; p < P; ++p) solve_one(solver, p, 0, m > kAlone ? threads : 1);
    return;
  }
  struct Solvers {
    AlignedBuffer<char> memory;
    int count = 0;
    LMC_INLINE explicit Solvers(int size)
        : memory(size * static_cast<int64_t>(sizeof(AssignmentSolver))) {}
    LMC_INLINE AssignmentSolver* at(int i) {
      return reinterpret_cast<AssignmentSolver*>(memory.data()) + i;
    }
    LMC_INLINE ~Solvers() {
      while (count > 0) at(--count)->~AssignmentSolver();
    }
  } solvers(workers);
  for (; solvers.count < workers; ++solvers.count)
    new (solvers.at(solvers.count)) AssignmentSolver(m, interrupt, solvers.count);
  const WhileWaiting poll{[](void* context) { static_cast<Interrupt*>(context)->poll_now(); },
                          &interrupt, Interrupt::kPollMilliseconds};
  for_each_task(
      P, workers,
      [&](int64_t p, int worker) {
        if (!interrupt.requested(worker)) solve_one(*solvers.at(worker), p, worker, 1);
      },
      &poll);
}

template <class T>
void solve_matrices(const assignment::Matrices<T>& given, int threads, Interrupt& interrupt) {
  solve_all<MatrixProblems<T>>(given, threads, interrupt);
}

template <class T>
void solve_factors(const assignment::Factors<T>& given, int threads, Interrupt& interrupt) {
  solve_all<FactorProblems<T>>(given, threads, interrupt);
}

template <class T>
int64_t first_unfit(const T* values, int64_t n, double largest, int threads) {
  constexpr int64_t kBlock = 1 << 16;
  const int64_t blocks = ceil_div(n, kBlock);
  AlignedBuffer<bool> fit(blocks);
  // A NaN is no smaller than anything.
  const auto is_fit = [&](T value) {
    const double size = static_cast<double>(value < 0 ? -value : value);
    return size <= largest;
  };
  for_each_task(blocks, threads, [&](int64_t block, int) {
    constexpr int64_t L = kLanes<double>;
    const int64_t last = smaller(n, (block + 1) * kBlock);
    int64_t e = block * kBlock;
    IntVec<double> all = IntVec<double>{} - 1;
    for (; e + L <= last; e += L) {
      const Vec<double> value = load_double(values + e);
      all &= (value <= largest) & (value >= -largest);
    }
    bool fits = true;
    for (int l = 0; l < L; ++l) fits &= all[l] != 0;
    for (; e < last; ++e) fits &= is_fit(values[e]);
    fit[block] = fits;
  });
  for (int64_t block = 0; block < blocks; ++block)
    if (!fit[block])
      for (int64_t e = block * kBlock;; ++e)
        if (!is_fit(values[e])) return e;
  return -1;
}

}  // namespace lmc::LMC_TARGET

namespace lmc::assignment::LMC_TARGET {

using namespace lmc::LMC_TARGET;

extern const Kernels<float> kernels_float32{first_unfit<float>, solve_matrices<float>,
                                            solve_factors<float>};
extern const Kernels<double> kernels_float64{first_unfit<double>, solve_matrices<double>,
                                             solve_factors<double>};

}  // namespace lmc::assignment::LMC_TARGET
