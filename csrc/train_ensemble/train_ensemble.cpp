// SPDX-License-Identifier: MIT
// Bindings of train_ensemble: checks, then the kernels of the CPU target in use.
#include "train_ensemble/train_ensemble.h"

#include "common/bindings.h"
#include "common/cuda_call.h"
#include "common/signals.h"
#include "common/tensor_view.h"
#include "train_ensemble/sample_memory.h"

namespace lmc::train_ensemble {
namespace {

LMC_DEFINE_KERNELS()

Method method_named(const std::string& name) {
  if (name == "population_gd") return Method::population_gd;
  if (name == "gd") return Method::gd;
  if (name == "sgd") return Method::sgd;
  throw py::value_error("method must be 'population_gd', 'gd' or 'sgd'; got '" + name + "'");
}

Loss loss_named(const std::string& name) {
  if (name == "mse") return Loss::mse;
  if (name == "cross_entropy") return Loss::cross_entropy;
  throw py::value_error("loss must be 'mse' or 'cross_entropy'; got '" + name + "'");
}

// (S,...) or, for data that all students share, without the S.
std::vector<int64_t> shape(bool shared, int64_t S, std::vector<int64_t> own) {
  if (!shared) own.insert(own.begin(), S);
  return own;
}

Sizes read_sizes(const TensorView& w1, const TensorView& w2, int64_t batch_size) {
  w1.require_ndim(3, "(S, m, d)");
  w2.require_ndim(3, "(S, c, m)");
  Sizes z{};
  z.S = w1.size(0);
  z.m = w1.size(1);
  z.d = w1.size(2);
  z.c = w2.size(1);
  z.batch = batch_size;
  if (z.d < 1) w1.fail("must have at least one input dimension; got shape " + w1.shape_string());
  if (z.c < 1) w2.fail("must have at least one output; got shape " + w2.shape_string());
  return z;
}

// x and y, or labels; sets their sizes.
template <class T>
void read_samples(py::handle x_, py::handle y_, Problem<T>& p, std::vector<TensorView>& keep_alive,
                  dlpack::Device device = kCpu) {
  Sizes& z = p.sizes;
  keep_alive.emplace_back(x_, "x");
  TensorView& x = keep_alive.back();
  z.x_shared = x.ndim() == 2;
  if (x.ndim() != 3 && !z.x_shared)
    x.fail("must be (n, d) or (S, n, d); got shape " + x.shape_string());
  z.n = x.size(z.x_shared ? 0 : 1);
  if (z.n < 1) x.fail("must hold at least one sample; got shape " + x.shape_string());
  p.x = x.input<T>(shape(z.x_shared, z.S, {z.n, z.d}), device);
  keep_alive.emplace_back(y_, "y");
  TensorView& y = keep_alive.back();
  if (p.loss == Loss::mse) {
    z.y_shared = y.ndim() == 2;
    p.y = y.input<T>(shape(z.y_shared, z.S, {z.n, z.c}), device);
    return;
  }
  z.y_shared = y.ndim() == 1;
  const std::vector<int64_t> labels = shape(z.y_shared, z.S, {z.n});
  // What labels hold is checked where that needs no waiting for a device.
  p.labels = device.type == dlpack::kCpu ? y.labels(labels, z.c) : y.input<int64_t>(labels, device);
}

template <class T>
void read_teacher(py::handle v1_, py::handle v2_, Problem<T>& p,
                  std::vector<TensorView>& keep_alive, dlpack::Device device = kCpu) {
  keep_alive.emplace_back(v1_, "v1");
  TensorView& v1 = keep_alive.back();
  v1.require_ndim(2, "(M, d)");
  p.sizes.M = v1.size(0);
  p.v1 = v1.input<double>({p.sizes.M, p.sizes.d}, device);
  keep_alive.emplace_back(v2_, "v2");
  p.v2 = keep_alive.back().input<double>({p.sizes.c, p.sizes.M}, device);
}

template <class T>
void check(const Problem<T>& p) {
  const Sizes& z = p.sizes;
  const bool samples = z.n > 0, teacher = z.M > 0;  // an empty array may have no address
  if (!samples && !teacher) throw py::value_error("x or v1 must be given; both are None");
  if (p.method == Method::population_gd && !teacher)
    throw py::value_error("v1 must be given for population_gd; got None");
  if (p.method == Method::gd && !samples) throw py::value_error("x must be given for gd; got None");
  if (!samples && p.loss != Loss::mse)
    throw py::value_error("loss must be 'mse' without x; got 'cross_entropy'");
  if (p.method == Method::sgd && (z.batch < 1 || (samples && z.batch > z.n)))
    throw py::value_error("batch_size must be at least 1 and at most n; got " +
                          std::to_string(z.batch));
  if (p.steps < 0)
    throw py::value_error("steps must be at least 0; got " + std::to_string(p.steps));
}

void train(py::handle w1_, py::handle w2_, py::handle lr_, py::handle seeds_, py::handle x_,
           py::handle y_, py::handle v1_, py::handle v2_, const std::string& method,
           const std::string& loss, bool train_w2, int64_t steps, int64_t batch_size, double tol,
           int64_t record_every, double input_scale, double radius, py::handle w1_out_,
           py::handle w2_out_, py::handle loss_out_, py::handle trace_, py::handle steps_out_,
           py::handle diverged_, int threads) {
  TensorView w1(w1_, "w1"), w2(w2_, "w2"), lr(lr_, "lr"), seeds(seeds_, "seeds");
  TensorView w1_out(w1_out_, "w1_out"), w2_out(w2_out_, "w2_out"), loss_out(loss_out_, "loss_out");
  TensorView trace(trace_, "trace"), steps_out(steps_out_, "steps_out"),
      diverged(diverged_, "diverged");
  std::vector<TensorView> others;
  others.reserve(4);
  const Sizes z = read_sizes(w1, w2, batch_size);
  checked_threads(threads);
  with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Problem<T> p{};
    p.sizes = z;
    p.method = method_named(method);
    p.loss = loss_named(loss);
    p.train_w2 = train_w2;
    p.steps = steps;
    p.record_every = record_every;
    p.tol = tol;
    p.w1 = w1.input<T>({z.S, z.m, z.d});
    p.w2 = w2.input<T>({z.S, z.c, z.m});
    p.lr = lr.input<double>({z.S});
    p.seeds = seeds.input<uint64_t>({z.S});
    if (!x_.is_none()) read_samples(x_, y_, p, others);
    if (!v1_.is_none()) read_teacher(v1_, v2_, p, others);
    p.input_scale = input_scale;
    p.radius = radius;
    p.w1_out = w1_out.output<T>({z.S, z.m, z.d});
    p.w2_out = w2_out.output<T>({z.S, z.c, z.m});
    p.loss_out = loss_out.output<double>({z.S});
    p.trace = trace.output<double>({z.S, trace_length(p.steps, p.record_every)});
    p.steps_out = steps_out.output<int64_t>({z.S});
    p.diverged = diverged.output<bool>({z.S});
    check(p);
    const Kernels<T>& table = kernels<T>();
    Interrupt interrupt(signal_raised);
    {
      py::gil_scoped_release release;
      table.train(p, threads, interrupt);
    }
    if (interrupt.requested()) throw py::error_already_set();
  });
}

