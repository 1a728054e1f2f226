// SPDX-License-Identifier: MIT
// The CUDA kernels, compiled for the CPU with the emulation, behind C functions for ctypes. Every
// array is copied to memory that ends where the process may not read, and the workspace is NaN.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "cuda_device.h"
#include "path_losses/path_losses.cu"
#include "population_loss/population_loss.cu"
#include "train_ensemble/train_ensemble.cu"
#include "two_layer_relu/two_layer_relu.cu"

namespace {

enum Use { kInput, kOutput, kState };

// A copy of an array that ends at a page nobody may touch; written back at the end if it is an
// output, which starts as NaN, or state.
template <class T>
class Guarded {
 public:
  Guarded(T* original, int64_t count, Use use = kInput)
      : original_(original), bytes_(static_cast<size_t>(count) * sizeof(T)), back_(use != kInput) {
    if (original == nullptr) return;
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t rounded = (bytes_ + 15) / 16 * 16;  // device memory is aligned
    total_ = (rounded + page - 1) / page * page + page;
    base_ = static_cast<unsigned char*>(
        mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + total_ - page, page, PROT_NONE);
    data_ = base_ + total_ - page - rounded;
    if (use == kOutput)
      std::memset(data_, 0xff, bytes_);
    else
      std::memcpy(const_cast<std::remove_const_t<T>*>(get()), original, bytes_);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() {
    if (base_ == nullptr) return;
    if (back_) std::memcpy(const_cast<std::remove_const_t<T>*>(original_), data_, bytes_);
    munmap(base_, total_);
  }
  T* get() const { return reinterpret_cast<T*>(data_); }

 private:
  T* original_;
  size_t bytes_, total_ = 0;
  bool back_;
  unsigned char *base_ = nullptr, *data_ = nullptr;
};

struct Settings {
  int terms, thread_order, tensor_cores, warpgroups;
  int64_t shared_memory;
  double float64_rate;
  int processors;
};

template <class Function, class Arguments>
const char* run(const char* name, const Arguments& arguments, const Settings& settings) {
  using namespace lmc;
  emulation::thread_order = settings.thread_order;
  cuda::emulated_device = {settings.tensor_cores != 0, settings.warpgroups != 0,
                           settings.shared_memory, settings.float64_rate, settings.processors};
  auto* function = find_cuda_kernel<Function>(name);
  if (function == nullptr) return "no such kernel";
  cuda::Call call{0, nullptr, settings.terms, nullptr, 0};
  LMC_CUDA_TRY(function(arguments, call));
  // Its size is a multiple of 256, so that it begins aligned, as device memory does.
  std::vector<unsigned char> memory(static_cast<size_t>(call.bytes) + 256);
  Guarded<unsigned char> workspace(memory.data(), call.bytes, kOutput);
  call.workspace = workspace.get();
  return function(arguments, call);
}

template <class T>
const char* forward(const int64_t* sizes, const void* const* arrays, const Settings& settings,
                    const char* name) {
  using namespace lmc::two_layer_relu;
  const Sizes z{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5] != 0};
  const auto in = [&](int i) { return static_cast<const T*>(arrays[i]); };
  Guarded<const T> x(in(0), (z.x_shared ? 1 : z.S) * z.n * z.d), w1(in(1), z.S * z.m * z.d),
      b1(in(2), z.S * z.m), w2(in(3), z.S * z.c * z.m), b2(in(4), z.S * z.c);
  Guarded<T> f(static_cast<T*>(const_cast<void*>(arrays[5])), z.S * z.n * z.c, kOutput);
  Guarded<uint64_t> signs(static_cast<uint64_t*>(const_cast<void*>(arrays[6])),
                          z.S * words_per_sample(z.m) * z.n, kOutput);
  const Forward<T> p{z, x.get(), w1.get(), b1.get(), w2.get(), b2.get(), f.get(), signs.get()};
  return run<CudaForwardFunction<T>>(name, p, settings);
}

template <class T>
const char* backward(const int64_t* sizes, const void* const* arrays, const Settings& settings,
                     const char* name) {
  using namespace lmc::two_layer_relu;
  const Sizes z{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5] != 0};
  const int64_t x_size = (z.x_shared ? 1 : z.S) * z.n * z.d;
  const auto in = [&](int i) { return static_cast<const T*>(arrays[i]); };
  const auto out = [&](int i) { return static_cast<T*>(const_cast<void*>(arrays[i])); };
  Guarded<const T> df(in(0), z.S * z.n * z.c), x(in(1), x_size), w1(in(2), z.S * z.m * z.d),
      b1(in(3), z.S * z.m), w2(in(4), z.S * z.c * z.m);
  Guarded<const uint64_t> signs(static_cast<const uint64_t*>(arrays[5]),
                                z.S * words_per_sample(z.m) * z.n);
  Guarded<T> dx(out(6), x_size, kOutput), dw1(out(7), z.S * z.m * z.d, kOutput),
      db1(out(8), z.S * z.m, kOutput), dw2(out(9), z.S * z.c * z.m, kOutput),
      db2(out(10), z.S * z.c, kOutput);
  const Backward<T> p{z,           df.get(), x.get(),   w1.get(),  b1.get(),  w2.get(),
                      signs.get(), dx.get(), dw1.get(), db1.get(), dw2.get(), db2.get()};
  return run<CudaBackwardFunction<T>>(name, p, settings);
}

