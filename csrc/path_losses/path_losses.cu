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

template <class T>
bool count_active(const Arguments<T>& p) {
  return p.labels && p.c > 1;
}
template <class T>
int64_t width_of(const Arguments<T>& p) {
  return coefficients(p.c, count_active(p));
}

// How a block of a tile works with so much shared memory.
template <class Tile>
class PathPlan {
 public:
  bool fits, inside, cached = false, intervals_inside = true;
  int listed, outputs;  // see PathKernel
  int64_t bytes;        // of shared memory

  PathPlan(int64_t c, int64_t A, int64_t width, int64_t shared_memory)
      : listed(kMostListed), c_(c), shared_memory_(shared_memory) {
    fits = inside = place(Shared::kEntries, A + 1, (A + 1) * width * Shared::kHeight, kSumsAtOnce);
    if (fits) return;
    // A tile's crossings of a sample fall into not many more bins than a thread would copy.
    if (A < kTileColumns / 2)
      fits = cached = place(listed * kTileColumns, A + 1, (A + 1) * cuda::kThreads, kSumsAtOnce);
    for (; !fits && listed > 0; listed /= fits ? 1 : 2) {
      const int entries = listed * kTileColumns, least = listed > 1 ? kSumsAtOnce : 1;
      intervals_inside = place(entries, A + 1, 0, least);
      fits = intervals_inside || place(entries, 0, 0, least);
    }
  }
  bool roomy() const { return fits && listed == kMostListed; }

 private:
  using Shared = PathShared<Tile>;
  static constexpr int kMostListed = Shared::kHeight / Shared::kPasses;

  // The most outputs, but not less than `least`, that leave so much room, if any do.
  bool place(int entries, int64_t intervals, int64_t doubles, int least) {
    outputs = static_cast<int>(c_ < kMostOutputs ? c_ : kMostOutputs);
    for (; outputs >= (c_ < least ? c_ : least); --outputs) {
      bytes = Shared(entries, intervals, outputs, doubles).bytes;
      if (bytes <= shared_memory_) return true;
    }
    return false;
  }

  int64_t c_, shared_memory_;
};

// The memory of a pair, for samples in blocks of a tile's height. Where the bins lie in the
// workspace, as many blocks are launched together as fit into the memory of a group.
struct PathMemory {
  int64_t blocks, units, together, sums, bins, intervals, losses;  // the last four in doubles
  template <class Tile>
  PathMemory(int64_t n, int64_t c, int64_t A, int64_t width, const PathPlan<Tile>& plan,
             bool labels)
      : blocks(blocks_of(n, Tile::kTileRows)), units(blocks_of(n, kUnit)) {
    const int64_t block_sums = 5 * c * Tile::kTileRows;
    const int64_t block_bins = plan.inside ? 0 : Tile::kTileRows * (A + 1) * width;
    const int64_t block_intervals = plan.intervals_inside ? 0 : 2 * (A + 1);
    const int64_t fit = cuda::kGroupBytes / (8 * (block_sums + block_bins + block_intervals));
    together = blocks < fit ? blocks : fit < 1 ? 1 : fit;
    sums = together * block_sums;
    bins = together * block_bins;
    intervals = together * block_intervals;
    losses = units * A * (labels ? 2 : 1);
  }
  int64_t doubles() const { return sums + bins + intervals + losses; }
};

template <class Tile>
class PathJob {
  using T = typename Tile::Value;
  using Element = typename Tile::Element;

