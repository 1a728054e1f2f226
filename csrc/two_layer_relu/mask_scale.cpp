// SPDX-License-Identifier: MIT
// Binding of mask_scale: the CUDA launcher for arrays on a CUDA device when this build has one, and
// a plain loop over the same element function for arrays on the CPU.
#include "two_layer_relu/mask_scale.h"

#include <type_traits>

#include "common/bindings.h"
#include "common/cuda_kernels.h"
#include "common/tensor_view.h"
#include "two_layer_relu/two_layer_relu.h"

namespace lmc::two_layer_relu {
namespace {

template <class T>
void run_on_cpu(const MaskScale<T>& p) {
  for (int64_t i = 0; i < p.n; ++i)
    for (int64_t j = 0; j < p.m; ++j) p.dz[i * p.m + j] = mask_scale_element(p, i, j);
}

template <class T>
void run_on_cuda(const MaskScale<T>& p, uintptr_t stream) {
  constexpr bool is_float32 = std::is_same_v<T, float>;
  using Launcher = std::conditional_t<is_float32, MaskScaleLauncherF32, MaskScaleLauncherF64>;
  auto* launcher = find_cuda_kernel<Launcher>(is_float32 ? "two_layer_relu.mask_scale.float32"
                                                         : "two_layer_relu.mask_scale.float64");
  if (launcher == nullptr)
    throw std::runtime_error(
        "mask_scale: this build of lmc_fast has no CUDA kernels; install it where nvcc is found, "
        "or move "
        "the arrays to the CPU");
  if (const char* error = launcher(p, reinterpret_cast<void*>(stream)))
    throw std::runtime_error(std::string("mask_scale: the CUDA launch failed: ") + error);
}

void mask_scale(py::handle signs_, py::handle r_, py::handle w2_, py::handle dz_,
                uintptr_t stream) {
  TensorView signs(signs_, "signs"), r(r_, "r"), w2(w2_, "w2"), dz(dz_, "dz");
  r.require_ndim(2, "(n, c)");
  w2.require_ndim(2, "(c, m)");
  with_float_type(dz, [&](auto zero) {
    using T = decltype(zero);
    MaskScale<T> p{};
    p.n = r.size(0);
    p.c = r.size(1);
    p.m = w2.size(1);
    const std::vector<int64_t> words{words_per_sample(p.m), p.n}, r_shape{p.n, p.c},
        w2_shape{p.c, p.m};
    if (dz.device().type == dlpack::kCpu) {
      p.signs = signs.input<uint64_t>(words);
      p.r = r.input<T>(r_shape);
      p.w2 = w2.input<T>(w2_shape);
      p.dz = dz.output<T>({p.n, p.m});
      run_on_cpu(p);
    } else {
      p.signs = signs.on_cuda<uint64_t>(words);
      p.r = r.on_cuda<T>(r_shape);
      p.w2 = w2.on_cuda<T>(w2_shape);
      p.dz = dz.on_cuda<T>({p.n, p.m});
      run_on_cuda(p, stream);
    }
  });
}

const Bindings bindings{[](py::module_& m) {
  m.def("mask_scale", &mask_scale, py::arg("signs"), py::arg("r"), py::arg("w2"), py::arg("dz"),
        py::arg("stream") = 0,
        "dz (n, m) = mask * (r w2), the mask from sign words (ceil(m/64), n); on the CPU, or on "
        "the current "
        "CUDA device and the given stream.");
}};

}  // namespace
}  // namespace lmc::two_layer_relu