template <class T>
const char* path_losses(const int64_t* sizes, const void* const* arrays, const Settings& settings,
                        const char* name) {
  using namespace lmc::path_losses;
  const int64_t P = sizes[0], n = sizes[1], d = sizes[2], m = sizes[3], c = sizes[4], A = sizes[5];
  const auto in = [&](int i) { return static_cast<const T*>(arrays[i]); };
  Guarded<const T> w1_a(in(0), P * m * d), b1_a(in(1), P * m), w2_a(in(2), P * c * m),
      b2_a(in(3), P * c), w1_b(in(4), P * m * d), b1_b(in(5), P * m), w2_b(in(6), P * c * m),
      b2_b(in(7), P * c), x(in(8), n * d), y(in(9), n * c);
  Guarded<const int64_t> labels(static_cast<const int64_t*>(arrays[10]), n);
  Guarded<const double> alphas(static_cast<const double*>(arrays[11]), A);
  Guarded<double> losses(static_cast<double*>(const_cast<void*>(arrays[12])), P * A, kOutput),
      accuracies(static_cast<double*>(const_cast<void*>(arrays[13])), P * A, kOutput);
  const Arguments<T> p{P,
                       n,
                       d,
                       m,
                       c,
                       A,
                       {w1_a.get(), b1_a.get(), w2_a.get(), b2_a.get()},
                       {w1_b.get(), b1_b.get(), w2_b.get(), b2_b.get()},
                       x.get(),
                       y.get(),
                       labels.get(),
                       alphas.get(),
                       losses.get(),
                       accuracies.get()};
  return run<CudaFunction<T>>(name, p, settings);
}

const char* population_loss(const int64_t* sizes, const void* const* arrays, double scale,
                            const Settings& settings) {
  using namespace lmc::population_loss;
  const int64_t S = sizes[0];
  const Sizes z{sizes[1], sizes[2], sizes[3], sizes[4]};
  const auto in = [&](int i) { return static_cast<const double*>(arrays[i]); };
  const auto out = [&](int i) { return static_cast<double*>(const_cast<void*>(arrays[i])); };
  Guarded<const double> w1(in(0), S * z.m * z.d), w2(in(1), S * z.c * z.m), v1(in(2), z.M * z.d),
      v2(in(3), z.c * z.M);
  Guarded<double> loss(out(4), S, kOutput), dw1(out(5), S * z.m * z.d, kOutput),
      dw2(out(6), S * z.c * z.m, kOutput);
  const Loss p{z,        S,        scale,      w1.get(),  w2.get(),
               v1.get(), v2.get(), loss.get(), dw1.get(), dw2.get()};
  return run<CudaFunction>("population_loss.float64", p, settings);
}

// As in lmc_fast.cuda_emulation.
struct TrainOptions {
  int64_t S, m, d, c, n, M, batch, x_shared, y_shared, method, labels, train_w2;
  int64_t steps, record_every, until, evaluate, round_to_float32;
  double tol, input_scale, radius;
};

