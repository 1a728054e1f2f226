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

inline __device__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return bytes;
}

inline __device__ void sine_cosine_2pi(double turns, double* sine, double* cosine) {
  sincospi(2.0 * turns, sine, cosine);
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

// What kernels are chosen by.
struct Device {
  bool tensor_cores;      // compute capability 8.0 or later
  int64_t shared_memory;  // bytes that a block may have
  double float64_rate;    // roughly: multiply-adds a second that may be hoped for
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
  *device = {major >= 8, shared, 0.3e9 * units * processors};
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
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
