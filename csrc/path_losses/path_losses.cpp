// SPDX-License-Identifier: MIT
// Bindings of path_losses: checks, then the kernel of the CPU target in use.
#include "path_losses/path_losses.h"

#include "common/bindings.h"
#include "common/parallel.h"
#include "common/tensor_view.h"

namespace lmc::path_losses {
namespace {

LMC_DEFINE_KERNELS()

// The arrays of one of the two networks, checked against the sizes.
struct NetworkViews {
  TensorView w1, w2;
  std::vector<TensorView> biases;
  py::handle b1, b2;
  const char *b1_name, *b2_name;

  NetworkViews(py::handle w1_, py::handle b1_, py::handle w2_, py::handle b2_,
               const char* const (&names)[4])
      : w1(w1_, names[0]),
        w2(w2_, names[2]),
        b1(b1_),
        b2(b2_),
        b1_name(names[1]),
        b2_name(names[3]) {
    biases.reserve(2);
  }
  template <class T>
  Networks<T> read(const Arguments<T>& p) {
    return {w1.input<T>({p.P, p.m, p.d}), optional_input<T>(b1, b1_name, {p.P, p.m}, biases),
            w2.input<T>({p.P, p.c, p.m}), optional_input<T>(b2, b2_name, {p.P, p.c}, biases)};
  }
};

void check_alphas(const TensorView& view, const double* alphas, int64_t A) {
  for (int64_t k = 0; k < A; ++k)
    if (!(alphas[k] >= (k == 0 ? 0.0 : alphas[k - 1]) && alphas[k] <= 1.0))
      view.fail("must lie in [0, 1] in ascending order; got " + std::to_string(alphas[k]) +
                " at index " + std::to_string(k));
}

// y is (n, c) of the networks' type for squared loss; for cross entropy, where accuracies are
// wanted, it is int64 labels (n).
void path_losses(py::handle w1_a, py::handle b1_a, py::handle w2_a, py::handle b2_a,
                 py::handle w1_b, py::handle b1_b, py::handle w2_b, py::handle b2_b, py::handle x_,
                 py::handle y_, py::handle alphas_, py::handle losses_, py::handle accuracies_,
                 int threads) {
  NetworkViews a(w1_a, b1_a, w2_a, b2_a, {"w1_a", "b1_a", "w2_a", "b2_a"});
  NetworkViews b(w1_b, b1_b, w2_b, b2_b, {"w1_b", "b1_b", "w2_b", "b2_b"});
  TensorView x(x_, "x"), y(y_, "y"), alphas(alphas_, "alphas"), losses(losses_, "losses");
  std::vector<TensorView> others;
  others.reserve(1);
  a.w1.require_ndim(3, "(P, m, d)");
  a.w2.require_ndim(3, "(P, c, m)");
  x.require_ndim(2, "(n, d)");
  alphas.require_ndim(1, "(A,)");
  checked_threads(threads);
  with_float_type(a.w1, [&](auto zero) {
    using T = decltype(zero);
    Arguments<T> p{};
    p.P = a.w1.size(0);
    p.m = a.w1.size(1);
    p.d = a.w1.size(2);
    p.c = a.w2.size(1);
    p.n = x.size(0);
    p.A = alphas.size(0);
    if (p.c < 1) a.w2.fail("must have at least one output, (P, c, m) with c >= 1");
    if (p.n < 1) x.fail("must have at least one sample: a mean over none is undefined");
    if (p.A < 1) alphas.fail("must hold at least one point");
    p.a = a.read(p);
    p.b = b.read(p);
    p.x = x.input<T>({p.n, p.d});
    p.alphas = alphas.input<double>({p.A});
    check_alphas(alphas, p.alphas, p.A);
    p.losses = losses.output<double>({p.P, p.A});
    p.accuracies = optional_output<double>(accuracies_, "accuracies", {p.P, p.A}, others);
    if (p.accuracies) {
      p.labels = y.labels({p.n}, p.c);
    } else {
      p.y = y.input<T>({p.n, p.c});
    }
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    const double work = static_cast<double>(p.P) * p.n * (2 * p.m * (p.d + p.c) + p.A * p.c);
    table.path_losses(p, threads_for(work, threads));
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("path_losses", &path_losses, arg("w1_a"), arg("b1_a"), arg("w2_a"), arg("b2_a"),
        arg("w1_b"), arg("b1_b"), arg("w2_b"), arg("b2_b"), arg("x"), arg("y"), arg("alphas"),
        arg("losses"), arg("accuracies"), arg("threads"),
        "Writes the losses (P, A); with accuracies (P, A) they are cross entropies and y holds "
        "labels.");
}};

}  // namespace
}  // namespace lmc::path_losses