int64_t train_cuda(py::handle w1_, py::handle w2_, py::handle lr_, py::handle seeds_, py::handle x_,
                   py::handle y_, py::handle v1_, py::handle v2_, py::handle zero_loss_,
                   py::handle limits_, py::handle loss_out_, py::handle trace_,
                   py::handle steps_out_, py::handle status_, py::handle orders_,
                   py::handle epochs_, py::handle workspace, const std::string& method,
                   const std::string& loss, bool train_w2, int64_t steps, int64_t batch_size,
                   double tol, int64_t record_every, double input_scale, double radius,
                   int64_t until, bool evaluate, bool round_to_float32, uintptr_t stream) {
  TensorView w1(w1_, "w1"), w2(w2_, "w2"), lr(lr_, "lr"), seeds(seeds_, "seeds");
  TensorView zero_loss(zero_loss_, "zero_loss"), limits(limits_, "limits");
  TensorView loss_out(loss_out_, "loss_out"), trace(trace_, "trace");
  TensorView steps_out(steps_out_, "steps_out"), status(status_, "status");
  std::vector<TensorView> others;
  others.reserve(6);
  const Sizes z = read_sizes(w1, w2, batch_size);
  return with_float_type(w1, [&](auto zero) {
    using T = decltype(zero);
    Run<T> run{};
    Problem<T>& p = run.problem;
    p.sizes = z;
    p.method = method_named(method);
    p.loss = loss_named(loss);
    p.train_w2 = train_w2;
    p.steps = steps;
    p.record_every = record_every;
    p.tol = tol;
    p.input_scale = input_scale;
    p.radius = radius;
    if (p.method == Method::population_gd && sizeof(T) != 8)
      w1.fail("must be float64 for population_gd on a GPU");
    CudaCall call("train_ensemble", w1, {z.S, z.m, z.d, z.c, z.batch}, 0, stream);
    const dlpack::Device device = call.device();
    if (!x_.is_none()) read_samples(x_, y_, p, others, device);
    if (!v1_.is_none()) read_teacher(v1_, v2_, p, others, device);
    call.check_sizes(w1, {p.sizes.n, p.sizes.M});
    check(p);
    p.lr = lr.input<double>({z.S}, device);
    p.seeds = seeds.input<uint64_t>({z.S}, device);
    p.w1_out = w1.output<T>({z.S, z.m, z.d}, device);
    p.w2_out = w2.output<T>({z.S, z.c, z.m}, device);
    p.loss_out = loss_out.output<double>({z.S}, device);
    p.trace = trace.output<double>({z.S, trace_length(steps, record_every)}, device);
    p.steps_out = steps_out.output<int64_t>({z.S}, device);
    run.zero_loss = zero_loss.input<double>({z.S}, device);
    run.limits = limits.output<double>({z.S}, device);
    run.status = status.output<int32_t>({z.S}, device);
    const bool mini_batches = p.method == Method::sgd && p.sizes.n > 0;
    if (mini_batches != !orders_.is_none())
      throw py::value_error("orders and epochs go with sgd on fixed samples, and only with it");
    if (mini_batches) {
      others.emplace_back(orders_, "orders");
      run.orders =
          reinterpret_cast<uint32_t*>(others.back().output<int32_t>({z.S, 2, p.sizes.n}, device));
      others.emplace_back(epochs_, "epochs");
      run.epochs = others.back().output<int64_t>({z.S}, device);
    }
    run.until = until;
    run.evaluate = evaluate;
    run.round_to_float32 = round_to_float32;
    if (evaluate && p.sizes.n == 0)
      throw py::value_error("x must be given to evaluate the loss on samples; got None");
    return call.run<CudaFunction<T>>("train_ensemble", run, workspace);
  });
}

