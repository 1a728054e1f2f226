// SPDX-License-Identifier: MIT
// CUDA on the CPU, for tests: the header of the same name in csrc/common/cuda, done by fibers.
//
// A block's threads are fibers that run one at a time and change hands only at barriers and warp
// instructions. A missing barrier shows as a wrong result, because the order in which warps and
// their lanes run between two barriers is a parameter (forwards, backwards, shuffled), and a warp
// runs as far as it gets before the next one starts. Shared memory starts as NaN, the place that an
// asynchronous copy goes to is NaN from its start until it is waited for, and matrix instructions
// round as tensor cores may: products exact, each sum truncated towards zero.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct float2 {
  float x, y;
};
struct alignas(16) double2 {
  double x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint4 {
  uint32_t x, y, z, w;
};

inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;

namespace lmc::emulation {

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct PendingCopy {
  void* to;
  const void* from;
  bool valid;
};

struct Fiber {
  ucontext_t context;  // where it starts
  jmp_buf place;       // where it goes on: unlike swapcontext this asks nothing of the system
  bool started = false;
  State state = State::kReady;
  int warp_operations = 0;
  std::vector<std::vector<PendingCopy>> groups;                 // the last one is open
  std::vector<std::vector<std::function<void()>>> products{1};  // of its warpgroup; likewise
};

// Bulk copies to one place: those of the filling under way, and how many fillings have landed.
struct Landing {
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };
  std::vector<Copy> copies;
  size_t announced = 0, landed = 0;
};

// What the 32 lanes of a warp show one another in one instruction. Two, because a fast lane may be
// one instruction ahead of a slow one.
struct Exchange {
  uint32_t words[32][8];
  const void* pointers[32];
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Exchange> exchanges[2];
  std::vector<unsigned char> shared;
  std::map<const void*, Landing> landings;  // by their barrier
  jmp_buf scheduler;
  size_t current = 0;
  std::function<void()> body;
};

inline Block* block = nullptr;
inline int thread_order = 0;  // 0 forwards, 1 backwards, else shuffled with this seed

inline Fiber& self() { return block->fibers[block->current]; }

inline void yield(State state) {
  self().state = state;
  if (_setjmp(self().place) == 0) _longjmp(block->scheduler, 1);
}

inline void run_fiber() {
  block->body();
  self().state = State::kDone;
  _longjmp(block->scheduler, 1);
}

// Runs the current fiber until it yields or ends.
[[gnu::noinline]] inline void resume() {
  if (_setjmp(block->scheduler) != 0) return;
  Fiber& fiber = self();
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  setcontext(&fiber.context);
}

constexpr size_t kStackBytes = 128 * 1024;

inline void* stack_of(ptrdiff_t thread) {  // kept from block to block
  static void* const stacks = std::malloc(1024 * kStackBytes);
  return static_cast<char*>(stacks) + static_cast<size_t>(thread) * kStackBytes;
}

// Runs those lanes of a warp that can run, each up to its next barrier or warp instruction; false
// if there are none.
inline bool run_warp(Block& here, size_t warp, std::mt19937& random, size_t& done) {
  const size_t first = warp * 32, last = std::min(first + 32, here.fibers.size());
  size_t lanes[32];
  for (size_t i = first; i < last; ++i) lanes[i - first] = i;
  if (thread_order == 1) std::reverse(lanes, lanes + (last - first));
  if (thread_order > 1) std::shuffle(lanes, lanes + (last - first), random);
  bool progress = false, all = true;
  for (size_t l = 0; l < last - first; ++l) {
    Fiber& fiber = here.fibers[lanes[l]];
    if (fiber.state == State::kReady) {
      progress = true;
      here.current = lanes[l];
      threadIdx = {static_cast<unsigned>(lanes[l]), 0, 0};
      resume();
      if (fiber.state == State::kDone) ++done;
    }
    all &= fiber.state == State::kAtWarpBarrier;
  }
  if (all)  // the warp goes on when all its lanes are at their barrier
    for (size_t i = first; i < last; ++i) here.fibers[i].state = State::kReady;
  return progress;
}

inline void run_block(int threads, size_t shared_bytes, std::function<void()> body) {
  Block here;
  here.body = std::move(body);
  here.shared.assign(shared_bytes + 1024, 0xff);  // NaN
  here.fibers.resize(static_cast<size_t>(threads));
  for (auto& buffer : here.exchanges) buffer.resize(static_cast<size_t>(threads + 31) / 32);
  block = &here;
  for (auto& fiber : here.fibers) {
    fiber.groups.emplace_back();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack_of(&fiber - here.fibers.data());
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
  }
  std::vector<size_t> warps((here.fibers.size() + 31) / 32);
  for (size_t i = 0; i < warps.size(); ++i) warps[i] = i;
  std::mt19937 random(static_cast<unsigned>(thread_order));
  size_t done = 0;
  while (done < here.fibers.size()) {
    if (thread_order == 1) std::sort(warps.rbegin(), warps.rend());
    if (thread_order > 1) std::shuffle(warps.begin(), warps.end(), random);
    bool progress = false;
    for (size_t warp : warps)
      while (run_warp(here, warp, random, done)) {
        progress = true;
        if (thread_order > 1 && random() % 16 == 0) break;  // the others may overtake
      }
    bool all = done < here.fibers.size();  // the block goes on when all threads are at its barrier
    for (const auto& fiber : here.fibers) all &= fiber.state == State::kAtBlockBarrier;
    if (all) {
      progress = true;
      for (auto& fiber : here.fibers) fiber.state = State::kReady;
    }
    if (!progress) {
      std::fprintf(stderr, "emulation: threads wait for each other for ever\n");
      std::abort();
    }
  }
  block = nullptr;
}

inline unsigned lane() { return threadIdx.x % 32; }

// Shows this lane's values to the warp and returns those of all lanes.
inline const Exchange& exchange(const uint32_t* words, int count, const void* pointer) {
  Exchange& shown = block->exchanges[self().warp_operations++ % 2][threadIdx.x / 32];
  for (int i = 0; i < count; ++i) shown.words[lane()][i] = words[i];
  shown.pointers[lane()] = pointer;
  yield(State::kAtWarpBarrier);
  return shown;
}

template <class T>
T shuffle(T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint32_t words[2] = {};
  std::memcpy(words, &value, sizeof(T));
  const Exchange& shown = exchange(words, 2, nullptr);
  T result;
  std::memcpy(&result, shown.words[source % 32], sizeof(T));
  return result;
}

inline float bfloat16(uint32_t bits) {
  const uint32_t word = (bits & 0xffffu) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

inline float truncated(double value) {
  const float nearest = static_cast<float>(value);
  if (!std::isfinite(nearest) || std::fabs(static_cast<double>(nearest)) <= std::fabs(value))
    return nearest;
  return std::nextafter(nearest, 0.0f);
}

}  // namespace lmc::emulation

inline void __syncthreads() { lmc::emulation::yield(lmc::emulation::State::kAtBlockBarrier); }
inline void __syncwarp(unsigned = 0xffffffffu) { lmc::emulation::exchange(nullptr, 0, nullptr); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return lmc::emulation::shuffle(value, lmc::emulation::lane() ^ static_cast<unsigned>(mask));
}
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  return lmc::emulation::shuffle(value, static_cast<unsigned>(source));
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  const uint32_t word = predicate;
  const auto& shown = lmc::emulation::exchange(&word, 1, nullptr);
  unsigned result = 0;
  for (int l = 0; l < 32; ++l) result |= shown.words[l][0] << l;
  return result;
}
inline unsigned __match_any_sync(unsigned, int value) {
  const auto word = static_cast<uint32_t>(value);
  const auto& shown = lmc::emulation::exchange(&word, 1, nullptr);
  unsigned result = 0;
  for (int l = 0; l < 32; ++l) result |= static_cast<unsigned>(shown.words[l][0] == word) << l;
  return result;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline unsigned atomicOr(unsigned* address, unsigned value) {
  return std::exchange(*address, *address | value);
}
inline unsigned atomicExch(unsigned* address, unsigned value) {
  return std::exchange(*address, value);
}
template <class T>
T __ldg(const T* address) {
  return *address;
}

namespace lmc::cuda {

inline constexpr bool kTensorCores = true, kWarpgroups = true;

inline unsigned char* dynamic_shared() {
  auto address = reinterpret_cast<uintptr_t>(emulation::block->shared.data());
  return reinterpret_cast<unsigned char*>((address + 1023) / 1024 * 1024);
}

inline void sine_cosine_2pi(double turns, double* sine, double* cosine) {
  *sine = std::sin(2 * M_PI * turns);
  *cosine = std::cos(2 * M_PI * turns);
}

// Off by about what the machine may be off by.
inline float approximate_quotient(float a, float b) { return a / b * (1.0f + 0x1p-22f); }
inline int here(int value) { return value; }

inline void copy_async(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0)) {
    std::fprintf(stderr, "emulation: misaligned asynchronous copy\n");
    std::abort();
  }
  std::memset(shared, 0xff, 16);  // from now until it has landed nobody may read there
  emulation::self().groups.back().push_back({shared, global, valid});
}
inline void copy_commit() { emulation::self().groups.emplace_back(); }
template <int Pending>
void copy_wait() {
  auto& groups = emulation::self().groups;
  while (groups.size() > Pending + 1) {
    for (const auto& copy : groups.front()) {
      if (copy.valid)
        std::memcpy(copy.to, copy.from, 16);
      else
        std::memset(copy.to, 0, 16);
    }
    groups.erase(groups.begin());
  }
}

