// SPDX-License-Identifier: MIT
// Host side of two_layer_relu on a GPU: cuts ensembles into groups that fit the workspace, and
// enqueues the kernels of a group one after the other.
#include "common/cuda_kernels.h"
#include "two_layer_relu/finish.cuh"
#include "two_layer_relu/product_job.cuh"
#include "two_layer_relu/relu_sum.cuh"
#include "two_layer_relu/two_layer_relu_cuda.h"

namespace lmc::two_layer_relu {
namespace {

using cuda::Call;

template <class T>
const T* at(const T* array, int64_t offset) {
  return array == nullptr ? nullptr : array + offset;
}
template <class T>
T* at(T* array, int64_t offset) {
  return array == nullptr ? nullptr : array + offset;
}

template <class Tile>
const char* launch_relu_sum(const ReluSum<typename Tile::Element, typename Tile::Value>& p,
                            int64_t networks, const Call& call) {
  const dim3 grid(static_cast<unsigned>(blocks_of(p.rows, Tile::kTileRows) * p.parts),
                  static_cast<unsigned>(networks));
  return launch(&relu_sum_kernel<Tile>, grid, kThreads, ReluSumShared<Tile>::kBytes, call.stream,
                p);
}

// The widest units that the device has, and the tallest tile that its shared memory holds.
template <int Terms>
const char* launch_tensor_relu_sum(const ReluSum<uint16_t, float>& p, int64_t networks,
                                   const Call& call, const Device& device) {
  using Wide = WarpgroupTile<Terms, 4>;
  using Tall = TensorTile<128, Terms, 3>;
  using Low = TensorTile<64, Terms, 2>;
  if (device.warpgroups) return launch_relu_sum<Wide>(p, networks, call);
  if (static_cast<int64_t>(ReluSumShared<Tall>::kBytes) <= device.shared_memory)
    return launch_relu_sum<Tall>(p, networks, call);
  return launch_relu_sum<Low>(p, networks, call);
}

// relu_sum for a group of networks on whichever units: x and w are split first where that is
// needed.
template <class T>
struct ReluSumJob {
  int64_t rows, columns, depth, outputs, parts;
  bool x_shared, w_shared, images;
  uint16_t *x_terms, *w_terms;
  double* partial;

  ReluSumJob(int64_t rows_, int64_t columns_, int64_t depth_, int64_t outputs_, bool x_shared_,
             bool w_shared_, const Device& device)
      : rows(rows_),
        columns(columns_),
        depth(depth_),
        outputs(outputs_),
        parts(parts_of_columns(rows_, columns_)),
        x_shared(x_shared_),
        w_shared(w_shared_),
        images(device.warpgroups),
        x_terms(nullptr),
        w_terms(nullptr),
        partial(nullptr) {}

  int64_t bytes_each(int terms) const {
    const int64_t x = x_shared ? 0 : size_of(rows, terms);
    const int64_t w = w_shared ? 0 : size_of(columns, terms);
    return 2 * (x + w) + 8 * parts * outputs * rows;
  }
  void take(Workspace& space, int64_t group, int terms) {
    x_terms = space.take<uint16_t>((x_shared ? 1 : group) * size_of(rows, terms));
    w_terms = space.take<uint16_t>((w_shared ? 1 : group) * size_of(columns, terms));
    partial = space.take<double>(group * parts * outputs * rows);
  }
  // `p` holds all but sizes, operands and the partial sums.
  const char* run(ReluSum<T, T> p, const T* x, const T* w, int64_t networks, const Call& call,
                  const Device& device) const {
    p.rows = rows, p.columns = columns, p.depth = depth, p.outputs = outputs;
    p.x_network = x_shared ? 0 : rows * depth;
    p.w_network = w_shared ? 0 : columns * depth;
    p.partial = partial, p.parts = parts;
    p.tiles_per_part = blocks_of(blocks_of(columns, kTileColumns), parts);
    if (rows == 0) return nullptr;
    if constexpr (sizeof(T) == 4) {
      if (call.terms > 0) return run_tensor(p, x, w, networks, call, device);
    }
    p.x = x, p.w = w;
    return launch_relu_sum<SimtTile<T, sizeof(T) == 4 ? 128 : 64>>(p, networks, call);
  }

