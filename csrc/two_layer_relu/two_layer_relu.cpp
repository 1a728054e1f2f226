// SPDX-License-Identifier: MIT
// Bindings of two_layer_relu: checks, then the kernels of the CPU target in use.
#include "two_layer_relu/two_layer_relu.h"

#include "common/bindings.h"
#include "common/tensor_view.h"

namespace lmc::two_layer_relu {
namespace {

LMC_DEFINE_KERNELS()

// Sizes from the arrays that fix them; every other array is then checked against these.
Sizes read_sizes(const TensorView& x, const TensorView& w1, const TensorView& w2) {
  w1.require_ndim(3, "(S, m, d)");
  w2.require_ndim(3, "(S, c, m)");
  if (x.ndim() != 2 && x.ndim() != 3)
    x.fail("must be (n, d) or (S, n, d); got shape " + x.shape_string());
  Sizes z{};
  z.S = w1.size(0);
  z.m = w1.size(1);
  z.d = w1.size(2);
  z.c = w2.size(1);
  z.x_shared = x.ndim() == 2;
  z.n = x.size(z.x_shared ? 0 : 1);
  if (z.c < 1)
    w2.fail("must have at least one output, (S, c, m) with c >= 1; got " + w2.shape_string());
  return z;
}

std::vector<int64_t> x_shape(const Sizes& z) {
  return z.x_shared ? std::vector<int64_t>{z.n, z.d} : std::vector<int64_t>{z.S, z.n, z.d};
}

void forward(py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_, py::handle b2_,
             py::handle f_, py::handle signs_, int threads) {
  TensorView x(x_, "x"), w1(w1_, "w1"), w2(w2_, "w2"), f(f_, "f");
  std::vector<TensorView> others;
  others.reserve(3);
  const Sizes z = read_sizes(x, w1, w2);
  checked_threads(threads);
  with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Forward<T> p{};
    p.sizes = z;
    p.x = x.input<T>(x_shape(z));
    p.w1 = w1.input<T>({z.S, z.m, z.d});
    p.b1 = optional_input<T>(b1_, "b1", {z.S, z.m}, others);
    p.w2 = w2.input<T>({z.S, z.c, z.m});
    p.b2 = optional_input<T>(b2_, "b2", {z.S, z.c}, others);
    p.f = f.output<T>({z.S, z.n, z.c});
    p.signs = optional_output<uint64_t>(signs_, "signs", {z.S, words_per_sample(z.m), z.n}, others);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.forward(p, threads);
  });
}

void backward(py::handle df_, py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_,
              py::handle signs_, py::handle dx_, py::handle dw1_, py::handle db1_, py::handle dw2_,
              py::handle db2_, int threads) {
  TensorView df(df_, "df"), x(x_, "x"), w1(w1_, "w1"), w2(w2_, "w2"), signs(signs_, "signs");
  std::vector<TensorView> others;
  others.reserve(6);
  const Sizes z = read_sizes(x, w1, w2);
  checked_threads(threads);
  if (!db1_.is_none() && b1_.is_none())
    throw py::value_error("db1 must be None when b1 is None; got an array");
  with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Backward<T> p{};
    p.sizes = z;
    p.df = df.input<T>({z.S, z.n, z.c});
    p.x = x.input<T>(x_shape(z));
    p.w1 = w1.input<T>({z.S, z.m, z.d});
    p.b1 = optional_input<T>(b1_, "b1", {z.S, z.m}, others);
    p.w2 = w2.input<T>({z.S, z.c, z.m});
    p.signs = signs.input<uint64_t>({z.S, words_per_sample(z.m), z.n});
    p.dx = optional_output<T>(dx_, "dx", {z.S, z.n, z.d}, others);
    p.dw1 = optional_output<T>(dw1_, "dw1", {z.S, z.m, z.d}, others);
    p.db1 = optional_output<T>(db1_, "db1", {z.S, z.m}, others);
    p.dw2 = optional_output<T>(dw2_, "dw2", {z.S, z.c, z.m}, others);
    p.db2 = optional_output<T>(db2_, "db2", {z.S, z.c}, others);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.backward(p, threads);
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("two_layer_relu_forward", &forward, arg("x"), arg("w1"), arg("b1"), arg("w2"), arg("b2"),
        arg("f"), arg("signs"), arg("threads"),
        "Writes the outputs to f and, unless it is None, the sign words to signs.");
  m.def("two_layer_relu_backward", &backward, arg("df"), arg("x"), arg("w1"), arg("b1"), arg("w2"),
        arg("signs"), arg("dx"), arg("dw1"), arg("db1"), arg("dw2"), arg("db2"), arg("threads"),
        "Writes the gradients that are not None; dx is (S, n, d) also when x is shared.");
}};

}  // namespace
}  // namespace lmc::two_layer_relu
