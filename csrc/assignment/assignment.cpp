// SPDX-License-Identifier: MIT
// Bindings of assignment: checks, then the kernels of the CPU target in use.
#include "assignment/assignment.h"

#include <cmath>

#include "common/bindings.h"
#include "common/parallel.h"
#include "common/signals.h"
#include "common/tensor_view.h"

namespace lmc::assignment {
namespace {

LMC_DEFINE_KERNELS()

// The arrays that are written, borrowed as long as this lives.
struct ResultArrays {
  TensorView perm, objective, u, v, gap, violation;

  Results read(int64_t P, int64_t m) {
    return {perm.output<int64_t>({P, m}), objective.output<double>({P}),
            u.output<double>({P, m}),     v.output<double>({P, m}),
            gap.output<double>({P}),      violation.output<double>({P})};
  }
};

void check_columns(const TensorView& array, int64_t m) {
  if (m > kMostColumns) array.fail("must have at most 2^24 columns; got " + std::to_string(m));
}

// Raises unless all values of a checked array are finite and at most `largest` in size; `remedy` is
// for NaN and infinity.
template <class T>
void check_values(const TensorView& array, const T* values, double largest, const char* remedy,
                  int threads) {
  int64_t n = 1;
  for (int axis = 0; axis < array.ndim(); ++axis) n *= array.size(axis);
  int64_t at;
  {
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    at = table.first_unfit(values, n, largest, threads_for(static_cast<double>(n), threads));
  }
  if (at < 0) return;
  const double value = static_cast<double>(values[at]);
  std::string index;
  for (int axis = array.ndim() - 1; axis >= 0; at /= array.size(axis--))
    index = std::to_string(at % array.size(axis)) + (index.empty() ? "" : ", ") + index;
  if (std::isfinite(value)) remedy = "Scale it down";
  array.fail("must be finite and at most " + std::string(py::str(py::float_(largest))) +
             " in size; got " + std::string(py::str(py::float_(value))) + " at [" + index + "]. " +
             remedy);
}

const double* read_start(py::handle start, int64_t P, int64_t m, std::vector<TensorView>& others,
                         int threads) {
  const double* values = optional_input<double>(start, "start", {P, m}, others);
  if (values)
    check_values(others.back(), values, kLargest,
                 "Take the v of a problem that is solved, or no start", threads);
  return values;
}

template <class Problem, class Solve>
void run(Solve solve, const Problem& problem, double work, int threads) {
  Interrupt interrupt(signal_raised);
  {
    py::gil_scoped_release release;
    solve(problem, threads_for(work, threads), interrupt);
  }
  if (interrupt.requested()) throw py::error_already_set();
}

void assignment(py::handle cost_, py::handle start, py::handle perm, py::handle objective,
                py::handle u, py::handle v, py::handle gap, py::handle violation, int threads) {
  TensorView cost(cost_, "cost");
  ResultArrays results{{perm, "perm"}, {objective, "objective"}, {u, "u"}, {v, "v"},
                       {gap, "gap"},   {violation, "violation"}};
  std::vector<TensorView> others;
  others.reserve(1);
  checked_threads(threads);
  cost.require_ndim(3, "(P, m, m)");
  with_float_type(cost, [&](auto zero) {
    using T = decltype(zero);
    Matrices<T> p{};
    p.P = cost.size(0);
    p.m = cost.size(2);
    check_columns(cost, p.m);
    p.cost = cost.input<T>({p.P, p.m, p.m});
    p.results = results.read(p.P, p.m);
    check_values(cost, p.cost, kLargest, "Forbid a pair by a cost that is large, but finite",
                 threads);
    p.start = read_start(start, p.P, p.m, others, threads);
    run(kernels<T>().solve_matrices, p, 8.0 * p.P * p.m * p.m, threads);
  });
}

void assignment_factors(py::handle a_, py::handle b_, py::handle start, py::handle perm,
                        py::handle objective, py::handle u, py::handle v, py::handle gap,
                        py::handle violation, int threads) {
  TensorView a(a_, "a"), b(b_, "b");
  ResultArrays results{{perm, "perm"}, {objective, "objective"}, {u, "u"}, {v, "v"},
                       {gap, "gap"},   {violation, "violation"}};
  std::vector<TensorView> others;
  others.reserve(1);
  checked_threads(threads);
  a.require_ndim(3, "(P, m, d)");
  with_float_type(a, [&](auto zero) {
    using T = decltype(zero);
    Factors<T> p{};
    p.P = a.size(0);
    p.m = a.size(1);
    p.d = a.size(2);
    check_columns(a, p.m);
    p.a = a.input<T>({p.P, p.m, p.d});
    p.b = b.input<T>({p.P, p.m, p.d});
    p.results = results.read(p.P, p.m);
    // So that no product's size exceeds kLargest.
    const double largest = std::sqrt(kLargest / static_cast<double>(p.d > 0 ? p.d : 1));
    const char* const remedy = "Look for what made it, or leave it out";
    check_values(a, p.a, largest, remedy, threads);
    check_values(b, p.b, largest, remedy, threads);
    p.start = read_start(start, p.P, p.m, others, threads);
    run(kernels<T>().solve_factors, p, 8.0 * p.P * p.m * p.m * (p.d + 1), threads);
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("assignment", &assignment, arg("cost"), arg("start"), arg("perm"), arg("objective"),
        arg("u"), arg("v"), arg("gap"), arg("violation"), arg("threads"),
        "Assigns the P problems of cost (P, m, m), float32 or float64; results are int64 and "
        "float64.");
  m.def("assignment_factors", &assignment_factors, arg("a"), arg("b"), arg("start"), arg("perm"),
        arg("objective"), arg("u"), arg("v"), arg("gap"), arg("violation"), arg("threads"),
        "The same for costs -a b^T, a and b (P, m, d), of which no matrix is made.");
}};

}  // namespace
}  // namespace lmc::assignment
