// SPDX-License-Identifier: MIT
// What kernels need of the machine beyond CUDA C++ itself: shared memory, asynchronous copies, the
// matrix instructions, a launch. The tests have a header of the same name that does the same on the
// CPU (python_tests/cuda_emulation), and compile the kernels with it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace lmc::cuda {

// Whether the code being compiled may use mma, ldmatrix and cp.async. (Only the device passes see
// the truth; the host never runs the code that asks.)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kTensorCores = false;
#else
inline constexpr bool kTensorCores = true;
#endif
// Likewise the matrix instructions of whole warpgroups, which compute capability 9.0 alone has.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kWarpgroups = false;
#else
inline constexpr bool kWarpgroups = true;
#endif

inline __device__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char bytes[];
  return bytes;
}

inline __device__ void sine_cosine_2pi(double turns, double* sine, double* cosine) {
  sincospi(2.0 * turns, sine, cosine);
}

// a / b to a few units in the last place; anything where b is below the least normal number.
inline __device__ float approximate_quotient(float a, float b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  return a * inverse;
}

// The same number, of which the compiler does not know that it is: addresses that follow from it
// are computed where they are used, and take no registers all through a loop.
inline __device__ int here(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Copies 16 bytes from global to shared memory, or writes zeros when `valid` is false.
inline __device__ void copy_async(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
#endif
}

// Closes the group of the copies made since the last one.
inline __device__ void copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until no more than `Pending` groups of this thread are under way.
template <int Pending>
__device__ void copy_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit numbers from shared memory: lane 8 q + r gives the address of row r
// of matrix q (16 bytes); lane 4 g + t gets elements (g, 2 t) and (g, 2 t + 1) of each.
inline __device__ void load_matrices(uint32_t (&to)[4], const void* shared_row) {
#if __CUDA_ARCH__ >= 800
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
#endif
}

// The same of the transposed matrices: lane 4 g + t gets elements (2 t, g) and (2 t + 1, g).
inline __device__ void load_matrices_transposed(uint32_t (&to)[4], const void* shared_row) {
#if __CUDA_ARCH__ >= 800
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
#endif
}

// (16,8) += (16,16) (16,8) in bfloat16 with float32 sums, by a warp. With lane = 4 g + t the lane
// holds of the sum rows g and g + 8, columns 2 t and 2 t + 1: (d0, d1) and (d2, d3).
inline __device__ void multiply_add(float& d0, float& d1, float& d2, float& d3,
                                    const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// (16,8) += (16,4) (4,8) in float64, by a warp. With lane = 4 g + t the lane gives rows g and g + 8
// of the left operand's column t, and column g of the right operand's row t; it holds of the sum
// rows g and g + 8, columns 2 t and 2 t + 1: (d0, d1) and (d2, d3). All is as exact as fma.
inline __device__ void multiply_add(double (&d)[4], double a0, double a1, double b) {
#if __CUDA_ARCH__ >= 900
  asm("mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};"
      : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
      : "d"(a0), "d"(a1), "d"(b));
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+d"(d[0]), "+d"(d[1])
      : "d"(a0), "d"(b));
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+d"(d[2]), "+d"(d[3])
      : "d"(a1), "d"(b));
#else
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int row = lane / 4 * 4 + k, column = lane % 4 * 8 + k;
    const double low = __shfl_sync(~0u, a0, row), high = __shfl_sync(~0u, a1, row);
    const double left = __shfl_sync(~0u, b, column), right = __shfl_sync(~0u, b, column + 4);
    d[0] += low * left;
    d[1] += low * right;
    d[2] += high * left;
    d[3] += high * right;
  }
#endif
}

// 1 / sqrt(value) of a positive normal number, to 2^-20 or better.
inline __device__ double about_reciprocal_root(double value) {
  double root;
  asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(root) : "d"(value));
  return root;
}

// Sign, exponent and the first 20 bits, which can be looked at without the unit of float64.
inline __device__ uint32_t upper_word(double value) {
  return static_cast<uint32_t>(__double2hiint(value));
}