bool fits(const std::string& method, bool is_float64, int64_t m, int64_t d, int64_t c, int64_t M,
          int64_t n, int64_t batch_size, bool train_w2) {
  const auto ask = [&](auto zero) {
    Problem<decltype(zero)> p{};
    p.sizes = {1, m, d, c, n, M, batch_size, true, true};
    p.method = method_named(method);
    p.train_w2 = train_w2;
    return fits_one_block(p);
  };
  return is_float64 ? ask(0.0) : ask(0.0f);
}

void normals_cuda(py::handle seeds_, py::handle out_, uint64_t step, uintptr_t stream) {
  TensorView seeds(seeds_, "seeds"), out(out_, "out");
  out.require_ndim(2, "(S, count)");
  CudaCall call("train_ensemble_normals", out, {out.size(0), out.size(1)}, 0, stream);
  const Normals p{out.size(0), out.size(1), seeds.input<uint64_t>({out.size(0)}, call.device()),
                  step, out.output<double>({out.size(0), out.size(1)}, call.device())};
  call.run<NormalsFunction>("train_ensemble.normals", p);
}

py::tuple philox_block(uint64_t seed, uint64_t index, uint64_t step, uint64_t stream) {
  uint64_t words[4];
  kernels<double>().philox_block(seed, index, step, stream, words);
  return py::make_tuple(words[0], words[1], words[2], words[3]);
}