inline void load_matrices(uint32_t (&to)[4], const void* shared_row) {
  const auto& shown = emulation::exchange(nullptr, 0, shared_row);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned q = 0; q < 4; ++q)
    std::memcpy(&to[q], static_cast<const char*>(shown.pointers[8 * q + g]) + 4 * t, 4);
}
inline void load_matrices_transposed(uint32_t (&to)[4], const void* shared_row) {
  const auto& shown = emulation::exchange(nullptr, 0, shared_row);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned q = 0; q < 4; ++q) {
    uint16_t pair[2];
    for (unsigned e = 0; e < 2; ++e)
      std::memcpy(&pair[e], static_cast<const char*>(shown.pointers[8 * q + 2 * t + e]) + 2 * g, 2);
    std::memcpy(&to[q], pair, 4);
  }
}
inline void multiply_add(float& d0, float& d1, float& d2, float& d3, const uint32_t (&a)[4],
                         uint32_t b0, uint32_t b1) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const auto& shown = emulation::exchange(mine, 6, nullptr);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  // A(row, k): lane 4 (row % 8) + (k % 8) / 2, register (row / 8) + 2 (k / 8), half k % 2.
  // B(k, column): lane 4 column + (k % 8) / 2, register 4 + k / 8, half k % 2.
  const auto element = [&](unsigned row, unsigned column) {
    double sum = 0;
    for (unsigned k = 0; k < 16; ++k) {
      const uint32_t left = shown.words[4 * (row % 8) + k % 8 / 2][row / 8 + 2 * (k / 8)];
      const uint32_t right = shown.words[4 * column + k % 8 / 2][4 + k / 8];
      sum += static_cast<double>(emulation::bfloat16(left >> (16 * (k % 2)))) *
             emulation::bfloat16(right >> (16 * (k % 2)));
    }
    return sum;
  };
  d0 = emulation::truncated(d0 + element(g, 2 * t));
  d1 = emulation::truncated(d1 + element(g, 2 * t + 1));
  d2 = emulation::truncated(d2 + element(g + 8, 2 * t));
  d3 = emulation::truncated(d3 + element(g + 8, 2 * t + 1));
}

