// SPDX-License-Identifier: MIT
// Bindings of two_layer_relu: checks, then the kernels of the CPU target in use.
#include "two_layer_relu/two_layer_relu.h"

#include "common/bindings.h"
#include "common/cuda_call.h"
#include "common/parallel.h"
#include "common/tensor_view.h"
#include "two_layer_relu/two_layer_relu_cuda.h"

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

// The arrays of a call, borrowed as long as this lives.
struct ForwardArrays {
  TensorView x, w1, w2, f;
  py::handle b1, b2, signs;
  Shapes shapes;
  std::vector<TensorView> others;

  ForwardArrays(py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_, py::handle b2_,
                py::handle f_, py::handle signs_)
      : x(x_, "x"),
        w1(w1_, "w1"),
        w2(w2_, "w2"),
        f(f_, "f"),
        b1(b1_),
        b2(b2_),
        signs(signs_),
        shapes(x, w1, w2) {
    others.reserve(3);
  }

  template <class T>
  Forward<T> read(dlpack::Device device) {
    const Sizes& z = shapes.sizes;
    Forward<T> p{};
    p.sizes = z;
    p.x = x.input<T>(shapes.x(), device);
    p.w1 = w1.input<T>(shapes.stack({z.m, z.d}), device);
    p.b1 = optional_input<T>(b1, "b1", shapes.stack({z.m}), others, device);
    p.w2 = w2.input<T>(shapes.stack({z.c, z.m}), device);
    p.b2 = optional_input<T>(b2, "b2", shapes.stack({z.c}), others, device);
    p.f = f.output<T>(shapes.stack({z.n, z.c}), device);
    p.signs = optional_output<uint64_t>(signs, "signs", shapes.signs(), others, device);
    return p;
  }
};

struct BackwardArrays {
  TensorView df, x, w1, w2, signs;
  py::handle b1, dx, dw1, db1, dw2, db2;
  Shapes shapes;
  std::vector<TensorView> others;

  BackwardArrays(py::handle df_, py::handle x_, py::handle w1_, py::handle b1_, py::handle w2_,
                 py::handle signs_, py::handle dx_, py::handle dw1_, py::handle db1_,
                 py::handle dw2_, py::handle db2_)
      : df(df_, "df"),
        x(x_, "x"),
        w1(w1_, "w1"),
        w2(w2_, "w2"),
        signs(signs_, "signs"),
        b1(b1_),
        dx(dx_),
        dw1(dw1_),
        db1(db1_),
        dw2(dw2_),
        db2(db2_),
        shapes(x, w1, w2) {
    others.reserve(6);
    if (!db1.is_none() && b1.is_none())
      throw py::value_error("db1 must be None when b1 is None; got an array");
  }

  // `dx_shape`: the CPU gives one for each network also when x is shared.
  template <class T>
  Backward<T> read(dlpack::Device device, const std::vector<int64_t>& dx_shape) {
    const Sizes& z = shapes.sizes;
    Backward<T> p{};
    p.sizes = z;
    p.df = df.input<T>(shapes.stack({z.n, z.c}), device);
    p.x = x.input<T>(shapes.x(), device);
    p.w1 = w1.input<T>(shapes.stack({z.m, z.d}), device);
    p.b1 = optional_input<T>(b1, "b1", shapes.stack({z.m}), others, device);
    p.w2 = w2.input<T>(shapes.stack({z.c, z.m}), device);
    p.signs = signs.input<uint64_t>(shapes.signs(), device);
    p.dx = optional_output<T>(dx, "dx", dx_shape, others, device);
    p.dw1 = optional_output<T>(dw1, "dw1", shapes.stack({z.m, z.d}), others, device);
    p.db1 = optional_output<T>(db1, "db1", shapes.stack({z.m}), others, device);
    p.dw2 = optional_output<T>(dw2, "dw2", shapes.stack({z.c, z.m}), others, device);
    p.db2 = optional_output<T>(db2, "db2", shapes.stack({z.c}), others, device);
    return p;
  }
};

