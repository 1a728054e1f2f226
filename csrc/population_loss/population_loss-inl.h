// SPDX-License-Identifier: MIT
// The op's three kernels, and their table for the target the including file is compiled for. A
// student, or a point of a path, is one task; where there are fewer of them than threads, or they
// are very large, a wide one is evaluated by all threads. Its bits are the same either way.
#pragma once

#include "population_loss/evaluation-inl.h"
#include "population_loss/population_loss.h"

namespace lmc::LMC_TARGET {

inline constexpr int64_t kWholeStudent = 512;
inline constexpr int64_t kMostScratch = int64_t{1} << 23;  // doubles of each thread: 64 MiB

// Whether each of so many students is evaluated by all threads: where there are too few of them, or
// they would take too much memory side by side.
LMC_INLINE bool share_students(const NetworkSizes& z, int64_t students, int threads) {
  return z.m > kWholeStudent && (students < threads || population_scratch(z) > kMostScratch);
}

// How an evaluation's tasks are run: by one worker, or by all threads.
struct OneWorker {
  double* memory;
  template <class Task>
  LMC_INLINE void operator()(int64_t count, const Task& task) const {
    for (int64_t t = 0; t < count; ++t) task(t, memory);
  }
};
struct AllThreads {
  int threads;
  double* memory;
  int64_t doubles;  // of each worker
  template <class Task>
  LMC_INLINE void operator()(int64_t count, const Task& task) const {
    for_each_task(count, threads,
                  [&](int64_t t, int worker) { task(t, memory + worker * doubles); });
  }
};

LMC_INLINE double evaluate_alone(const NetworkSizes& z, const double* w1, const double* w2,
                                 const PreparedNetwork* teacher, double scale, double* scratch,
                                 const PopulationGradient& gradient) {
  const OneWorker each{scratch + PopulationEvaluation::shared_doubles(z)};
  return PopulationEvaluation(z, scratch).evaluate(w1, w2, teacher, scale, gradient, each);
}

PopulationTeacher::PopulationTeacher(const NetworkSizes& z, const double* v1, const double* v2,
                                     double scale)
    : memory_(z.doubles()), network_(z, memory_.data()), scale_(scale), constant_(0) {
  AlignedBuffer<double> scratch(population_scratch(z));
  constant_ = evaluate_alone(z, v1, v2, nullptr, scale, scratch.data(), {});
  network_.prepare(0, network_.padded, v1, v2);
  network_.negate();  // f - f*
}

int64_t population_scratch(const NetworkSizes& z) {
  return PopulationEvaluation::shared_doubles(z) + PopulationEvaluation::worker_doubles(z);
}

double population_value_and_gradient(const PopulationTeacher& teacher, const NetworkSizes& z,
                                     const double* w1, const double* w2, double* scratch,
                                     const PopulationGradient& gradient) {
  return teacher.loss(
      evaluate_alone(z, w1, w2, teacher.network(), teacher.scale(), scratch, gradient));
}

inline NetworkSizes student_sizes(const population_loss::Sizes& z) { return {z.m, z.d, z.c}; }
inline NetworkSizes teacher_sizes(const population_loss::Sizes& z) { return {z.M, z.d, z.c}; }

// One wide student, on all threads.
class WideStudent {
 public:
  LMC_INLINE WideStudent(const NetworkSizes& z, int threads)
      : z_(z),
        threads_(threads),
        shared_(PopulationEvaluation::shared_doubles(z)),
        own_(threads * PopulationEvaluation::worker_doubles(z)) {}

  LMC_INLINE double evaluate(const PopulationTeacher& teacher, const double* w1, const double* w2,
                             const PopulationGradient& gradient) {
    const AllThreads each{threads_, own_.data(), PopulationEvaluation::worker_doubles(z_)};
    return teacher.loss(PopulationEvaluation(z_, shared_.data())
                            .evaluate(w1, w2, teacher.network(), teacher.scale(), gradient, each));
  }

