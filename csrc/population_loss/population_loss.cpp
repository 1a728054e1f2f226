// SPDX-License-Identifier: MIT
// Bindings of population_loss: checks, then the kernels of the CPU target in use.
#include "population_loss/population_loss.h"

#include "common/bindings.h"
#include "common/parallel.h"
#include "common/tensor_view.h"

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
  return static_cast<double>(students) * z.m * (z.m + z.M) * (2 * z.d + z.c + 40);
}

void population_loss(py::handle w1_, py::handle w2_, py::handle v1_, py::handle v2_, double scale,
                     py::handle loss_, py::handle dw1_, py::handle dw2_, int threads) {
  TensorView w1(w1_, "w1"), w2(w2_, "w2"), v1(v1_, "v1"), v2(v2_, "v2"), loss(loss_, "loss");
  std::vector<TensorView> others;
  others.reserve(2);
  Loss p{};
  p.sizes = read_sizes(w1, w2, v1);
  const auto [m, M, d, c] = p.sizes;
  checked_threads(threads);
  p.S = w1.size(0);
  p.scale = scale;
  p.w1 = w1.input<double>({p.S, m, d});
  p.w2 = w2.input<double>({p.S, c, m});
  p.v1 = v1.input<double>({M, d});
  p.v2 = v2.input<double>({c, M});
  p.loss = loss.output<double>({p.S});
  p.dw1 = optional_output<double>(dw1_, "dw1", {p.S, m, d}, others);
  p.dw2 = optional_output<double>(dw2_, "dw2", {p.S, c, m}, others);
  const Kernels& table = LMC_SELECT_TABLE(kernels);
  py::gil_scoped_release release;
  table.loss(p, threads_for(multiply_adds(p.sizes, p.S), threads));
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