inline void multiply_add(double (&d)[4], double a0, double a1, double b) {
  const double mine[3] = {a0, a1, b};
  uint32_t words[6];
  std::memcpy(words, mine, sizeof words);
  const auto& shown = emulation::exchange(words, 6, nullptr);
  const auto number = [&](unsigned lane, int which) {
    double value;
    std::memcpy(&value, &shown.words[lane][2 * which], sizeof value);
    return value;
  };
  // A(row, k): lane 4 (row % 8) + k, number row / 8. B(k, column): lane 4 column + k.
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned e = 0; e < 4; ++e)
    for (unsigned k = 0; k < 4; ++k)
      d[e] = std::fma(number(4 * g + k, static_cast<int>(e / 2)),
                      number(4 * (2 * t + e % 2) + k, 2), d[e]);
}

inline double about_reciprocal_root(double value) {
  const double root = 1 / std::sqrt(value);
  uint64_t bits;
  std::memcpy(&bits, &root, sizeof bits);
  bits &= ~uint64_t{0xffffffff};  // the upper 20 of 52 bits are left
  double rounded;
  std::memcpy(&rounded, &bits, sizeof rounded);
  return rounded;
}

inline uint32_t upper_word(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint32_t>(bits >> 32);
}

using CopyBarrier = uint64_t;

inline void copy_barrier_start(CopyBarrier* barrier) { emulation::block->landings[barrier] = {}; }
inline void copy_barrier_announce(CopyBarrier* barrier, uint32_t bytes) {
  emulation::block->landings.at(barrier).announced += bytes;
}
inline void copy_bulk(void* shared, const void* global, uint32_t bytes, CopyBarrier* barrier) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes % 16 != 0) {
    std::fprintf(stderr, "emulation: misaligned bulk copy\n");
    std::abort();
  }
  std::memset(shared, 0xff, bytes);  // from now until it has landed nobody may read there
  emulation::block->landings.at(barrier).copies.push_back({shared, global, bytes});
}
// Copies land as late as they may: when they are first waited for.
inline void copy_barrier_wait(CopyBarrier* barrier, int parity) {
  emulation::Landing& landing = emulation::block->landings.at(barrier);
  if (landing.landed % 2 != static_cast<size_t>(parity)) return;
  size_t bytes = 0;
  for (const auto& copy : landing.copies) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    bytes += copy.bytes;
  }
  if (bytes == 0 || bytes != landing.announced) {
    std::fprintf(stderr, "emulation: a wait for copies that are not under way\n");
    std::abort();
  }
  landing = {{}, 0, landing.landed + 1};
}

