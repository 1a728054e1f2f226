// SPDX-License-Identifier: MIT
// Which kernels make a masked product on a device, what memory they want, and their launches.
#pragma once

#include <type_traits>

#include "common/cuda/call.h"
#include "two_layer_relu/image_product.cuh"
#include "two_layer_relu/masked_product.cuh"
#include "two_layer_relu/two_layer_relu_cuda.h"
#include "two_layer_relu/warpgroup_product.cuh"

namespace lmc::two_layer_relu {

using cuda::Call;

inline unsigned grid_of(int64_t elements) {
  return static_cast<unsigned>(blocks_of(elements, kThreads));
}

inline const char* split(const SplitTerms& p, const Call& call) {
  return split_terms(p, call.terms, call.stream);
}

// Parts of the sum of a masked product.
inline int64_t parts_of_depth(int64_t rows, int64_t columns, int64_t depth) {
  return splits_of(blocks_of(rows, kProductRows) * blocks_of(columns, kProductColumns),
                   blocks_of(depth, 32), 16);
}

// A masked product for a group of networks on whichever units.
template <class T, bool OverSamples>
struct ProductJob {
  int64_t n, m, c, d, columns, rows, depth, parts, depth_per_part;
  // Warpgroups serve the sum over samples. For several outputs and few columns the left operand is
  // needed once only, and making it takes longer than the product.
  bool wide, b_shared;
  uint16_t *b_terms, *left;
  T* partial;

  ProductJob(const Sizes& z, int64_t columns_, const Device& device)
      : n(z.n),
        m(z.m),
        c(z.c),
        d(z.d),
        columns(columns_),
        rows(OverSamples ? z.m : z.n),
        depth(OverSamples ? z.n : z.m),
        parts(parts_of_depth(rows, columns, depth)),
        depth_per_part(blocks_of(blocks_of(depth, 32), parts) * 32),
        wide(device.warpgroups && OverSamples && (c == 1 || columns > 64)),
        b_shared(OverSamples && z.x_shared && z.c > 1),
        b_terms(nullptr),
        left(nullptr),
        partial(nullptr) {}

  int64_t bytes_each(int terms) const {
    const int64_t b = b_shared ? 0 : b_size(terms);
    return 2 * (b + left_size(terms)) + static_cast<int64_t>(sizeof(T)) * parts * rows * columns;
  }
  void take(Workspace& space, int64_t group, int terms) {
    b_terms = space.take<uint16_t>((b_shared ? 1 : group) * b_size(terms));
    left = space.take<uint16_t>(group * left_size(terms));
    partial = space.take<T>(group * parts * rows * columns);
  }
  // `b` is x or w1, from one network to the next `b_network`.
  const char* run(const uint64_t* signs, const T* df, const T* w2, const T* b, int64_t b_network,
                  int64_t networks, const Call& call) const {
    if (rows == 0 || columns == 0) return nullptr;
    const T* const scale = c > 1 ? nullptr : OverSamples ? df : w2;
    const dim3 grid(
        static_cast<unsigned>(blocks_of(rows, kProductRows) * blocks_of(columns, kProductColumns)),
        static_cast<unsigned>(parts), static_cast<unsigned>(networks));
    if constexpr (sizeof(T) == 4) {
      if (wide && c > 1) return run_images(signs, df, w2, b, b_network, networks, call);
      if (call.terms > 0) {
        const int64_t different = b_shared ? 1 : networks;
        const MaskedProduct<uint16_t, float> p{n,
                                               m,
                                               c,
                                               columns,
                                               signs,
                                               df,
                                               w2,
                                               b_terms,
                                               columns,
                                               b_shared ? 0 : b_size(call.terms),
                                               nullptr,
                                               partial,
                                               depth_per_part};
        if (wide) {
          LMC_CUDA_TRY(
              make_image(ColumnImage{different, n, columns, padded(columns, together()) / 64, b, d,
                                     b_network, scale, b_terms},
                         call.terms, call.stream));
          return of_terms(call,
                          [&](auto terms) { return launch_wide<terms.value>(p, grid, call); });
        }
        LMC_CUDA_TRY(split(
            {different, depth, columns, b, d, b_network, scale, scale ? depth : 0, b_terms}, call));
        return of_terms(call,
                        [&](auto terms) { return launch_tensor<terms.value>(p, grid, call); });
      }
    }
    const MaskedProduct<T, T> p{n, m,         c,     columns, signs,         df, w2, b,
                                d, b_network, scale, partial, depth_per_part};
    return launch(c == 1 ? &simt_product_kernel<T, OverSamples, true>
                         : &simt_product_kernel<T, OverSamples, false>,
                  grid, kThreads, simt_product_shared<T>(), call.stream, p);
  }