 public:
  PathJob(const Arguments<T>& p, const Call& call, const PathPlan<Tile>& plan)
      : p_(p), plan_(plan), memory_(p.n, p.c, p.A, width_of(p), plan, p.labels != nullptr) {
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
    auto* const intervals = space.take<Interval<T>>(group_ * memory_.intervals / 2);
    auto* const losses = space.take<double>(group_ * memory_.losses);
    call.bytes = space.bytes();
    if (call.workspace == nullptr) return nullptr;

    PathKernel<Element, T> k{};
    k.n = p_.n, k.m = p_.m, k.d = p_.d, k.c = p_.c, k.A = p_.A;
    k.y = p_.y, k.labels = p_.labels, k.alphas = p_.alphas;
    k.units = memory_.units;
    k.tiles_per_part = blocks_of(blocks_of(p_.m, kTileColumns), parts_of_columns(p_.n, p_.m));
    k.sums = sums;
    k.bins = plan_.inside ? nullptr : bins;
    k.intervals = plan_.intervals_inside ? nullptr : intervals;
    k.outputs = plan_.outputs, k.listed = plan_.listed, k.cached = plan_.cached;
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
      const auto kernel = plan_.inside ? &path_kernel<Tile, true> : &path_kernel<Tile, false>;
      for (k.first_block = 0; k.first_block < memory_.blocks; k.first_block += memory_.together) {
        const int64_t left = memory_.blocks - k.first_block;
        const dim3 grid(static_cast<unsigned>(left < memory_.together ? left : memory_.together),
                        static_cast<unsigned>(pairs));
        LMC_CUDA_TRY(
            launch(kernel, grid, kThreads, static_cast<size_t>(plan_.bytes), call.stream, k));
      }
      const MeanLosses mean{memory_.units,
                            p_.A,
                            p_.n,
                            k.losses,
                            k.correct,
                            p_.losses + first * p_.A,
                            p_.accuracies ? p_.accuracies + first * p_.A : nullptr};
      const dim3 grid(static_cast<unsigned>(blocks_of(p_.A, MeanLosses::kAlphas)),
                      static_cast<unsigned>(pairs));
      LMC_CUDA_TRY(launch(&mean_losses_kernel<0>, grid, kThreads, 2 * kThreads * sizeof(double),
                          call.stream, mean));
    }
    return nullptr;
  }

 private:
  const char* split(int64_t pairs, int64_t rows, const float* from, uint16_t* to,
                    const Call& call) const {
    return split_terms({pairs, rows, p_.d, from, p_.d, rows * p_.d, nullptr, 0, to}, call.terms,
                       call.stream);
  }

  const Arguments<T>& p_;
  PathPlan<Tile> plan_;
  PathMemory memory_;
  int64_t group_;
};

template <class Tile, class T>
PathPlan<Tile> plan_of(const Arguments<T>& p, const Device& device) {
  return {p.c, p.A, width_of(p), device.shared_memory};
}

template <class Tile, class T>
const char* run(const Arguments<T>& p, Call& call, const PathPlan<Tile>& plan) {
  return PathJob<Tile>(p, call, plan).run(call);
}

// Which height changes no bit. A tall tile reads the weights half as often, but its bins may not
// fit, and its blocks may leave more of the device idle.
template <int Terms>
const char* run_tensor(const Arguments<float>& p, Call& call, const Device& device) {
  using Tall = TensorTile<64, Terms, 2>;
  using Low = TensorTile<32, Terms, 2>;
  const auto tall = plan_of<Tall>(p, device);
  const auto low = plan_of<Low>(p, device);
  const auto rounds = [&](int64_t height) {
    return blocks_of(blocks_of(p.n, height) * p.P, device.processors);
  };
  // A low tile is taken for 5/8 of a tall one's time.
  const bool idle = 5 * rounds(32) < 8 * rounds(64);
  if (!tall.roomy() || (low.inside && (!tall.inside || idle))) return run(p, call, low);
  return run(p, call, tall);
}

template <class T>
const char* prepare(const Arguments<T>& p, const Call& call, Device& device) {
  if (p.A > kMostAlphas)
    return "alphas must have at most 2^20 entries on a GPU; pass them in parts";
  return use_device(call.device, &device);
}

const char* path_losses_float32(const Arguments<float>& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(prepare(p, call, device));
  if (!device.tensor_cores) call.terms = 0;
  switch (call.terms) {
    case 0:
      return run(p, call, plan_of<SimtTile<float, 64>>(p, device));
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
  LMC_CUDA_TRY(prepare(p, call, device));
  call.terms = 0;
  return run(p, call, plan_of<SimtTile<double, 16>>(p, device));
}

const CudaKernel float32{"path_losses.float32", &path_losses_float32};
const CudaKernel float64{"path_losses.float64", &path_losses_float64};

}  // namespace
}  // namespace lmc::path_losses
