// SPDX-License-Identifier: MIT
// population_loss on a GPU: prepares the networks of a group, evaluates the tiles of their neurons
// side by side, and adds up the tiles' shares in order.
#include "common/cuda_kernels.h"
#include "population_loss/pairs.cuh"
#include "population_loss/population_loss_cuda.h"

namespace lmc::population_loss {
namespace {

using cuda::Call;
using cuda::kThreads;

struct PrepareNetworks {
  int64_t networks;
  Prepared to;            // of the first; the others follow one another
  const double *w1, *w2;  // (networks, m, d), (networks, c, m)
};

// A warp owns a neuron.
__global__ void __launch_bounds__(kThreads) prepare_kernel(PrepareNetworks p) {
  const int64_t neuron = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (neuron >= p.networks * p.to.rows) return;  // whole warps
  const int64_t network = neuron / p.to.rows;
  prepare_neuron(p.to.at(network), static_cast<int>(neuron % p.to.rows),
                 p.w1 + network * p.to.m * p.to.d, p.w2 + network * p.to.c * p.to.m);
}

struct EvaluateTiles {
  int tiles;
  bool has_teacher;
  Prepared students, teacher;
  double *dw1, *dw2;  // (networks, m, d), (networks, c, m)
  double factor;
  double* shares;  // (networks, tiles), overwritten
  int64_t first_block;
};

// Block x of all owns tile x % tiles of network x / tiles.
template <int Tile, Wanted kWanted>
__global__ void __launch_bounds__(PairTile<Tile>::kThreads, Tile == kLargeTile ? 2 : 1)
    evaluate_kernel(EvaluateTiles p) {
  const int64_t block = p.first_block + blockIdx.x, network = block / p.tiles;
  const int tile = static_cast<int>(block % p.tiles);
  const Prepared student = p.students.at(network);
  const PairGradients gradients{p.dw1 + network * student.m * student.d,
                                p.dw2 + network * student.c * student.m, student.d, p.factor};
  PairTile<Tile> pairs(dynamic_shared());
  const double share = pairs.template evaluate<kWanted>(
      student, p.has_teacher ? &p.teacher : nullptr, tile * Tile, gradients);
  if (threadIdx.x == 0) p.shares[block] = share;
}

struct SumShares {
  int64_t networks;
  int tiles, teacher_tiles;
  double factor;
  const double *shares, *teacher_shares;
  double* loss;
};

// A thread owns a network.
__global__ void __launch_bounds__(kThreads) sum_shares_kernel(SumShares p) {
  const int64_t s = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (s >= p.networks) return;
  double constant = 0, sum = 0;
  for (int t = 0; t < p.teacher_tiles; ++t) constant += p.teacher_shares[t];
  for (int t = 0; t < p.tiles; ++t) sum += p.shares[s * p.tiles + t];
  p.loss[s] = p.factor * (sum + constant);
}

int tiles_of(int64_t m) { return static_cast<int>(blocks_of(m, tile_of(m))); }

const char* prepare(int64_t networks, const Prepared& to, const double* w1, const double* w2,
                    void* stream) {
  const int64_t warps = networks * to.rows;
  return launch(&prepare_kernel, dim3(static_cast<unsigned>(blocks_of(warps, kThreads / 32))),
                kThreads, 0, stream, PrepareNetworks{networks, to, w1, w2});
}

// In launches of about a tenth of a second at most, for a block of mean speed.
template <int Tile>
const char* evaluate_tiles(int64_t networks, EvaluateTiles p, Wanted wanted, double rate,
                           void* stream) {
  const auto kernel = wanted == kLoss        ? &evaluate_kernel<Tile, kLoss>
                      : wanted == kGradient1 ? &evaluate_kernel<Tile, kGradient1>
                                             : &evaluate_kernel<Tile, kGradients>;
  const double partners = static_cast<double>(p.students.m) + p.teacher.m;
  const double work = Tile * partners * (3.0 * p.students.d + 2.0 * p.students.c + 60);
  const auto together = static_cast<int64_t>(0.1 * rate / work) + 1;
  const int64_t blocks = networks * p.tiles;
  for (; p.first_block < blocks; p.first_block += together) {
    const int64_t left = blocks - p.first_block;
    LMC_CUDA_TRY(launch(kernel, dim3(static_cast<unsigned>(left < together ? left : together)),
                        PairTile<Tile>::kThreads, PairTile<Tile>::kSharedBytes, stream, p));
  }
  return nullptr;
}

const char* evaluate(int64_t networks, const EvaluateTiles& p, Wanted wanted, double rate,
                     void* stream) {
  if (p.students.m == 0) return nullptr;
  return tile_of(p.students.m) == kLargeTile
             ? evaluate_tiles<kLargeTile>(networks, p, wanted, rate, stream)
             : evaluate_tiles<kSmallTile>(networks, p, wanted, rate, stream);
}

}  // namespace

const char* prepare_teacher(const Prepared& teacher, const double* v1, const double* v2,
                            double* shares, const Device& device, void* stream) {
  LMC_CUDA_TRY(prepare(1, teacher, v1, v2, stream));
  return evaluate(1,
                  {tiles_of(teacher.m), false, teacher, teacher, nullptr, nullptr, 0.0, shares, 0},
                  kLoss, device.float64_rate, stream);
}

namespace {

const char* population_loss(const Loss& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  const Sizes& z = p.sizes;
  const Wanted wanted = p.dw2 ? kGradients : p.dw1 ? kGradient1 : kLoss;
  const int tiles = tiles_of(z.m), teacher_tiles = tiles_of(z.M);
  const bool own_dw1 = wanted == kGradients && p.dw1 == nullptr;  // not wanted, but on the way
  const int64_t each = Prepared::doubles(z.m, z.d, z.c) + tiles + (own_dw1 ? z.m * z.d : 0);
  const int64_t group = cuda::group_of(p.S, each * static_cast<int64_t>(sizeof(double)));

  Workspace space(call.workspace);
  const Prepared teacher(z.M, z.d, z.c, space);
  const Prepared students(z.m, z.d, z.c, space, group);
  auto* const teacher_shares = space.take<double>(teacher_tiles);
  auto* const shares = space.take<double>(group * tiles);
  auto* const unwanted = space.take<double>(own_dw1 ? group * z.m * z.d : 0);
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;

  const double factor = p.scale / (2 * kPi);
  LMC_CUDA_TRY(prepare_teacher(teacher, p.v1, p.v2, teacher_shares, device, call.stream));
  for (int64_t first = 0; first < p.S; first += group) {
    const int64_t networks = p.S - first < group ? p.S - first : group;
    const int64_t w1_offset = first * z.m * z.d, w2_offset = first * z.c * z.m;
    LMC_CUDA_TRY(prepare(networks, students, p.w1 + w1_offset, p.w2 + w2_offset, call.stream));
    double* const dw1 = p.dw1 ? p.dw1 + w1_offset : unwanted;
    double* const dw2 = p.dw2 ? p.dw2 + w2_offset : nullptr;
    LMC_CUDA_TRY(evaluate(networks, {tiles, true, students, teacher, dw1, dw2, factor, shares, 0},
                          wanted, device.float64_rate, call.stream));
    const SumShares sum{networks, tiles,          teacher_tiles, factor,
                        shares,   teacher_shares, p.loss + first};
    LMC_CUDA_TRY(launch(&sum_shares_kernel,
                        dim3(static_cast<unsigned>(blocks_of(networks, kThreads))), kThreads, 0,
                        call.stream, sum));
  }
  return nullptr;
}

const CudaKernel loss_float64{"population_loss.float64", &population_loss};

}  // namespace
}  // namespace lmc::population_loss