void normals(uint64_t seed, uint64_t step, py::handle out_) {
  TensorView out(out_, "out");
  out.require_ndim(1, "(count,)");
  double* to = out.output<double>({out.size(0)});
  kernels<double>().normals(seed, out.size(0), step, to);
}

void shuffle(uint64_t seed, uint64_t epoch, py::handle out_) {
  TensorView out(out_, "out");
  out.require_ndim(1, "(n,)");
  int64_t* to = out.output<int64_t>({out.size(0)});
  kernels<double>().shuffle(seed, out.size(0), epoch, to);
}

const Bindings bindings{[](py::module_& m) {
  using py::arg;
  m.def("train_ensemble", &train, arg("w1"), arg("w2"), arg("lr"), arg("seeds"), arg("x"), arg("y"),
        arg("v1"), arg("v2"), arg("method"), arg("loss"), arg("train_w2"), arg("steps"),
        arg("batch_size"), arg("tol"), arg("record_every"), arg("input_scale"), arg("radius"),
        arg("w1_out"), arg("w2_out"), arg("loss_out"), arg("trace"), arg("steps_out"),
        arg("diverged"), arg("threads"),
        "Trains S students; the outputs are overwritten. radius 0 means Gaussian inputs.");
  m.def("train_ensemble_cuda", &train_cuda, arg("w1"), arg("w2"), arg("lr"), arg("seeds"), arg("x"),
        arg("y"), arg("v1"), arg("v2"), arg("zero_loss"), arg("limits"), arg("loss_out"),
        arg("trace"), arg("steps_out"), arg("status"), arg("orders"), arg("epochs"),
        arg("workspace"), arg("method"), arg("loss"), arg("train_w2"), arg("steps"),
        arg("batch_size"), arg("tol"), arg("record_every"), arg("input_scale"), arg("radius"),
        arg("until"), arg("evaluate"), arg("round_to_float32"), arg("stream"),
        "Advances S students on a CUDA device to the step `until`; w1, w2 and all from limits on "
        "are their state. Workspace and stream as in two_layer_relu_forward_cuda. What labels hold "
        "is not checked.");
  m.def("train_ensemble_cuda_fits", &fits, arg("method"), arg("is_float64"), arg("m"), arg("d"),
        arg("c"), arg("M"), arg("n"), arg("batch_size"), arg("train_w2"),
        "Whether students of these sizes are train_ensemble_cuda's work, in any build.");
  m.def("train_ensemble_normals_cuda", &normals_cuda, arg("seeds"), arg("out"), arg("step"),
        arg("stream"), "Enqueues the normals (S, count) of a training step.");
  m.def("train_ensemble_philox", &philox_block, arg("seed"), arg("index"), arg("step"),
        arg("stream"), "The four words of a block of the random numbers.");
  m.def("train_ensemble_normals", &normals, arg("seed"), arg("step"), arg("out"),
        "Writes a training step's standard normals to out (count,).");
  m.def("train_ensemble_shuffle", &shuffle, arg("seed"), arg("epoch"), arg("out"),
        "Writes the order of an epoch to out (n,).");
}};

}  // namespace
}  // namespace lmc::train_ensemble