 private:
  // Of an operand of `count` rows in terms.
  int64_t size_of(int64_t count, int terms) const {
    return images ? row_image_size(count, depth, terms) : split_size(count, depth, terms);
  }
  const char* run_tensor(const ReluSum<T, T>& p, const float* x, const float* w, int64_t networks,
                         const Call& call, const Device& device) const {
    const auto split_one = [&](const float* from, int64_t count, bool is_shared, uint16_t* to) {
      const int64_t different = is_shared ? 1 : networks;
      if (images)
        return make_image(
            RowImage{different, count, depth, from, count * depth, depth, 1, count, to}, call.terms,
            call.stream);
      return split({different, count, depth, from, depth, count * depth, nullptr, 0, to}, call);
    };
    LMC_CUDA_TRY(split_one(x, rows, x_shared, x_terms));
    LMC_CUDA_TRY(split_one(w, columns, w_shared, w_terms));
    ReluSum<uint16_t, float> q{};
    q.rows = p.rows, q.columns = p.columns, q.depth = p.depth, q.outputs = p.outputs;
    q.x = x_terms, q.w = w_terms;
    q.x_network = x_shared ? 0 : size_of(rows, call.terms);
    q.w_network = w_shared ? 0 : size_of(columns, call.terms);
    q.x_term = images ? row_image_block(depth, call.terms) : split_size(rows, depth, 1);
    q.w_term = images ? row_image_block(depth, call.terms) : split_size(columns, depth, 1);
    q.row_bias = p.row_bias, q.column_bias = p.column_bias;
    q.v = p.v, q.v_output = p.v_output, q.v_column = p.v_column, q.v_network = p.v_network;
    q.signs = p.signs, q.partial = p.partial;
    q.parts = p.parts, q.tiles_per_part = p.tiles_per_part;
    switch (call.terms) {
      case 1:
        return launch_tensor_relu_sum<1>(q, networks, call, device);
      case 2:
        return launch_tensor_relu_sum<2>(q, networks, call, device);
      default:
        return launch_tensor_relu_sum<3>(q, networks, call, device);
    }
  }
};

template <class T>
const char* sum_parts(const ReluSumJob<T>& job, const T* bias, T* out, bool output_major,
                      int64_t networks, const Call& call) {
  SumParts<T> p{networks,
                job.parts,
                job.rows,
                job.outputs,
                job.partial,
                bias,
                out,
                output_major ? 1 : job.outputs,
                output_major ? job.rows : 1};
  return launch(&sum_parts_kernel<T>, dim3(grid_of(networks * job.rows * job.outputs)), kThreads, 0,
                call.stream, p);
}

template <class T>
const char* start(Call& call, Device& device) {
  LMC_CUDA_TRY(use_device(call.device, &device));
  if (sizeof(T) == 8 || !device.tensor_cores) call.terms = 0;
  using Wide = WarpgroupTile<3, 4>;  // the largest block
  device.warpgroups = device.warpgroups && call.terms > 0 &&
                      static_cast<int64_t>(ReluSumShared<Wide>::kBytes) <= device.shared_memory &&
                      has_warpgroups(&relu_sum_kernel<Wide>);
  return nullptr;
}

template <class T>
const char* forward(const Forward<T>& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(start<T>(call, device));
  const Sizes& z = p.sizes;
  ReluSumJob<T> job(z.n, z.m, z.d, z.c, z.x_shared, false, device);
  const int64_t group = group_of(z.S, job.bytes_each(call.terms));
  Workspace space(call.workspace);
  job.take(space, group, call.terms);
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;
  const int64_t words = words_per_sample(z.m);
  for (int64_t first = 0; first < z.S; first += group) {
    const int64_t networks = z.S - first < group ? z.S - first : group;
    ReluSum<T, T> q{};
    q.column_bias = at(p.b1, first * z.m);
    q.v = at(p.w2, first * z.c * z.m);
    q.v_output = z.m, q.v_column = 1, q.v_network = z.c * z.m;
    q.signs = at(p.signs, first * words * z.n);
    LMC_CUDA_TRY(job.run(q, z.x_shared ? p.x : at(p.x, first * z.n * z.d),
                         at(p.w1, first * z.m * z.d), networks, call, device));
    LMC_CUDA_TRY(
        sum_parts(job, at(p.b2, first * z.c), at(p.f, first * z.n * z.c), false, networks, call));
  }
  return nullptr;
}

template <class T>
const char* backward(const Backward<T>& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(start<T>(call, device));
  const Sizes& z = p.sizes;
  const bool one_output = z.c == 1;
  // G serves dw1, db1 and, for one output, dw2; for several, dw2 computes z again.
  const bool want_g = p.dw1 || p.db1 || (one_output && p.dw2);
  const bool want_sums = !one_output && p.dw2;
  const bool bias_column = p.b1 && (p.db1 || (one_output && p.dw2));
  ProductJob<T, true> weights(z, z.d + bias_column, device);
  ProductJob<T, false> inputs(z, z.d, device);
  ReluSumJob<T> second(z.m, z.n, z.d, z.c, false, z.x_shared, device);
  const int64_t each = (want_g ? weights.bytes_each(call.terms) : 0) +
                       (p.dx ? inputs.bytes_each(call.terms) : 0) +
                       (want_sums ? second.bytes_each(call.terms) : 0);
  const int64_t group = group_of(z.S, each);
  Workspace space(call.workspace);
  if (want_g) weights.take(space, group, call.terms);
  if (p.dx) inputs.take(space, group, call.terms);
  if (want_sums) second.take(space, group, call.terms);
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;

  const int64_t words = words_per_sample(z.m), x_network = z.x_shared ? 0 : z.n * z.d;
  for (int64_t first = 0; first < z.S; first += group) {
    const int64_t networks = z.S - first < group ? z.S - first : group;
    const T* const df = at(p.df, first * z.n * z.c);
    const T* const x = at(p.x, first * x_network);
    const T* const w1 = at(p.w1, first * z.m * z.d);
    const T* const w2 = at(p.w2, first * z.c * z.m);
    const T* const b1 = at(p.b1, first * z.m);
    const uint64_t* const signs = at(p.signs, first * words * z.n);
    if (want_g) {
      LMC_CUDA_TRY(weights.run(signs, df, w2, x, x_network, networks, call));
      const FinishWeights<T> q{networks,
                               weights.parts,
                               z.m,
                               z.c,
                               z.d,
                               weights.columns,
                               weights.partial,
                               w1,
                               b1,
                               w2,
                               at(p.dw1, first * z.m * z.d),
                               at(p.db1, first * z.m),
                               at(p.dw2, first * z.c * z.m)};
      LMC_CUDA_TRY(launch(&finish_weights_kernel<T>, dim3(grid_of(networks * z.m * 32)), kThreads,
                          0, call.stream, q));
    }
    if (want_sums) {  // dw2(o, j) = sum_i relu(z(j, i)) df(i, o)
      ReluSum<T, T> q{};
      q.row_bias = b1;
      q.v = df, q.v_output = 1, q.v_column = z.c, q.v_network = z.n * z.c;
      LMC_CUDA_TRY(second.run(q, w1, x, networks, call, device));
      LMC_CUDA_TRY(
          sum_parts<T>(second, nullptr, at(p.dw2, first * z.c * z.m), true, networks, call));
    }
    if (p.dx) {
      LMC_CUDA_TRY(inputs.run(signs, df, w2, w1, z.m * z.d, networks, call));
      const FinishInputs<T> q{
          networks,   inputs.parts,           z.n, z.c,
          z.d,        inputs.partial,         df,  z.x_shared ? p.dx : at(p.dx, first * z.n * z.d),
          z.x_shared, z.x_shared && first > 0};
      LMC_CUDA_TRY(launch(&finish_inputs_kernel<T>,
                          dim3(grid_of((z.x_shared ? 1 : networks) * z.n * z.d)), kThreads, 0,
                          call.stream, q));
    }
    if (p.db2) {
      const SumSamples<T> q{z.n, z.c, df, at(p.db2, first * z.c)};
      LMC_CUDA_TRY(launch(&sum_samples_kernel<T>, dim3(static_cast<unsigned>(networks * z.c)),
                          kThreads, kThreads * sizeof(double), call.stream, q));
    }
  }
  return nullptr;
}

const CudaKernel forward_float32{"two_layer_relu.forward.float32", &forward<float>};
const CudaKernel forward_float64{"two_layer_relu.forward.float64", &forward<double>};
const CudaKernel backward_float32{"two_layer_relu.backward.float32", &backward<float>};
const CudaKernel backward_float64{"two_layer_relu.backward.float64", &backward<double>};

}  // namespace
}  // namespace lmc::two_layer_relu
