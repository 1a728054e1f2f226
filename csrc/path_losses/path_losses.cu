// SPDX-License-Identifier: MIT
// Host side of path_losses on a GPU: cuts the pairs into groups that fit the workspace, chooses the
// tile that fits the device, and enqueues the kernels.
#include "common/cuda/split_terms.cuh"
#include "common/cuda_kernels.h"
#include "path_losses/path_kernel.cuh"
#include "path_losses/path_losses_cuda.h"

namespace lmc::path_losses {
namespace {

using cuda::Call;

// The memory of a pair, for samples in blocks of `height`. Where the bins lie in the workspace, as
// many blocks are launched together as fit into the memory of a group.
struct PathMemory {
  int64_t blocks, units, together, sums, bins, losses;  // the last three in doubles
  PathMemory(int64_t n, int64_t c, int64_t A, int64_t width, int64_t height, bool bins_outside,
             bool labels)
      : blocks(blocks_of(n, height)), units(blocks_of(n, kUnit)) {
    const int64_t block_sums = 5 * c * height;
    const int64_t block_bins = bins_outside ? height * (A + 1) * width : 0;
    const int64_t fit = cuda::kGroupBytes / (8 * (block_sums + block_bins));
    together = blocks < fit ? blocks : fit < 1 ? 1 : fit;
    sums = together * block_sums;
    bins = together * block_bins;
    losses = units * A * (labels ? 2 : 1);
  }
  int64_t doubles() const { return sums + bins + losses; }
};

template <class Tile>
class PathJob {
  using T = typename Tile::Value;
  using Element = typename Tile::Element;

 public:
  PathJob(const Arguments<T>& p, const Call& call, const Device& device)
      : p_(p),
        width_(coefficients(p.c, count_active(p))),
        inside_(PathShared<Tile>::bytes((p.A + 1) * width_) <= device.shared_memory),
        memory_(p.n, p.c, p.A, width_, Tile::kTileRows, !inside_, p.labels != nullptr) {
    const int64_t weights = Tile::kTensor ? 2 * 2 * split_size(p.m, p.d, call.terms) : 0;
    group_ = group_of(p.P, 8 * memory_.doubles() + weights);
  }