// An operand in shared memory: element (r, k), k the index that is summed over.
struct SharedMatrix {
  const uint16_t* rows;
  int half, next;
  bool of_columns;
  float operator()(unsigned r, unsigned k) const {
    const size_t from = static_cast<size_t>(16 * half) + k;
    const size_t at = of_columns ? r / 64 * static_cast<size_t>(next) / 2 + from * 64 +
                                       (r % 64 / 8 ^ from % 8) * 8 + r % 8
                                 : r * 32 + (from / 8 ^ r / 2 % 4) * 8 + from % 8;
    return emulation::bfloat16(rows[at]);
  }
};
inline SharedMatrix checked(SharedMatrix m, uintptr_t alignment) {
  const auto offset =
      reinterpret_cast<uintptr_t>(m.rows) - reinterpret_cast<uintptr_t>(dynamic_shared());
  if (offset % alignment != 0) {
    std::fprintf(stderr, "emulation: misaligned operand of a warpgroup\n");
    std::abort();
  }
  return m;
}
inline SharedMatrix matrix_of_rows(const uint16_t* rows, int half) {
  return checked({rows, half, 0, false}, 512);
}
inline SharedMatrix matrix_of_columns(const uint16_t* rows, int half, int next) {
  return checked({rows, half, next, true}, 1024);
}

// The products of a warpgroup read their operands as late as they may, and until then their sums
// are NaN where they start from zero.
inline void warpgroup_begin() {}
inline void warpgroup_commit() { emulation::self().products.emplace_back(); }
template <int Pending>
void warpgroup_wait(float (&)[64]) {
  auto& groups = emulation::self().products;
  while (groups.size() > Pending + 1) {
    for (const auto& product : groups.front()) product();
    groups.erase(groups.begin());
  }
}
template <int N, bool Add, class Left>
void issue_product(float* d, const Left& left, SharedMatrix b) {
  if (!Add) std::fill(d, d + N / 2, std::nanf(""));
  const unsigned t = emulation::lane() % 4;
  emulation::self().products.back().push_back([=] {
    for (unsigned e = 0; e < N / 2; ++e) {
      const unsigned column = e / 4 * 8 + 2 * t + e % 2;
      double sum = 0;
      for (unsigned k = 0; k < 16; ++k)
        sum += static_cast<double>(left(e / 2 % 2, k)) * b(column, k);
      d[e] = emulation::truncated((Add ? d[e] : 0.0) + sum);
    }
  });
}
template <bool Add>
void warpgroup_multiply(float (&d)[64], SharedMatrix a, SharedMatrix b) {
  const unsigned row = threadIdx.x % 128 / 32 * 16 + emulation::lane() / 4;
  issue_product<128, Add>(d, [=](unsigned r, unsigned k) { return a(row + 8 * r, k); }, b);
}
template <int N, int From, bool Add>
void warpgroup_multiply(float (&d)[64], const uint32_t (&a)[4], SharedMatrix b) {
  const auto& shown = emulation::exchange(a, 4, nullptr);
  std::array<float, 32> left;
  for (unsigned r = 0; r < 2; ++r)
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned from = emulation::lane() / 4 * 4 + k % 8 / 2;
      left[16 * r + k] = emulation::bfloat16(shown.words[from][r + 2 * (k / 8)] >> (16 * (k % 2)));
    }
  issue_product<N, Add>(d + From, [=](unsigned r, unsigned k) { return left[16 * r + k]; }, b);
  const std::array<uint32_t, 4> given{a[0], a[1], a[2], a[3]};
  emulation::self().products.back().push_back([=, &a] {
    if (std::equal(given.begin(), given.end(), a)) return;
    std::fprintf(stderr, "emulation: registers changed under a product that reads them\n");
    std::abort();
  });
}

struct Device {
  bool tensor_cores, warpgroups;
  int64_t shared_memory;
  double float64_rate;
  int processors;
};
inline Device emulated_device{true, true, 227 * 1024, 1e8, 1};
inline const char* use_device(int, Device* device) {
  *device = emulated_device;
  return nullptr;
}

template <class Parameters>
bool has_warpgroups(void (*)(Parameters)) {
  return true;
}

template <class Parameters>
const char* launch(void (*kernel)(Parameters), dim3 grid, int threads, size_t shared_bytes, void*,
                   const Parameters& parameters) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return nullptr;
  if (static_cast<int64_t>(shared_bytes) > emulated_device.shared_memory || threads > 1024 ||
      grid.y > 65535 || grid.z > 65535)
    return "invalid configuration";
  gridDim = grid;
  blockDim = dim3(static_cast<unsigned>(threads));
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        emulation::run_block(threads, shared_bytes, [&] { kernel(parameters); });
      }
  return nullptr;
}

}  // namespace lmc::cuda