void forward(py::handle x, py::handle w1, py::handle b1, py::handle w2, py::handle b2, py::handle f,
             py::handle signs, int threads) {
  ForwardArrays arrays(x, w1, b1, w2, b2, f, signs);
  checked_threads(threads);
  with_float_type(arrays.w1, [&](auto zero) {
    using T = decltype(zero);
    const Forward<T> p = arrays.read<T>(kCpu);
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.forward(p, threads_for(arrays.shapes.multiply_adds(), threads));
  });
}

void backward(py::handle df, py::handle x, py::handle w1, py::handle b1, py::handle w2,
              py::handle signs, py::handle dx, py::handle dw1, py::handle db1, py::handle dw2,
              py::handle db2, int threads) {
  BackwardArrays arrays(df, x, w1, b1, w2, signs, dx, dw1, db1, dw2, db2);
  checked_threads(threads);
  with_float_type(arrays.w1, [&](auto zero) {
    using T = decltype(zero);
    const Sizes& z = arrays.shapes.sizes;
    const Backward<T> p = arrays.read<T>(kCpu, arrays.shapes.stack({z.n, z.d}));
    const Kernels<T>& table = kernels<T>();
    py::gil_scoped_release release;
    table.backward(p, threads_for(arrays.shapes.multiply_adds(), threads));
  });
}

int64_t forward_cuda(py::handle x, py::handle w1, py::handle b1, py::handle w2, py::handle b2,
                     py::handle f, py::handle signs, py::handle workspace, int terms,
                     uintptr_t stream) {
  ForwardArrays arrays(x, w1, b1, w2, b2, f, signs);
  const Sizes& z = arrays.shapes.sizes;
  return with_float_type(arrays.w1, [&](auto zero) {
    using T = decltype(zero);
    CudaCall call("two_layer_relu", arrays.w1, {z.S, z.n, z.d, z.m, z.c}, terms, stream);
    const Forward<T> p = arrays.read<T>(call.device());
    return call.run<CudaForwardFunction<T>>("two_layer_relu.forward", p, workspace);
  });
}

int64_t backward_cuda(py::handle df, py::handle x, py::handle w1, py::handle b1, py::handle w2,
                      py::handle signs, py::handle dx, py::handle dw1, py::handle db1,
                      py::handle dw2, py::handle db2, py::handle workspace, int terms,
                      uintptr_t stream) {
  BackwardArrays arrays(df, x, w1, b1, w2, signs, dx, dw1, db1, dw2, db2);
  const Sizes& z = arrays.shapes.sizes;
  return with_float_type(arrays.w1, [&](auto zero) {
    using T = decltype(zero);
    CudaCall call("two_layer_relu", arrays.w1, {z.S, z.n, z.d, z.m, z.c}, terms, stream);
    const Backward<T> p = arrays.read<T>(call.device(), arrays.shapes.x());
    return call.run<CudaBackwardFunction<T>>("two_layer_relu.backward", p, workspace);
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
  m.def("two_layer_relu_forward_cuda", &forward_cuda, arg("x"), arg("w1"), arg("b1"), arg("w2"),
        arg("b2"), arg("f"), arg("signs"), arg("workspace"), arg("terms"), arg("stream"),
        "The same on a CUDA device, enqueued on the stream. With workspace None it only returns "
        "how many bytes one needs; it is an int64 array of that many, rounded up.");
  m.def("two_layer_relu_backward_cuda", &backward_cuda, arg("df"), arg("x"), arg("w1"), arg("b1"),
        arg("w2"), arg("signs"), arg("dx"), arg("dw1"), arg("db1"), arg("dw2"), arg("db2"),
        arg("workspace"), arg("terms"), arg("stream"),
        "Likewise; dx has the shape of x, and is the sum over the networks when they share it.");
}};

}  // namespace
}  // namespace lmc::two_layer_relu
