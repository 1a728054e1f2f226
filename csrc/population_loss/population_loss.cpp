// SPDX-License-Identifier: MIT
// Bindings of population_loss: checks, then the kernels of the CPU target in use.
#include "population_loss/population_loss.h"

#include "common/bindings.h"
#include "common/cuda_call.h"
#include "common/parallel.h"
#include "common/tensor_view.h"
#include "population_loss/population_loss_cuda.h"

namespace lmc::population_loss {
namespace {

// Sizes from w1 (S,m,d), w2 (S,c,m) and v1 (M,d); every other array is then checked against these.
Sizes read_sizes(const TensorView& w1, const TensorView& w2, const TensorView& v1) {
  w1.require_ndim(3, "(S, m, d)");
  w2.require_ndim(3, "(S, c, m)");
  v1.require_ndim(2, "(M, d)");
  return {w1.size(1), v1.size(0), w1.size(2), w2.size(1)};
}

// An arc-cosine kernel counts as 40 multiply-adds.
double multiply_adds(const Sizes& z, int64_t students) {
  return static_cast<double>(students) * z.m * (z.m / 2.0 + z.M) * (3 * z.d + z.c + 40);
}

// The arrays of a call, borrowed as long as this lives.
struct LossArrays {
  TensorView w1, w2, v1, v2, loss;
  py::handle dw1, dw2;
  std::vector<TensorView> others;

  LossArrays(py::handle w1_, py::handle w2_, py::handle v1_, py::handle v2_, py::handle loss_,
             py::handle dw1_, py::handle dw2_)
      : w1(w1_, "w1"),
        w2(w2_, "w2"),
        v1(v1_, "v1"),
        v2(v2_, "v2"),
        loss(loss_, "loss"),
        dw1(dw1_),
        dw2(dw2_) {
    others.reserve(2);
  }

  Loss read(double scale, dlpack::Device device) {
    Loss p{};
    p.sizes = read_sizes(w1, w2, v1);
    const auto [m, M, d, c] = p.sizes;
    p.S = w1.size(0);
    p.scale = scale;
    p.w1 = w1.input<double>({p.S, m, d}, device);
    p.w2 = w2.input<double>({p.S, c, m}, device);
    p.v1 = v1.input<double>({M, d}, device);
    p.v2 = v2.input<double>({c, M}, device);
    p.loss = loss.output<double>({p.S}, device);
    p.dw1 = optional_output<double>(dw1, "dw1", {p.S, m, d}, others, device);
    p.dw2 = optional_output<double>(dw2, "dw2", {p.S, c, m}, others, device);
    return p;
  }
};

void population_loss(py::handle w1, py::handle w2, py::handle v1, py::handle v2, double scale,
                     py::handle loss, py::handle dw1, py::handle dw2, int threads) {
  LossArrays arrays(w1, w2, v1, v2, loss, dw1, dw2);
  checked_threads(threads);
  const Loss p = arrays.read(scale, kCpu);
  const Kernels& table = LMC_SELECT_TABLE(kernels);
  py::gil_scoped_release release;
  table.loss(p, threads_for(multiply_adds(p.sizes, p.S), threads));
}

int64_t population_loss_cuda(py::handle w1, py::handle w2, py::handle v1, py::handle v2,
                             py::handle loss, py::handle dw1, py::handle dw2, py::handle workspace,
                             double scale, uintptr_t stream) {
  LossArrays arrays(w1, w2, v1, v2, loss, dw1, dw2);
  const Sizes z = read_sizes(arrays.w1, arrays.w2, arrays.v1);
  CudaCall call("population_loss", arrays.w1, {arrays.w1.size(0), z.m, z.M, z.d, z.c}, 0, stream);
  const Loss p = arrays.read(scale, call.device());
  return call.run<CudaFunction>("population_loss", p, workspace);
}

// The arrays of both path functions.
struct PathArrays {
  TensorView a1, a2, b1, b2, v1, v2, alphas;

