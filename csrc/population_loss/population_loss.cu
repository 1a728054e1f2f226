// SPDX-License-Identifier: MIT
// population_loss on a GPU: prepares the networks of a group, evaluates pairs of tiles of their
// neurons side by side, and adds up what the pairs gave, in order.
//
// Tile i's block takes it with itself, with the teacher's tiles, and with the tiles i + 1, i + 2
// ... of the student, in a circle, half way round: so that every pair of tiles is taken once, and
// every block has about as many. What it adds to its own neurons lies in one slot; what it adds to
// those of tile i + k lies in slot k, where nobody else writes. Of wide students a round takes
// kSlots of the tiles half way round, and the slots are added up after every round.
#include "common/cuda_kernels.h"
#include "population_loss/pairs.cuh"
#include "population_loss/population_loss_cuda.h"

namespace lmc::population_loss {
namespace {

using cuda::Call;
using cuda::kThreads;

inline constexpr int kSlots = 16;

struct PrepareNetworks {
  int64_t networks;
  Prepared to, teacher;     // of the first student; the others follow one another
  const double *w2, *v2;    // (networks, c, m), (c, M)
  int64_t teacher_neurons;  // 0: it is prepared already
};

// Four threads own a neuron, a student's or, behind those, the teacher's.
__global__ void __launch_bounds__(kThreads) prepare_kernel(PrepareNetworks p) {
  const int64_t neuron =
      (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanesOfNeuron;
  const int64_t students = p.networks * p.to.rows;
  if (neuron >= students + p.teacher_neurons) return;  // whole warps: rows come in kRowUnit
  if (neuron >= students) {
    prepare_neuron(p.teacher, static_cast<int>(neuron - students), p.v2, -1.0);
    return;
  }
  const int64_t network = neuron / p.to.rows;
  prepare_neuron(p.to.at(network), static_cast<int>(neuron % p.to.rows),
                 p.w2 + network * p.to.c * p.to.m, 1.0);
}

// Rounds that a network of so many tiles takes.
LMC_HOST_DEVICE inline int rounds_of(int tiles) {
  return tiles / 2 <= kSlots ? 1 : (tiles / 2 + kSlots - 1) / kSlots;
}

struct EvaluateTiles {
  int tiles, teacher_tiles;
  Prepared students, teacher;
  int networks;  // rows of blocks; the rows behind them are the teacher's
  int first_round, rounds;
  int64_t slots;                    // of one round; 0: no gradient is wanted
  PairSums sums;                    // (networks, slots)
  double *shares, *teacher_shares;  // (networks, tiles), (teacher_tiles)
  int first_tile, first_row;
};

// Block (x, y) owns tile x of network y, or of the teacher as many as a student has in a row.
template <int Tile, Wanted kWanted>
__global__ void __launch_bounds__(PairTile<Tile>::kThreads, resident_blocks(Tile))
    evaluate_kernel(EvaluateTiles p) {
  const int network = p.first_row + static_cast<int>(blockIdx.y);
  const bool of_teacher = network >= p.networks;
  const int column = p.first_tile + static_cast<int>(blockIdx.x);
  const int tile = of_teacher ? (network - p.networks) * p.tiles + column : column;
  const int tiles = of_teacher ? p.teacher_tiles : p.tiles, first = tile * Tile;
  if (tile >= tiles) return;
  const Prepared net = of_teacher ? p.teacher : p.students.at(network);
  PairNetworks networks{net, p.teacher, {}};
  if (of_teacher) networks.teacher.m = 0;
  const int teacher_tiles = networks.teacher.m <= kFewNeurons ? 0 : p.teacher_tiles;
  if (kWanted != kLoss && !of_teacher) {
    // The first slot is added to.
    networks.sums = p.sums.of_slot(static_cast<int64_t>(network) * p.slots, net.m, net.d, net.c);
    const int rows = net.m - first < Tile ? net.m - first : Tile, pitch = pitch_of(net.d);
    double* const direction = networks.sums.direction + static_cast<int64_t>(first) * pitch;
    for (int e = static_cast<int>(threadIdx.x); e < rows * pitch; e += PairTile<Tile>::kThreads)
      direction[e] = 0;
    for (int i = static_cast<int>(threadIdx.x); i < rows; i += PairTile<Tile>::kThreads) {
      networks.sums.half_sine[first + i] = 0;
      if (kWanted == kGradients)
        for (int o = 0; o < net.c; ++o)
          networks.sums.shape[static_cast<int64_t>(o) * net.m + first + i] = 0;
    }
  }
  PairTile<Tile> pairs(dynamic_shared(), networks);
  // With a gradient a launch is a round, and a teacher that comes along takes no more.
  const int end = kWanted != kLoss ? p.first_round + 1
                  : of_teacher     ? rounds_of(tiles)
                                   : p.first_round + p.rounds;
#pragma unroll 1
  for (int round = p.first_round; round < end; ++round) {
    // Offset by offset, and in the first round then the teacher's tiles.
    const int base = round * kSlots, last = tiles / 2 < base + kSlots ? tiles / 2 : base + kSlots;
    const int all = round == 0 ? last + teacher_tiles : last;
    double value = 0;
#pragma unroll 1
    for (int k = round == 0 ? 0 : base + 1; k <= all; ++k) {
      int other = tile + k < tiles ? tile + k : tile + k - tiles;
      // The tile half way round has met this one already, as its own.
      if (k <= last && 2 * k == tiles && other < tile) continue;
      if (k > last) other = k - last - 1;
      const Relation relation = k > last ? kTeacher : k == 0 ? kSame : kOwn;
      value += pairs.template add<kWanted>(
          {relation, first, other * Tile, round == 0 ? k > 0 : k > base + 1, k - base});
    }
    value = block_sum<PairTile<Tile>::kThreads>(value, pairs.scratch());
    if (threadIdx.x == 0) {
      double* const share = of_teacher ? p.teacher_shares + tile
                                       : p.shares + static_cast<int64_t>(network) * tiles + tile;
      *share = round == 0 ? value : *share + value;
    }
  }
}

struct SumShares {
  int tiles, teacher_tiles;
  double factor;
  const double *shares, *teacher_shares;
  double* loss;

  __device__ void add_up(int64_t s) const {
    double constant = 0, sum = 0;
    for (int t = 0; t < teacher_tiles; ++t) constant += teacher_shares[t];
    for (int t = 0; t < tiles; ++t) sum += shares[s * tiles + t];
    loss[s] = factor * (sum + constant);
  }
};

struct LossOnly {
  int64_t networks;
  SumShares sums;
};

// A thread owns a network.
__global__ void __launch_bounds__(kThreads) sum_shares_kernel(LossOnly p) {
  const int64_t s = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (s < p.networks) p.sums.add_up(s);
}

struct SumSlots {
  Prepared students;
  int64_t slots;  // as in EvaluateTiles
  PairSums from;
  int tile, tiles, round;
  bool last;
  double *dw1, *dw2;  // (networks, m, d), (networks, c, m), each null if not wanted
  SumShares sums;
};

// Row y of blocks owns network y, a thread an element of w1 or, behind them, of w2. Between rounds
// the gradient holds the sums so far, without what all have in common.
__global__ void __launch_bounds__(kThreads) sum_slots_kernel(SumSlots p) {
  const int64_t network = blockIdx.y, e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const Prepared net = p.students.at(network);
  const int64_t w1_size = static_cast<int64_t>(net.m) * net.d, f = e - w1_size;
  if (e == 0 && p.last) p.sums.add_up(network);
  if (e >= w1_size + static_cast<int64_t>(net.c) * net.m ||
      (e < w1_size ? p.dw1 : p.dw2) == nullptr)
    return;
  const int i = static_cast<int>(e < w1_size ? e / net.d : f % net.m), base = p.round * kSlots;
  const double unit = e < w1_size ? net.w1[e] * net.inverse[i] : 0.0;
  double* const out =
      e < w1_size ? p.dw1 + network * w1_size + e : p.dw2 + network * net.c * net.m + f;
  double sum = p.round == 0 ? 0.0 : *out;
  for (int slot = 0; slot < p.slots && base + slot <= p.tiles / 2; ++slot) {
    // Nobody wrote to the first half of the slot half way round.
    if (slot > 0 && 2 * (base + slot) == p.tiles && 2 * (i / p.tile) < p.tiles) continue;
    const PairSums from = p.from.of_slot(network * p.slots + slot, net.m, net.d, net.c);
    sum += e < w1_size ? from.direction[i * static_cast<int64_t>(pitch_of(net.d)) + e % net.d] +
                             2 * from.half_sine[i] * unit
                       : from.shape[f];
  }
  if (p.last) {
    sum *= p.sums.factor * (e < w1_size ? net.inverse[i] : net.norm[i]);
    if (net.norm[i] == 0) sum = 0;
  }
  *out = sum;
}

const char* prepare(const PrepareNetworks& p, void* stream) {
  const int64_t threads = (p.networks * p.to.rows + p.teacher_neurons) * kLanesOfNeuron;
  return launch(&prepare_kernel, dim3(static_cast<unsigned>(blocks_of(threads, kThreads))),
                kThreads, 0, stream, p);
}

// All students' tiles, and the teacher's if it is asked for, in launches of about a tenth of a
// second at most, for a block of mean speed.
template <int Tile>
const char* evaluate_tiles(EvaluateTiles p, bool teacher, Wanted wanted, double rate,
                           void* stream) {
  const auto kernel = wanted == kLoss        ? &evaluate_kernel<Tile, kLoss>
                      : wanted == kGradient1 ? &evaluate_kernel<Tile, kGradient1>
                                             : &evaluate_kernel<Tile, kGradients>;
  const double partners = static_cast<double>(p.students.m) + p.teacher.m;
  const double work = Tile * partners * (3.0 * p.students.d + 2.0 * p.students.c + 60);
  const auto together = static_cast<int64_t>(0.1 * rate / work) + 1;
  const int64_t all_rows = p.networks + (teacher ? blocks_of(p.teacher_tiles, p.tiles) : 0);
  const int64_t most = together / p.tiles < 1 ? 1 : together / p.tiles;
  const int64_t rows = most < kMostNetworks ? most : kMostNetworks;
  const int64_t columns = together < p.tiles ? together : p.tiles;
  for (p.first_row = 0; p.first_row < all_rows; p.first_row += static_cast<int>(rows))
    for (p.first_tile = 0; p.first_tile < p.tiles; p.first_tile += static_cast<int>(columns)) {
      const int64_t right = p.tiles - p.first_tile, below = all_rows - p.first_row;
      const dim3 grid(static_cast<unsigned>(right < columns ? right : columns),
                      static_cast<unsigned>(below < rows ? below : rows));
      LMC_CUDA_TRY(launch(kernel, grid, PairTile<Tile>::kThreads,
                          PairTile<Tile>::shared_bytes(wanted), stream, p));
    }
  return nullptr;
}

const char* evaluate(int tile, const EvaluateTiles& p, bool teacher, Wanted wanted, double rate,
                     void* stream) {
  return tile == kLargeTile ? evaluate_tiles<kLargeTile>(p, teacher, wanted, rate, stream)
                            : evaluate_tiles<kSmallTile>(p, teacher, wanted, rate, stream);
}

}  // namespace

const char* prepare_teacher(const Prepared& teacher, const double* v2, double* shares,
                            const Device& device, void* stream) {
  const int tile = tile_of(teacher.m, device), tiles = tiles_of(teacher.m, tile);
  LMC_CUDA_TRY(prepare({0, teacher, teacher, nullptr, v2, teacher.rows}, stream));
  const EvaluateTiles p{tiles, tiles, teacher, teacher, 0, 0, 0, 0, {}, nullptr, shares, 0, 0};
  return evaluate(tile, p, true, kLoss, device.float64_rate, stream);
}

namespace {

const char* population_loss(const Loss& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  const Sizes& z = p.sizes;
  const Wanted wanted = p.dw2 ? kGradients : p.dw1 ? kGradient1 : kLoss;
  const int tile = tile_of(z.m, device), tiles = tiles_of(z.m, tile);
  const int teacher_tiles = tiles_of(z.M, tile), rounds = rounds_of(tiles);
  const int64_t slots = wanted == kLoss ? 0 : (tiles / 2 < kSlots ? tiles / 2 : kSlots) + 1;
  const int64_t outputs = wanted == kGradients ? z.c : 0;
  const int64_t each =
      Prepared::doubles(z.m, z.c) + tiles + slots * z.m * (pitch_of(z.d) + 1 + outputs);
  const int64_t group = cuda::group_of(p.S, each * static_cast<int64_t>(sizeof(double)));

  Workspace space(call.workspace);
  const Prepared teacher(z.M, z.d, z.c, p.v1, space);
  Prepared students(z.m, z.d, z.c, p.w1, space, group);
  auto* const teacher_shares = space.take<double>(teacher_tiles);
  auto* const shares = space.take<double>(group * tiles);
  auto* const direction = space.take<double>(group * slots * z.m * pitch_of(z.d));
  auto* const half_sine = space.take<double>(group * slots * z.m);
  auto* const shape = space.take<double>(group * slots * z.m * outputs);
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;

  const double factor = p.scale / (2 * kPi);
  for (int64_t first = 0; first < p.S; first += group) {
    const int64_t networks = p.S - first < group ? p.S - first : group;
    const int64_t w1_offset = first * z.m * z.d, w2_offset = first * z.c * z.m;
    students.w1 = p.w1 + w1_offset;
    LMC_CUDA_TRY(prepare(
        {networks, students, teacher, p.w2 + w2_offset, p.v2, first == 0 ? teacher.rows : 0},
        call.stream));
    const SumShares sums{tiles, teacher_tiles, factor, shares, teacher_shares, p.loss + first};
    EvaluateTiles k{tiles,
                    teacher_tiles,
                    students,
                    teacher,
                    static_cast<int>(networks),
                    0,
                    wanted == kLoss ? rounds : 1,
                    slots,
                    {direction, half_sine, shape},
                    shares,
                    teacher_shares,
                    0,
                    0};
    for (; k.first_round < rounds; k.first_round += k.rounds) {
      bool with_teacher = first == 0 && k.first_round == 0;
      if (with_teacher && wanted != kLoss && rounds_of(teacher_tiles) > 1) {
        EvaluateTiles alone = k;
        alone.networks = 0;
        LMC_CUDA_TRY(evaluate(tile, alone, true, kLoss, device.float64_rate, call.stream));
        with_teacher = false;
      }
      LMC_CUDA_TRY(evaluate(tile, k, with_teacher, wanted, device.float64_rate, call.stream));
      if (wanted == kLoss) continue;
      const SumSlots sum{students,
                         k.slots,
                         k.sums,
                         tile,
                         tiles,
                         k.first_round,
                         k.first_round + 1 == rounds,
                         p.dw1 ? p.dw1 + w1_offset : nullptr,
                         p.dw2 ? p.dw2 + w2_offset : nullptr,
                         sums};
      const int64_t elements = z.m * (z.d + z.c);
      const dim3 grid(static_cast<unsigned>(blocks_of(elements < 1 ? 1 : elements, kThreads)),
                      static_cast<unsigned>(networks));
      LMC_CUDA_TRY(launch(&sum_slots_kernel, grid, kThreads, 0, call.stream, sum));
    }
    if (wanted == kLoss)
      LMC_CUDA_TRY(launch(&sum_shares_kernel,
                          dim3(static_cast<unsigned>(blocks_of(networks, kThreads))), kThreads, 0,
                          call.stream, LossOnly{networks, sums}));
  }
  return nullptr;
}

const CudaKernel loss_float64{"population_loss.float64", &population_loss};

}  // namespace
}  // namespace lmc::population_loss
