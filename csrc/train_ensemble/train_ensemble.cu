// SPDX-License-Identifier: MIT
// train_ensemble on a GPU: a block trains a student, in shared memory where a student fits.
#include "common/cuda_kernels.h"
#include "train_ensemble/lane_student.cuh"
#include "train_ensemble/population_student.cuh"
#include "train_ensemble/sample_student.cuh"

namespace lmc::train_ensemble {
namespace {

using namespace cuda;
using population_loss::kLargeTile;
using population_loss::kSmallTile;
using population_loss::resident_blocks;

// Block s trains student s, whose memory is `bytes` of shared memory behind the kernel's own, or
// here.
struct StudentMemory {
  unsigned char* global;  // null: shared
  int64_t bytes;

  __device__ unsigned char* at(int64_t s, unsigned char* shared) const {
    return global ? global + s * bytes : shared;
  }
};

// Two blocks of an SM should fit, so that one computes while the other waits.
bool resident(int64_t shared_bytes, const Device& device) {
  return 2 * shared_bytes <= device.shared_memory;
}

struct TrainOnPopulation {
  Run<double> run;
  PopulationTeacher teacher;
  StudentMemory memory;
};

template <int Tile, bool TrainW2>
__global__ void __launch_bounds__(PairTile<Tile>::kThreads, resident_blocks(Tile))
    train_on_population_kernel(TrainOnPopulation p) {
  using Student = PopulationStudent<Tile, TrainW2>;
  const int64_t s = blockIdx.x;
  if (p.run.status[s] != kRunning) return;
  unsigned char* const shared = dynamic_shared();
  Workspace space(p.memory.at(s, shared + Student::shared_bytes(Student::kWanted)));
  const PopulationMemory memory(p.run.problem.sizes, TrainW2, space);
  Student student(p.run, s, p.teacher, memory, shared);
  descend(p.run, s, student);
}

template <int Tile>
const char* launch_on_population(const TrainOnPopulation& p, int64_t students, size_t shared,
                                 const Call& call) {
  return launch(p.run.problem.train_w2 ? &train_on_population_kernel<Tile, true>
                                       : &train_on_population_kernel<Tile, false>,
                dim3(static_cast<unsigned>(students)), PairTile<Tile>::kThreads, shared,
                call.stream, p);
}

const char* train_on_population(const Run<double>& run, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  const Sizes& z = run.problem.sizes;
  const bool large = population_loss::tile_of(z.m, device) == kLargeTile;
  const auto wanted =
      run.problem.train_w2 ? population_loss::kGradients : population_loss::kGradient1;
  const size_t fixed = large ? PopulationStudent<kLargeTile, true>::shared_bytes(wanted)
                             : PopulationStudent<kSmallTile, true>::shared_bytes(wanted);
  Workspace one(nullptr);
  PopulationMemory(z, run.problem.train_w2, one);
  const bool shared = resident(static_cast<int64_t>(fixed) + one.bytes(), device);

  Workspace space(call.workspace);
  const int tiles = population_loss::tiles_of(z.M, population_loss::tile_of(z.M, device));
  const Prepared prepared(z.M, z.d, z.c, run.problem.v1, space);
  auto* const shares = space.take<double>(tiles);
  auto* const global = space.take<unsigned char>(shared ? 0 : z.S * one.bytes());
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;

  const double scale = run.problem.input_scale;
  LMC_CUDA_TRY(
      population_loss::prepare_teacher(prepared, run.problem.v2, shares, device, call.stream));
  const TrainOnPopulation p{run,
                            {prepared, tiles, shares, scale / (2 * population_loss::kPi)},
                            {shared ? nullptr : global, one.bytes()}};
  const size_t bytes = fixed + (shared ? static_cast<size_t>(one.bytes()) : 0);
  return large ? launch_on_population<kLargeTile>(p, z.S, bytes, call)
               : launch_on_population<kSmallTile>(p, z.S, bytes, call);
}

template <class T>
struct TrainOnSamples {
  SampleRun<T> run;
  SampleShape shape;
  StudentMemory memory;
};

template <class T, int Rows>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 2 : 1)
    train_on_samples_kernel(TrainOnSamples<T> p) {
  const int64_t s = blockIdx.x;
  if (!p.run.evaluate && p.run.status[s] != kRunning) return;
  const int64_t block = s * gridDim.y + blockIdx.y;
  Workspace space(p.memory.at(block, dynamic_shared()));
  const SampleMemory<T> memory(p.shape, Rows, space);
  SampleStudent<T, Rows> student(p.run, s, p.shape, memory);
  const double loss = descend(p.run, s, student);
  if (p.run.evaluate && threadIdx.x == 0)
    p.run.shares[s * p.run.ranges + p.run.first_range + blockIdx.y] = loss;
}

template <class T>
struct TrainOnLanes {
  SampleRun<T> run;
  LaneShape shape;
};

template <class T, int Neurons, int Wide>
__global__ void __launch_bounds__(kLaneThreads, sizeof(T) == 8 ? 2
                                                : Neurons <= 7 ? 4
                                                               : 3)
    train_on_lanes_kernel(TrainOnLanes<T> p) {
  const int64_t s = blockIdx.x;
  if (!p.run.evaluate && p.run.status[s] != kRunning) return;
  const LaneMemory<T> memory(p.shape, dynamic_shared());
  LaneStudent<T, Neurons, Wide> student(p.run, s, p.shape, memory);
  const double loss = descend(p.run, s, student);
  if (p.run.evaluate && threadIdx.x == 0)
    p.run.shares[s * p.run.ranges + p.run.first_range + blockIdx.y] = loss;
}

template <class T, int Wide>
const char* launch_on_lanes(const TrainOnLanes<T>& p, dim3 grid, const Call& call) {
  auto* kernel = p.shape.neurons == 4 ? &train_on_lanes_kernel<T, 4, Wide>
                                      : &train_on_lanes_kernel<T, 8, Wide>;
  if constexpr (sizeof(T) == 4)
    if (p.shape.neurons == 7) kernel = &train_on_lanes_kernel<T, 7, Wide>;
  return launch(kernel, grid, kLaneThreads, static_cast<size_t>(p.shape.bytes), call.stream, p);
}

struct AddShares {
  int64_t S, ranges;
  const double* shares;  // (S, ranges)
  double* loss;
};

// A thread owns a student.
__global__ void __launch_bounds__(kThreads) add_shares_kernel(AddShares p) {
  const int64_t s = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (s >= p.S) return;
  double sum = 0;
  for (int64_t r = 0; r < p.ranges; ++r) sum += p.shares[s * p.ranges + r];
  p.loss[s] = sum;
}

// The kernel for one range of samples, or for steps: of small students, or of others.
template <class T>
const char* launch_on_samples(const SampleRun<T>& run, const LaneShape& lanes,
                              const StudentMemory& memory, int rows, dim3 grid, const Call& call) {
  if (lanes.neurons > 0) {
    const TrainOnLanes<T> p{run, lanes};
    if constexpr (sizeof(T) == 4)
      if (lanes.wide == 20) return launch_on_lanes<T, 20>(p, grid, call);
    return launch_on_lanes<T, 12>(p, grid, call);
  }
  const TrainOnSamples<T> p{run, SampleShape(run.problem, rows), memory};
  return launch(rows == 64 ? &train_on_samples_kernel<T, 64> : &train_on_samples_kernel<T, 16>,
                grid, kThreads, memory.global == nullptr ? static_cast<size_t>(memory.bytes) : 0,
                call.stream, p);
}

template <class T>
const char* train_on_samples(const Run<T>& run, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  const Problem<T>& p = run.problem;
  const int64_t S = p.sizes.S;
  const int rows = rows_of(p);
  if (rows == 0) return "the student does not fit into one block";
  SampleRun<T> q{};
  static_cast<Run<T>&>(q) = run;
  q.scale = T(1) / static_cast<T>(p.method == Method::sgd ? p.sizes.batch : p.sizes.n);
  q.range = samples_of_range(p.sizes);
  q.ranges = run.evaluate ? blocks_of(p.sizes.n, q.range) : 1;
  // Ranges that are evaluated together: enough for any GPU, and no long launch.
  constexpr int64_t kBlocks = 2048;
  const int64_t most = blocks_of(kBlocks, S < 1 ? 1 : S);
  const int64_t together = q.ranges < most ? q.ranges : most;

  const LaneShape lanes = lane_shape(p);
  const bool on_lanes = lanes.neurons > 0;
  Workspace one(nullptr);
  const SampleMemory<T> memory(SampleShape(p, rows), rows, one);
  const bool shared = on_lanes || resident(one.bytes(), device);
  const bool lists = on_lanes ? lanes.lists : memory.has_lists;
  Workspace space(call.workspace);
  auto* const global = space.take<unsigned char>(shared ? 0 : S * together * one.bytes());
  q.shares = space.take<double>(run.evaluate ? S * q.ranges : 0);
  q.heads =
      space.take<uint32_t>(run.orders == nullptr || run.evaluate || lists ? 0 : S * p.sizes.n);
  call.bytes = space.bytes();
  if (call.workspace == nullptr) return nullptr;

  for (; q.first_range < q.ranges; q.first_range += together) {
    const int64_t left = q.ranges - q.first_range;
    const dim3 grid(static_cast<unsigned>(S),
                    static_cast<unsigned>(left < together ? left : together));
    LMC_CUDA_TRY(
        launch_on_samples(q, lanes, {shared ? nullptr : global, one.bytes()}, rows, grid, call));
  }
  if (!run.evaluate) return nullptr;
  return launch(&add_shares_kernel, dim3(static_cast<unsigned>(blocks_of(S, kThreads))), kThreads,
                0, call.stream, AddShares{S, q.ranges, q.shares, p.loss_out});
}

template <class T>
const char* train(const Run<T>& run, Call& call) {
  if constexpr (sizeof(T) == 8)
    if (run.problem.method == Method::population_gd) return train_on_population(run, call);
  return train_on_samples(run, call);
}

// A thread owns two numbers of a student.
__global__ void __launch_bounds__(kThreads) normals_kernel(Normals p) {
  const int64_t pairs = (p.count + 1) / 2;
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= p.S * pairs) return;
  const int64_t s = e / pairs, q = e % pairs;
  const double2 two = two_normals(p.seeds[s], static_cast<uint64_t>(q), p.step);
  double* const out = p.out + s * p.count + 2 * q;
  out[0] = two.x;
  if (2 * q + 1 < p.count) out[1] = two.y;
}

// Needs no workspace: it is called once.
const char* normals(const Normals& p, Call& call) {
  Device device{};
  LMC_CUDA_TRY(use_device(call.device, &device));
  return launch(&normals_kernel,
                dim3(static_cast<unsigned>(blocks_of(p.S * ((p.count + 1) / 2), kThreads))),
                kThreads, 0, call.stream, p);
}

const CudaKernel train_float32{"train_ensemble.float32", &train<float>};
const CudaKernel train_float64{"train_ensemble.float64", &train<double>};
const CudaKernel normals_float64{"train_ensemble.normals.float64", &normals};

}  // namespace
}  // namespace lmc::train_ensemble
