// SPDX-License-Identifier: MIT
// Bindings of path_losses: checks, then the kernel of the CPU target in use.
#include "path_losses/path_losses.h"

#include "common/bindings.h"
#include "common/cuda_call.h"
#include "common/parallel.h"
#include "common/tensor_view.h"
#include "path_losses/path_losses_cuda.h"

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
  Networks<T> read(const Arguments<T>& p, dlpack::Device device) {
    return {w1.input<T>({p.P, p.m, p.d}, device),
            optional_input<T>(b1, b1_name, {p.P, p.m}, biases, device),
            w2.input<T>({p.P, p.c, p.m}, device),
            optional_input<T>(b2, b2_name, {p.P, p.c}, biases, device)};
  }
};

void check_alphas(const TensorView& view, const double* alphas, int64_t A) {
  for (int64_t k = 0; k < A; ++k)
    if (!(alphas[k] >= (k == 0 ? 0.0 : alphas[k - 1]) && alphas[k] <= 1.0))
      view.fail("must lie in [0, 1] in ascending order; got " + std::to_string(alphas[k]) +
                " at index " + std::to_string(k));
}

// The arrays of a call, borrowed as long as this lives. y is (n, c) of the networks' type for
// squared loss; for cross entropy, where accuracies are wanted, it is int64 labels (n).
struct PathArrays {
  NetworkViews a, b;
  TensorView x, y, alphas, losses;
  py::handle accuracies;
  std::vector<TensorView> others;

  PathArrays(py::handle w1_a, py::handle b1_a, py::handle w2_a, py::handle b2_a, py::handle w1_b,
             py::handle b1_b, py::handle w2_b, py::handle b2_b, py::handle x_, py::handle y_,
             py::handle alphas_, py::handle losses_, py::handle accuracies_)
      : a(w1_a, b1_a, w2_a, b2_a, {"w1_a", "b1_a", "w2_a", "b2_a"}),
        b(w1_b, b1_b, w2_b, b2_b, {"w1_b", "b1_b", "w2_b", "b2_b"}),
        x(x_, "x"),
        y(y_, "y"),
        alphas(alphas_, "alphas"),
        losses(losses_, "losses"),
        accuracies(accuracies_) {
    others.reserve(1);
    a.w1.require_ndim(3, "(P, m, d)");
    a.w2.require_ndim(3, "(P, c, m)");
    x.require_ndim(2, "(n, d)");
    alphas.require_ndim(1, "(A,)");
  }

  // What the arrays hold is checked where that needs no waiting for a device.
  template <class T>
  Arguments<T> read(dlpack::Device device) {
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
    p.a = a.read(p, device);
    p.b = b.read(p, device);
    p.x = x.input<T>({p.n, p.d}, device);
    p.alphas = alphas.input<double>({p.A}, device);
    p.losses = losses.output<double>({p.P, p.A}, device);
    p.accuracies = optional_output<double>(accuracies, "accuracies", {p.P, p.A}, others, device);
    const bool on_cpu = device.type == dlpack::kCpu;
    if (on_cpu) check_alphas(alphas, p.alphas, p.A);
    if (!p.accuracies)
      p.y = y.input<T>({p.n, p.c}, device);
    else
      p.labels = on_cpu ? y.labels({p.n}, p.c) : y.input<int64_t>({p.n}, device);
    return p;
  }
};

void path_losses(py::handle w1_a, py::handle b1_a, py::handle w2_a, py::handle b2_a,
                 py::handle w1_b, py::handle b1_b, py::handle w2_b, py::handle b2_b, py::handle x,
                 py::handle y, py::handle alphas, py::handle losses, py::handle accuracies,
                 int threads) {
  PathArrays arrays(w1_a, b1_a, w2_a, b2_a, w1_b, b1_b, w2_b, b2_b, x, y, alphas, losses,
                    accuracies);
  checked_threads(threads);
  with_float_type(arrays.a.w1, [&](auto zero) {
    using T = decltype(zero);
    const Arguments<T> p = arrays.read<T>(kCpu);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    const double work = static_cast<double>(p.P) * p.n * (2 * p.m * (p.d + p.c) + p.A * p.c);
    table.path_losses(p, threads_for(work, threads));
  });
}

int64_t path_losses_cuda(py::handle w1_a, py::handle b1_a, py::handle w2_a, py::handle b2_a,
                         py::handle w1_b, py::handle b1_b, py::handle w2_b, py::handle b2_b,
                         py::handle x, py::handle y, py::handle alphas, py::handle losses,
                         py::handle accuracies, py::handle workspace, int terms, uintptr_t stream) {
  PathArrays arrays(w1_a, b1_a, w2_a, b2_a, w1_b, b1_b, w2_b, b2_b, x, y, alphas, losses,
                    accuracies);
  return with_float_type(arrays.a.w1, [&](auto zero) {
    using T = decltype(zero);
    CudaCall call("path_losses", arrays.a.w1,
                  {arrays.a.w1.size(0), arrays.a.w1.size(1), arrays.a.w1.size(2),
                   arrays.a.w2.size(1), arrays.x.size(0), arrays.alphas.size(0)},
                  terms, stream);
    const Arguments<T> p = arrays.read<T>(call.device());
    return call.run<CudaFunction<T>>("path_losses", p, workspace);
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("path_losses", &path_losses, arg("w1_a"), arg("b1_a"), arg("w2_a"), arg("b2_a"),
        arg("w1_b"), arg("b1_b"), arg("w2_b"), arg("b2_b"), arg("x"), arg("y"), arg("alphas"),
        arg("losses"), arg("accuracies"), arg("threads"),
        "Writes the losses (P, A); with accuracies (P, A) they are cross entropies and y holds "
        "labels.");
  m.def("path_losses_cuda", &path_losses_cuda, arg("w1_a"), arg("b1_a"), arg("w2_a"), arg("b2_a"),
        arg("w1_b"), arg("b1_b"), arg("w2_b"), arg("b2_b"), arg("x"), arg("y"), arg("alphas"),
        arg("losses"), arg("accuracies"), arg("workspace"), arg("terms"), arg("stream"),
        "The same on a CUDA device; workspace and stream as in two_layer_relu_forward_cuda. What "
        "alphas and labels hold is not checked.");
}};

}  // namespace
}  // namespace lmc::path_losses