// Copies of many bytes that one thread issues, to shared memory, where the products of a warpgroup
// may read them behind a wait. A barrier in shared memory belongs to a place that is filled again
// and again: it is started once, before a __syncthreads(); each filling is announced, then copied;
// wait(b, k % 2) returns when filling k has landed.
using CopyBarrier = uint64_t;

inline __device__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
inline __device__ void copy_barrier_start(CopyBarrier* barrier) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
inline __device__ void copy_barrier_announce(CopyBarrier* barrier, uint32_t bytes) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#endif
}
// A multiple of 16 bytes, from and to multiples of 16.
inline __device__ void copy_bulk(void* shared, const void* global, uint32_t bytes,
                                 CopyBarrier* barrier) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}
inline __device__ void copy_barrier_wait(CopyBarrier* barrier, int parity) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  uint32_t landed = 0;
  while (landed == 0)
    asm volatile(
        "{ .reg .pred landed; mbarrier.try_wait.parity.shared::cta.b64 landed, [%1], %2;\n"
        "selp.u32 %0, 1, 0, landed; }"
        : "=r"(landed)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
#endif
}

// The products of a warpgroup: four warps, the first of which has a number divisible by four. They
// run on after they are issued: warpgroup_begin(), multiplications, warpgroup_commit() make a group
// of them, which is over after warpgroup_wait(). Until then nobody may touch its sums, its operands
// in registers or those in shared memory.
//
// (64, N) += (64, 16) (16, N) in bfloat16 with float32 sums, N = 128 or 64. With lane = 4 g + t of
// warp w of the four, a thread holds of the sum rows 16 w + g and 16 w + g + 8 and columns 8 j + 2
// t, 8 j + 2 t + 1: (d[4 j], d[4 j + 1]) and (d[4 j + 2], d[4 j + 3]), d beginning at sums[From].

// An operand in shared memory.
using SharedMatrix = uint64_t;

// Rows of 32 elements, 16 of which (`half`) are multiplied. 16-byte chunk q of row r lies where
// chunk q ^ (r / 2 % 4) would. The first row lies at a multiple of 512 bytes.
inline __device__ SharedMatrix matrix_of_rows(const uint16_t* rows, int half) {
  const auto at = shared_address(rows) + 32u * half;
  return (at & 0x3ffff) >> 4 | uint64_t{512 >> 4} << 32 | uint64_t{2} << 62;
}
// The same of 32 rows of 64 columns, the rows being summed over, and 64 more columns `next` bytes
// on. Chunk q of row r lies where chunk q ^ (r % 8) would. The first row lies at a multiple of 1024
// bytes.
inline __device__ SharedMatrix matrix_of_columns(const uint16_t* rows, int half, int next) {
  const auto at = shared_address(rows) + 2048u * half;
  return (at & 0x3ffff) >> 4 | static_cast<uint64_t>(next >> 4) << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}

inline __device__ void warpgroup_begin() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
inline __device__ void warpgroup_commit() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

#define LMC_FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define LMC_SIXTEEN(i) LMC_FOUR(i), LMC_FOUR(i + 4), LMC_FOUR(i + 8), LMC_FOUR(i + 12)
#define LMC_32_SUMS LMC_SIXTEEN(From), LMC_SIXTEEN(From + 16)
#define LMC_64_SUMS LMC_SIXTEEN(0), LMC_SIXTEEN(16), LMC_SIXTEEN(32), LMC_SIXTEEN(48)
#define LMC_32_NAMES                                                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, "                                                                                      \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LMC_64_NAMES                                                                             \
  LMC_32_NAMES                                                                                   \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define LMC_PRODUCT(n, add)                 \
  "{ .reg .pred add; setp.ne.b32 add, " add \
  ", 0;\n"                                  \
  "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {"