 private:
  const NetworkSizes z_;
  const int threads_;
  AlignedBuffer<double> shared_, own_;
};

inline void population_loss_kernel(const population_loss::Loss& p, int threads) {
  const NetworkSizes z = student_sizes(p.sizes);
  const PopulationTeacher teacher(teacher_sizes(p.sizes), p.v1, p.v2, p.scale);
  const int64_t w1_size = z.m * z.d, w2_size = z.c * z.m;
  const auto gradient = [&](int64_t s) {
    return PopulationGradient{p.dw1 ? p.dw1 + s * w1_size : nullptr,
                              p.dw2 ? p.dw2 + s * w2_size : nullptr};
  };
  if (share_students(z, p.S, threads)) {
    WideStudent student(z, threads);
    for (int64_t s = 0; s < p.S; ++s)
      p.loss[s] = student.evaluate(teacher, p.w1 + s * w1_size, p.w2 + s * w2_size, gradient(s));
    return;
  }
  const int64_t scratch = population_scratch(z);
  AlignedBuffer<double> memory(threads * scratch);
  for_each_task(p.S, threads, [&](int64_t s, int worker) {
    p.loss[s] = population_value_and_gradient(teacher, z, p.w1 + s * w1_size, p.w2 + s * w2_size,
                                              &memory[worker * scratch], gradient(s));
  });
}

LMC_INLINE void interpolate(int64_t n, const double* a, const double* b, double alpha,
                            double* out) {
  if (alpha < 0.5)
    for (int64_t e = 0; e < n; ++e) out[e] = a[e] + alpha * (b[e] - a[e]);
  else
    for (int64_t e = 0; e < n; ++e) out[e] = b[e] - (1 - alpha) * (b[e] - a[e]);
}

inline void population_path_losses_kernel(const population_loss::PathLosses& p, int threads) {
  const NetworkSizes z = student_sizes(p.sizes);
  const PopulationTeacher teacher(teacher_sizes(p.sizes), p.v1, p.v2, p.scale);
  const int64_t w1_size = z.m * z.d, w2_size = z.c * z.m, weights = w1_size + w2_size;
  const auto point = [&](int64_t task, double* theta) {
    const int64_t pair = task / p.A;
    const double alpha = p.alphas[task % p.A];
    interpolate(w1_size, p.a1 + pair * w1_size, p.b1 + pair * w1_size, alpha, theta);
    interpolate(w2_size, p.a2 + pair * w2_size, p.b2 + pair * w2_size, alpha, theta + w1_size);
  };
  if (share_students(z, p.P * p.A, threads)) {
    WideStudent student(z, threads);
    AlignedBuffer<double> theta(weights);
    for (int64_t task = 0; task < p.P * p.A; ++task) {
      point(task, theta.data());
      p.losses[task] = student.evaluate(teacher, theta.data(), theta.data() + w1_size, {});
    }
    return;
  }
  const int64_t scratch = weights + population_scratch(z);
  AlignedBuffer<double> memory(threads * scratch);
  for_each_task(p.P * p.A, threads, [&](int64_t task, int worker) {
    double* theta = &memory[worker * scratch];
    point(task, theta);
    p.losses[task] =
        population_value_and_gradient(teacher, z, theta, theta + w1_size, theta + weights, {});
  });
}

// A task owns one pair and adds its points' gradients in the order of alphas: da += (1 - alpha) g
// dL/dtheta and db += alpha g dL/dtheta.
inline void population_path_backward_kernel(const population_loss::PathBackward& back,
                                            int threads) {
  const population_loss::PathLosses& p = back.path;
  const NetworkSizes z = student_sizes(p.sizes);
  const PopulationTeacher teacher(teacher_sizes(p.sizes), p.v1, p.v2, p.scale);
  const int64_t w1_size = z.m * z.d, w2_size = z.c * z.m, weights = w1_size + w2_size;
  const bool wide = share_students(z, p.P, threads);
  WideStudent wide_student(wide ? z : NetworkSizes{0, z.d, z.c}, wide ? threads : 1);
  const int64_t scratch = 2 * weights + (wide ? 0 : population_scratch(z));
  AlignedBuffer<double> memory((wide ? 1 : threads) * scratch);

  for_each_task(p.P, wide ? 1 : threads, [&](int64_t pair, int worker) {
    double* theta = &memory[worker * scratch];
    double* gradient = theta + weights;
    double *da1 = back.da1 + pair * w1_size, *db1 = back.db1 + pair * w1_size;
    double *da2 = back.da2 + pair * w2_size, *db2 = back.db2 + pair * w2_size;
    const size_t w1_bytes = static_cast<size_t>(w1_size) * sizeof(double);
    const size_t w2_bytes = static_cast<size_t>(w2_size) * sizeof(double);
    memset(da1, 0, w1_bytes);
    memset(db1, 0, w1_bytes);
    memset(da2, 0, w2_bytes);
    memset(db2, 0, w2_bytes);
    for (int64_t i = 0; i < p.A; ++i) {
      const double alpha = p.alphas[i], g = back.dlosses[pair * p.A + i];
      interpolate(w1_size, p.a1 + pair * w1_size, p.b1 + pair * w1_size, alpha, theta);
      interpolate(w2_size, p.a2 + pair * w2_size, p.b2 + pair * w2_size, alpha, theta + w1_size);
      const PopulationGradient to{gradient, gradient + w1_size};
      if (wide)
        wide_student.evaluate(teacher, theta, theta + w1_size, to);
      else
        population_value_and_gradient(teacher, z, theta, theta + w1_size, theta + 2 * weights, to);
      const double to_a = (1 - alpha) * g, to_b = alpha * g;
      for (int64_t e = 0; e < w1_size; ++e) {
        da1[e] += to_a * to.w1[e];
        db1[e] += to_b * to.w1[e];
      }
      for (int64_t e = 0; e < w2_size; ++e) {
        da2[e] += to_a * to.w2[e];
        db2[e] += to_b * to.w2[e];
      }
    }
  });
}

}  // namespace lmc::LMC_TARGET

namespace lmc::population_loss::LMC_TARGET {

extern const Kernels kernels{lmc::LMC_TARGET::population_loss_kernel,
                             lmc::LMC_TARGET::population_path_losses_kernel,
                             lmc::LMC_TARGET::population_path_backward_kernel};

}  // namespace lmc::population_loss::LMC_TARGET