 private:
  int together() const { return columns > 64 ? 128 : 64; }  // columns of a block
  int64_t b_size(int terms) const {
    if (wide && c > 1) return row_image_size(columns, n, terms);
    return wide ? column_image_size(n, columns, together(), terms)
                : split_size(depth, columns, terms);
  }
  // The left operand of several outputs: as many samples of each part as half a group's memory
  // holds.
  int64_t slice(int terms) const {
    const int64_t each = parts * row_image_size(m, 1, terms) / kImageDepth * 2;  // bytes a sample
    const int64_t fit = cuda::kGroupBytes / 2 / (each < 1 ? 1 : each) / 32 * 32;
    return fit < 32 ? 32 : fit < depth_per_part ? fit : depth_per_part;
  }
  int64_t left_size(int terms) const {
    return wide && c > 1 ? parts * row_image_size(m, slice(terms), terms) : 0;
  }

  template <class Function>
  static const char* of_terms(const Call& call, const Function& function) {
    switch (call.terms) {
      case 1:
        return function(std::integral_constant<int, 1>());
      case 2:
        return function(std::integral_constant<int, 2>());
      default:
        return function(std::integral_constant<int, 3>());
    }
  }

  const char* run_images(const uint64_t* signs, const float* df, const float* w2, const float* x,
                         int64_t x_network, int64_t networks, const Call& call) const {
    LMC_CUDA_TRY(
        make_image(RowImage{b_shared ? 1 : networks, columns, n, x, x_network, 1, d, d, b_terms},
                   call.terms, call.stream));
    Slice of{parts, depth_per_part, 0, slice(call.terms)};
    do {  // without samples too: the product is zero
      const LeftImage image{networks, n, m, c, signs, df, w2, of, left};
      const ImageProduct p{n,      m, columns, of, left, b_terms, b_shared ? 0 : b_size(call.terms),
                           partial};
      const int64_t chunks = networks * parts * blocks_of(m, 128) * (of.slice / kImageDepth) * 512;
      const dim3 grid(static_cast<unsigned>(blocks_of(m, 128) * blocks_of(columns, 128)),
                      static_cast<unsigned>(parts), static_cast<unsigned>(networks));
      LMC_CUDA_TRY(of_terms(call, [&](auto terms) {
        constexpr int kTerms = decltype(terms)::value;
        LMC_CUDA_TRY(launch(&left_image_kernel<kTerms>, dim3(grid_of(chunks)), kThreads, 0,
                            call.stream, image));
        return launch(&image_product_kernel<kTerms>, grid, kThreads,
                      WarpgroupTile<kTerms, 4>::shared_bytes(), call.stream, p);
      }));
      of.first += of.slice;
    } while (of.first < depth_per_part);
    return nullptr;
  }

  template <int Terms>
  static const char* launch_wide(const MaskedProduct<uint16_t, float>& p, dim3 grid,
                                 const Call& call) {
    const auto launch_columns = [&](auto product) {
      using S = decltype(product);
      grid.x = static_cast<unsigned>(blocks_of(p.m, S::kRows) * blocks_of(p.columns, S::kColumns));
      return launch(&warpgroup_product_kernel<S>, grid, kThreads, S::kBytes, call.stream, p);
    };
    return p.columns > 64 ? launch_columns(WarpgroupProduct<128, Terms>())
                          : launch_columns(WarpgroupProduct<64, Terms>());
  }
  template <int Terms>
  static const char* launch_tensor(const MaskedProduct<uint16_t, float>& p, dim3 grid,
                                   const Call& call) {
    if (p.c == 1)
      return launch(&tensor_product_kernel<OverSamples, true, Terms>, grid, kThreads,
                    TensorProduct<OverSamples, true, Terms>::kBytes, call.stream, p);
    return launch(&tensor_product_kernel<OverSamples, false, Terms>, grid, kThreads,
                  TensorProduct<OverSamples, false, Terms>::kBytes, call.stream, p);
  }
};

}  // namespace lmc::two_layer_relu