// Waits until no more than `Pending` groups of this warpgroup are under way; d are sums of one that
// is over.
template <int Pending>
__device__ void warpgroup_wait(float (&d)[64]) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.wait_group.sync.aligned %64;" : LMC_64_SUMS : "n"(Pending) : "memory");
#endif
}

// N = 128; a has 64 rows and b 128 (matrix_of_rows). Without Add the sum starts from zero.
template <bool Add>
__device__ void warpgroup_multiply(float (&d)[64], SharedMatrix a, SharedMatrix b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile(LMC_PRODUCT("128", "%66") LMC_64_NAMES "}, %64, %65, add, 1, 1, 0, 0; }"
               : LMC_64_SUMS
               : "l"(a), "l"(b), "n"(int{Add}));
#endif
}
// The left operand in registers, as multiply_add has it, rows 16 w and on for warp w; b
// (matrix_of_columns) has N.
template <int N, int From, bool Add>
__device__ void warpgroup_multiply(float (&d)[64], const uint32_t (&a)[4], SharedMatrix b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  static_assert((N == 128 && From == 0) || (N == 64 && From % 32 == 0), "sums of such a product");
  if constexpr (N == 128) {
    asm volatile(LMC_PRODUCT("128", "%69") LMC_64_NAMES
                 "}, {%64, %65, %66, %67}, %68, add, 1, 1, 1; }"
                 : LMC_64_SUMS
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{Add}));
  } else {
    asm volatile(LMC_PRODUCT("64", "%37") LMC_32_NAMES
                 "}, {%32, %33, %34, %35}, %36, add, 1, 1, 1; }"
                 : LMC_32_SUMS
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{Add}));
  }
#endif
}
#undef LMC_FOUR
#undef LMC_SIXTEEN
#undef LMC_32_SUMS
#undef LMC_64_SUMS
#undef LMC_32_NAMES
#undef LMC_64_NAMES
#undef LMC_PRODUCT

// What kernels are chosen by.
struct Device {
  bool tensor_cores;      // compute capability 8.0 or later
  bool warpgroups;        // 9.0: so far as the kernel has_warpgroups()
  int64_t shared_memory;  // bytes that a block may have
  double float64_rate;    // roughly: multiply-adds a second that may be hoped for
  int processors;         // multiprocessors
};

// Makes a device the current one of this thread, as torch has made it already, and says what it
// can; null, or what went wrong.
inline const char* use_device(int index, Device* device) {
  int major = 0, minor = 0, shared = 0, processors = 0;
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
  // Units for float64: 32 or 64 a multiprocessor on the large chips, else 2.
  const double units = minor == 0 && major < 12 ? 32 : 2;
  *device = {major >= 8, major == 9, shared, 0.3e9 * units * processors, processors};
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Whether the machine code of a kernel was made for 9.0, and not translated from an earlier one's.
template <class Parameters>
bool has_warpgroups(void (*kernel)(Parameters)) {
  cudaFuncAttributes found{};
  const cudaError_t error = cudaFuncGetAttributes(&found, reinterpret_cast<const void*>(kernel));
  return error == cudaSuccess && found.binaryVersion == 90 && found.ptxVersion >= 90;
}

// Enqueues kernel<<<grid, threads, shared_bytes, stream>>>(parameters); null, or what went wrong.
template <class Parameters>
const char* launch(void (*kernel)(Parameters), dim3 grid, int threads, size_t shared_bytes,
                   void* stream, const Parameters& parameters) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return nullptr;  // nothing to do
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024) {
    // Always all there is: another thread may be about to launch the same kernel with more.
    int device = 0, most = 0;
    error = cudaGetDevice(&device);
    if (error == cudaSuccess)
      error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess)
      error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  }
  if (error == cudaSuccess) {
    Parameters copy = parameters;
    void* arguments[] = {&copy};
    error = cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid,
                             dim3(static_cast<unsigned>(threads)), arguments, shared_bytes,
                             static_cast<cudaStream_t>(stream));
  }
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // so that the next call does not report it again
  return cudaGetErrorString(error);
}

}  // namespace lmc::cuda