  PathLosses read(double scale) {
    PathLosses p{};
    p.sizes = read_sizes(a1, a2, v1);
    const auto [m, M, d, c] = p.sizes;
    alphas.require_ndim(1, "(A,)");
    p.P = a1.size(0);
    p.A = alphas.size(0);
    p.scale = scale;
    p.a1 = a1.input<double>({p.P, m, d});
    p.a2 = a2.input<double>({p.P, c, m});
    p.b1 = b1.input<double>({p.P, m, d});
    p.b2 = b2.input<double>({p.P, c, m});
    p.v1 = v1.input<double>({M, d});
    p.v2 = v2.input<double>({c, M});
    p.alphas = alphas.input<double>({p.A});
    return p;
  }
};

void path_losses(py::handle a1, py::handle a2, py::handle b1, py::handle b2, py::handle v1,
                 py::handle v2, py::handle alphas, double scale, py::handle losses_, int threads) {
  PathArrays arrays{{a1, "a1"}, {a2, "a2"}, {b1, "b1"},        {b2, "b2"},
                    {v1, "v1"}, {v2, "v2"}, {alphas, "alphas"}};
  TensorView losses(losses_, "losses");
  PathLosses p = arrays.read(scale);
  checked_threads(threads);
  p.losses = losses.output<double>({p.P, p.A});
  const Kernels& table = LMC_SELECT_TABLE(kernels);
  py::gil_scoped_release release;
  table.path_losses(p, threads_for(multiply_adds(p.sizes, p.P * p.A), threads));
}

void path_backward(py::handle dlosses_, py::handle a1, py::handle a2, py::handle b1, py::handle b2,
                   py::handle v1, py::handle v2, py::handle alphas, double scale, py::handle da1_,
                   py::handle da2_, py::handle db1_, py::handle db2_, int threads) {
  PathArrays arrays{{a1, "a1"}, {a2, "a2"}, {b1, "b1"},        {b2, "b2"},
                    {v1, "v1"}, {v2, "v2"}, {alphas, "alphas"}};
  TensorView dlosses(dlosses_, "dlosses"), da1(da1_, "da1"), da2(da2_, "da2"), db1(db1_, "db1"),
      db2(db2_, "db2");
  PathBackward back{};
  back.path = arrays.read(scale);
  const auto [m, M, d, c] = back.path.sizes;
  const int64_t P = back.path.P;
  checked_threads(threads);
  back.dlosses = dlosses.input<double>({P, back.path.A});
  back.da1 = da1.output<double>({P, m, d});
  back.da2 = da2.output<double>({P, c, m});
  back.db1 = db1.output<double>({P, m, d});
  back.db2 = db2.output<double>({P, c, m});
  const Kernels& table = LMC_SELECT_TABLE(kernels);
  py::gil_scoped_release release;
  table.path_backward(back, threads_for(multiply_adds(back.path.sizes, P * back.path.A), threads));
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("population_loss", &population_loss, arg("w1"), arg("w2"), arg("v1"), arg("v2"),
        arg("scale"), arg("loss"), arg("dw1"), arg("dw2"), arg("threads"),
        "Writes the losses, and the gradients that are not None. All arrays are float64.");
  m.def("population_loss_cuda", &population_loss_cuda, arg("w1"), arg("w2"), arg("v1"), arg("v2"),
        arg("loss"), arg("dw1"), arg("dw2"), arg("workspace"), arg("scale"), arg("stream"),
        "The same on a CUDA device; workspace and stream as in two_layer_relu_forward_cuda.");
  m.def("population_path_losses", &path_losses, arg("a1"), arg("a2"), arg("b1"), arg("b2"),
        arg("v1"), arg("v2"), arg("alphas"), arg("scale"), arg("losses"), arg("threads"),
        "Writes the losses (P, A). All arrays are float64.");
  m.def("population_path_losses_backward", &path_backward, arg("dlosses"), arg("a1"), arg("a2"),
        arg("b1"), arg("b2"), arg("v1"), arg("v2"), arg("alphas"), arg("scale"), arg("da1"),
        arg("da2"), arg("db1"), arg("db2"), arg("threads"),
        "Writes the gradients of sum(dlosses * losses) to both networks' weights.");
}};

}  // namespace
}  // namespace lmc::population_loss