template <class T>
const char* train(const TrainOptions& o, const void* const* arrays, const Settings& settings,
                  const char* name) {
  using namespace lmc::train_ensemble;
  const auto in = [&](int i) { return static_cast<const T*>(arrays[i]); };
  const auto doubles = [&](int i) { return static_cast<const double*>(arrays[i]); };
  const auto state = [&](int i) { return const_cast<void*>(arrays[i]); };
  const int64_t y_size = (o.y_shared ? 1 : o.S) * o.n,
                slots = trace_length(o.steps, o.record_every);
  Guarded<T> w1(static_cast<T*>(state(0)), o.S * o.m * o.d, kState);
  Guarded<T> w2(static_cast<T*>(state(1)), o.S * o.c * o.m, kState);
  Guarded<const double> lr(doubles(2), o.S);
  Guarded<const uint64_t> seeds(static_cast<const uint64_t*>(arrays[3]), o.S);
  Guarded<const T> x(in(4), (o.x_shared ? 1 : o.S) * o.n * o.d), y(in(5), y_size * o.c);
  Guarded<const int64_t> labels(static_cast<const int64_t*>(arrays[6]), y_size);
  Guarded<const double> v1(doubles(7), o.M * o.d), v2(doubles(8), o.c * o.M);
  Guarded<const double> zero_loss(doubles(9), o.S);
  Guarded<double> limits(static_cast<double*>(state(10)), o.S, kState);
  Guarded<double> loss(static_cast<double*>(state(11)), o.S, kState);
  Guarded<double> trace(static_cast<double*>(state(12)), o.S * slots, kState);
  Guarded<int64_t> steps(static_cast<int64_t*>(state(13)), o.S, kState);
  Guarded<int32_t> status(static_cast<int32_t*>(state(14)), o.S, kState);
  Guarded<uint32_t> orders(static_cast<uint32_t*>(state(15)), o.S * 2 * o.n, kState);
  Guarded<int64_t> epochs(static_cast<int64_t*>(state(16)), o.S, kState);
  Run<T> run_{};
  Problem<T>& p = run_.problem;
  p.sizes = {o.S, o.m, o.d, o.c, o.n, o.M, o.batch, o.x_shared != 0, o.y_shared != 0};
  p.method = static_cast<Method>(o.method);
  p.loss = static_cast<Loss>(o.labels);
  p.train_w2 = o.train_w2 != 0;
  p.steps = o.steps, p.record_every = o.record_every, p.tol = o.tol;
  p.lr = lr.get(), p.seeds = seeds.get(), p.x = x.get(), p.y = y.get(), p.labels = labels.get();
  p.v1 = v1.get(), p.v2 = v2.get(), p.input_scale = o.input_scale, p.radius = o.radius;
  p.w1_out = w1.get(), p.w2_out = w2.get(), p.loss_out = loss.get(), p.trace = trace.get();
  p.steps_out = steps.get();
  run_.zero_loss = zero_loss.get(), run_.limits = limits.get(), run_.status = status.get();
  run_.orders = orders.get(), run_.epochs = epochs.get();
  run_.until = o.until, run_.evaluate = o.evaluate != 0;
  run_.round_to_float32 = o.round_to_float32 != 0;
  return run<CudaFunction<T>>(name, run_, settings);
}

}  // namespace

extern "C" {

// sizes: S, n, d, m, c, x_shared. arrays: x, w1, b1, w2, b2, f, signs; null where there is none.
const char* emulated_forward(int is_double, const int64_t* sizes, const void* const* arrays,
                             const Settings* settings) {
  return is_double ? forward<double>(sizes, arrays, *settings, "two_layer_relu.forward.float64")
                   : forward<float>(sizes, arrays, *settings, "two_layer_relu.forward.float32");
}

// arrays: df, x, w1, b1, w2, signs, dx, dw1, db1, dw2, db2.
const char* emulated_backward(int is_double, const int64_t* sizes, const void* const* arrays,
                              const Settings* settings) {
  return is_double ? backward<double>(sizes, arrays, *settings, "two_layer_relu.backward.float64")
                   : backward<float>(sizes, arrays, *settings, "two_layer_relu.backward.float32");
}

// sizes: P, n, d, m, c, A. arrays: w1, b1, w2, b2 of a and of b, x, y, labels, alphas, losses,
// accuracies.
const char* emulated_path_losses(int is_double, const int64_t* sizes, const void* const* arrays,
                                 const Settings* settings) {
  return is_double ? path_losses<double>(sizes, arrays, *settings, "path_losses.float64")
                   : path_losses<float>(sizes, arrays, *settings, "path_losses.float32");
}

// sizes: S, m, M, d, c. arrays: w1, w2, v1, v2, loss, dw1, dw2.
const char* emulated_population_loss(const int64_t* sizes, const void* const* arrays, double scale,
                                     const Settings* settings) {
  return population_loss(sizes, arrays, scale, *settings);
}

// arrays: w1, w2, lr, seeds, x, y, labels, v1, v2, zero_loss, limits, loss_out, trace, steps_out,
// status, orders, epochs.
const char* emulated_train(int is_double, const TrainOptions* options, const void* const* arrays,
                           const Settings* settings) {
  return is_double ? train<double>(*options, arrays, *settings, "train_ensemble.float64")
                   : train<float>(*options, arrays, *settings, "train_ensemble.float32");
}

const char* emulated_normals(int64_t S, int64_t count, const uint64_t* seeds, uint64_t step,
                             double* out) {
  lmc::cuda::Call call{};
  return lmc::train_ensemble::normals({S, count, seeds, step, out}, call);
}

// (count) float32 to (3, count) bfloat16 terms as bits.
void emulated_split(int64_t count, const float* values, uint16_t* terms) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t three[3];
    lmc::cuda::split<3>(values[i], three);
    for (int t = 0; t < 3; ++t) terms[t * count + i] = three[t];
  }
}
}