  const char* run(Call& call) {
    Workspace space(call.workspace);
    const int64_t x_size = Tile::kTensor ? split_size(p_.n, p_.d, call.terms) : 0;
    const int64_t w_size = Tile::kTensor ? split_size(p_.m, p_.d, call.terms) : 0;
    auto* const x_terms = space.take<uint16_t>(x_size);
    auto* const a_terms = space.take<uint16_t>(group_ * w_size);
    auto* const b_terms = space.take<uint16_t>(group_ * w_size);
    auto* const sums = space.take<double>(group_ * memory_.sums);
    auto* const bins = space.take<double>(group_ * memory_.bins);
    auto* const losses = space.take<double>(group_ * memory_.losses);
    call.bytes = space.bytes();
    if (call.workspace == nullptr) return nullptr;

    PathKernel<Element, T> k{};
    k.n = p_.n, k.m = p_.m, k.d = p_.d, k.c = p_.c, k.A = p_.A;
    k.y = p_.y, k.labels = p_.labels, k.alphas = p_.alphas;
    k.units = memory_.units;
    k.tiles_per_part = blocks_of(blocks_of(p_.m, kTileColumns), parts_of_columns(p_.n, p_.m));
    k.sums = sums;
    k.bins = inside_ ? nullptr : bins;
    k.count_active = count_active(p_);
    if constexpr (Tile::kTensor) {
      k.x = x_terms, k.w_a = a_terms, k.w_b = b_terms;
      k.w_pair = w_size;
      k.x_term = split_size(p_.n, p_.d, 1), k.w_term = split_size(p_.m, p_.d, 1);
      LMC_CUDA_TRY(split(1, p_.n, p_.x, x_terms, call));
    } else {
      k.x = p_.x;
      k.w_pair = p_.m * p_.d;
    }
    for (int64_t first = 0; first < p_.P; first += group_) {
      const int64_t pairs = p_.P - first < group_ ? p_.P - first : group_;
      const T* const w1_a = p_.a.w1 + first * p_.m * p_.d;
      const T* const w1_b = p_.b.w1 + first * p_.m * p_.d;
      if constexpr (Tile::kTensor) {
        LMC_CUDA_TRY(split(pairs, p_.m, w1_a, a_terms, call));
        LMC_CUDA_TRY(split(pairs, p_.m, w1_b, b_terms, call));
      } else {
        k.w_a = w1_a, k.w_b = w1_b;
      }
      const auto from = [&](const T* array, int64_t each) {
        return array ? array + first * each : nullptr;
      };
      k.b1_a = from(p_.a.b1, p_.m), k.b1_b = from(p_.b.b1, p_.m);
      k.w2_a = from(p_.a.w2, p_.c * p_.m), k.w2_b = from(p_.b.w2, p_.c * p_.m);
      k.b2_a = from(p_.a.b2, p_.c), k.b2_b = from(p_.b.b2, p_.c);
      k.losses = losses;
      k.correct = p_.labels ? losses + pairs * memory_.units * p_.A : nullptr;
      const int64_t bytes = PathShared<Tile>::bytes(inside_ ? (p_.A + 1) * width_ : 0);
      for (k.first_block = 0; k.first_block < memory_.blocks; k.first_block += memory_.together) {
        const int64_t left = memory_.blocks - k.first_block;
        const dim3 grid(static_cast<unsigned>(left < memory_.together ? left : memory_.together),
                        static_cast<unsigned>(pairs));
        LMC_CUDA_TRY(
            launch(&path_kernel<Tile>, grid, kThreads, static_cast<size_t>(bytes), call.stream, k));
      }
      const MeanLosses mean{pairs,
                            memory_.units,
                            p_.A,
                            p_.n,
                            k.losses,
                            k.correct,
                            p_.losses + first * p_.A,
                            p_.accuracies ? p_.accuracies + first * p_.A : nullptr};
      LMC_CUDA_TRY(launch(&mean_losses_kernel<0>,
                          dim3(static_cast<unsigned>(blocks_of(pairs * p_.A, kThreads))), kThreads,
                          0, call.stream, mean));
    }
    return nullptr;
  }

 private:
  static bool count_active(const Arguments<T>& p) { return p.labels && p.c > 1; }

  const char* split(int64_t pairs, int64_t rows, const float* from, uint16_t* to,
                    const Call& call) const {
    return split_terms({pairs, rows, p_.d, from, p_.d, rows * p_.d, nullptr, 0, to}, call.terms,
                       call.stream);
  }

  const Arguments<T>& p_;
  int64_t width_;
  bool inside_;
  PathMemory memory_;
  int64_t group_;
};

template <int Terms>
const char* run_tensor(const Arguments<float>& p, Call& call, const Device& device) {
  using Tall = TensorTile<64, Terms, 2>;
  using Low = TensorTile<32, Terms, 2>;
  if (PathShared<Tall>::bytes(0) <= device.shared_memory)
    return PathJob<Tall>(p, call, device).run(call);
  return PathJob<Low>(p, call, device).run(call);
}

const char* path_losses_float32(const Arguments<float>& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  if (!device.tensor_cores) call.terms = 0;
  switch (call.terms) {
    case 0:
      return PathJob<SimtTile<float, 64>>(p, call, device).run(call);
    case 1:
      return run_tensor<1>(p, call, device);
    case 2:
      return run_tensor<2>(p, call, device);
    default:
      return run_tensor<3>(p, call, device);
  }
}

const char* path_losses_float64(const Arguments<double>& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  call.terms = 0;
  return PathJob<SimtTile<double, 16>>(p, call, device).run(call);
}

const CudaKernel float32{"path_losses.float32", &path_losses_float32};
const CudaKernel float64{"path_losses.float64", &path_losses_float64};

}  // namespace
}  // namespace lmc::path_losses
