// SPDX-License-Identifier: MIT
// Bindings of two_layer_relu: checks, then the kernels of the CPU target in use.
#include "two_layer_relu/two_layer_relu.h"

#include "common/bindings.h"
#include "common/parallel.h"
#include "common/tensor_view.h"

namespace lmc::two_layer_relu {
namespace {

LMC_DEFINE_KERNELS()

// Sizes from the arrays that fix them; every other array is then checked against these.
struct Shapes {
  Sizes sizes;
  bool stacked;

  Shapes(const TensorView& x, const TensorView& w1, const TensorView& w2) : sizes{} {
    stacked = w1.ndim() == 3;
    if (!stacked) w1.require_ndim(2, "(m, d) or (S, m, d)");
    w2.require_ndim(w1.ndim(), stacked ? "(S, c, m)" : "(c, m)");
    if (x.ndim() != 2 && !(stacked && x.ndim() == 3))
      x.fail((stacked ? "must be (n, d) or (S, n, d); got shape " : "must be (n, d); got shape ") +
             x.shape_string());
    Sizes& z = sizes;
    z.S = stacked ? w1.size(0) : 1;
    z.m = w1.size(stacked);
    z.d = w1.size(stacked + 1);
    z.c = w2.size(stacked);
    z.x_shared = x.ndim() == 2;
    z.n = x.size(z.x_shared ? 0 : 1);
    if (z.c < 1)
      w2.fail("must have at least one output, c >= 1 in (c, m); got " + w2.shape_string());
  }

  // A single network's arrays lack the leading S.
  std::vector<int64_t> stack(std::vector<int64_t> shape) const {
    if (stacked) shape.insert(shape.begin(), sizes.S);
    return shape;
  }
  std::vector<int64_t> x() const {
    const std::vector<int64_t> shape{sizes.n, sizes.d};
    return sizes.x_shared ? shape : stack(shape);
  }
  double multiply_adds() const {
    return static_cast<double>(sizes.S) * sizes.n * sizes.m * (sizes.d + sizes.c);
  }
  std::vector<int64_t> signs() const { return {sizes.S, words_per_sample(sizes.m), sizes.n}; }
};

void forward(py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_, py::handle b2_,
             py::handle f_, py::handle signs_, int threads) {
  TensorView x(x_, "x"), w1(w1_, "w1"), w2(w2_, "w2"), f(f_, "f");
  std::vector<TensorView> others;
  others.reserve(3);
  const Shapes shapes(x, w1, w2);
  const Sizes& z = shapes.sizes;
  checked_threads(threads);
  with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Forward<T> p{};
    p.sizes = z;
    p.x = x.input<T>(shapes.x());
    p.w1 = w1.input<T>(shapes.stack({z.m, z.d}));
    p.b1 = optional_input<T>(b1_, "b1", shapes.stack({z.m}), others);
    p.w2 = w2.input<T>(shapes.stack({z.c, z.m}));
    p.b2 = optional_input<T>(b2_, "b2", shapes.stack({z.c}), others);
    p.f = f.output<T>(shapes.stack({z.n, z.c}));
    p.signs = optional_output<uint64_t>(signs_, "signs", shapes.signs(), others);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.forward(p, threads_for(shapes.multiply_adds(), threads));
  });
}

void backward(py::handle df_, py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_,
              py::handle signs_, py::handle dx_, py::handle dw1_, py::handle db1_, py::handle dw2_,
              py::handle db2_, int threads) {
  TensorView df(df_, "df"), x(x_, "x"), w1(w1_, "w1"), w2(w2_, "w2"), signs(signs_, "signs");
  std::vector<TensorView> others;
  others.reserve(6);
  const Shapes shapes(x, w1, w2);
  const Sizes& z = shapes.sizes;
  checked_threads(threads);
  if (!db1_.is_none() && b1_.is_none())
    throw py::value_error("db1 must be None when b1 is None; got an array");
  with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Backward<T> p{};
    p.sizes = z;
    p.df = df.input<T>(shapes.stack({z.n, z.c}));
    p.x = x.input<T>(shapes.x());
    p.w1 = w1.input<T>(shapes.stack({z.m, z.d}));
    p.b1 = optional_input<T>(b1_, "b1", shapes.stack({z.m}), others);
    p.w2 = w2.input<T>(shapes.stack({z.c, z.m}));
    p.signs = signs.input<uint64_t>(shapes.signs());
    p.dx = optional_output<T>(dx_, "dx", shapes.stack({z.n, z.d}), others);
    p.dw1 = optional_output<T>(dw1_, "dw1", shapes.stack({z.m, z.d}), others);
    p.db1 = optional_output<T>(db1_, "db1", shapes.stack({z.m}), others);
    p.dw2 = optional_output<T>(dw2_, "dw2", shapes.stack({z.c, z.m}), others);
    p.db2 = optional_output<T>(db2_, "db2", shapes.stack({z.c}), others);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.backward(p, threads_for(shapes.multiply_adds(), threads));
  });
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("two_layer_relu_forward", &forward, arg("x"), arg("w1"), arg("b1"), arg("w2"), arg("b2"),
        arg("f"), arg("signs"), arg("threads"),
        "Writes the outputs to f and, unless it is None, the sign words to signs. A single "
        "network's arrays, but for the signs, may lack the leading S.");
  m.def("two_layer_relu_backward", &backward, arg("df"), arg("x"), arg("w1"), arg("b1"), arg("w2"),
        arg("signs"), arg("dx"), arg("dw1"), arg("db1"), arg("dw2"), arg("db2"), arg("threads"),
        "Writes the gradients that are not None; dx is (S, n, d) also when x is shared.");
}};

}  // namespace
}  // namespace lmc::two_layer_relu
