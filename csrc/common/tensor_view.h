// SPDX-License-Identifier: MIT
// Arrays at the boundary with Python: any object that speaks DLPack is borrowed, checked, and
// handed to kernels as a raw pointer to dense memory. Every error names the argument, what was
// wanted and what came.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/dlpack.h"

namespace lmc {

namespace py = pybind11;

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr dlpack::DataType value{dlpack::kFloat, 32, 1};
};
template <>
struct TypeOf<double> {
  static constexpr dlpack::DataType value{dlpack::kFloat, 64, 1};
};
template <>
struct TypeOf<int32_t> {
  static constexpr dlpack::DataType value{dlpack::kInt, 32, 1};
};
template <>
struct TypeOf<int64_t> {
  static constexpr dlpack::DataType value{dlpack::kInt, 64, 1};
};
template <>
struct TypeOf<uint64_t> {  // sign words and the like; torch keeps them as int64
  static constexpr dlpack::DataType value{dlpack::kInt, 64, 1};
};
template <>
struct TypeOf<bool> {
  static constexpr dlpack::DataType value{dlpack::kBool, 8, 1};
};

inline constexpr dlpack::Device kCpu{dlpack::kCpu, 0};

// A borrowed array. Must be destroyed with the GIL held.
class TensorView {
 public:
  TensorView(py::handle object, const char* name);
  TensorView(TensorView&& other) noexcept;
  TensorView(const TensorView&) = delete;
  TensorView& operator=(const TensorView&) = delete;
  ~TensorView();

  const char* name() const { return name_; }
  int ndim() const { return tensor_->ndim; }
  int64_t size(int axis) const { return tensor_->shape[axis]; }
  dlpack::Device device() const { return tensor_->device; }
  bool is_float32() const;
  bool is_float64() const;

  // The data of an input of exactly this shape and type on this device. On the CPU a strided
  // array, or one whose elements are not aligned, is copied to dense memory that lives as long as
  // this view; elsewhere it must be dense and aligned already.
  template <class T>
  const T* input(const std::vector<int64_t>& shape, dlpack::Device device = kCpu) {
    check(shape, TypeOf<T>::value, device);
    return static_cast<const T*>(dense());
  }
  // Class labels: int64, in 0 ... classes - 1.
  const int64_t* labels(const std::vector<int64_t>& shape, int64_t classes);
  // The data of an output: likewise, and it must already be dense and aligned.
  template <class T>
  T* output(const std::vector<int64_t>& shape, dlpack::Device device = kCpu) {
    check(shape, TypeOf<T>::value, device);
    if (!is_dense() || !is_aligned())
      fail("must be contiguous and aligned, because the result is written into it");
    return static_cast<T*>(data());
  }

  void require_ndim(int wanted, const char* letters) const;
  [[noreturn]] void fail(const std::string& what) const;  // ValueError "<name> <what>"
  std::string shape_string() const;

 private:
  void check(const std::vector<int64_t>& shape, dlpack::DataType dtype,
             dlpack::Device device) const;
  bool is_dense() const;
  bool is_aligned() const;
  void* data() const;
  const void* dense();

  bool borrow_versioned(py::handle object);
  void borrow_capsule(py::handle object);

  const char* name_;
  const dlpack::Tensor* tensor_ = nullptr;  // part of *owner_
  void* owner_ = nullptr;
  void (*release_)(void* owner) = nullptr;
  std::vector<char> copy_;
};

// An argument that may be None.
template <class T>
const T* optional_input(py::handle object, const char* name, const std::vector<int64_t>& shape,
                        std::vector<TensorView>& keep_alive, dlpack::Device device = kCpu) {
  if (object.is_none()) return nullptr;
  keep_alive.emplace_back(object, name);
  return keep_alive.back().input<T>(shape, device);
}
template <class T>
T* optional_output(py::handle object, const char* name, const std::vector<int64_t>& shape,
                   std::vector<TensorView>& keep_alive, dlpack::Device device = kCpu) {
  if (object.is_none()) return nullptr;
  keep_alive.emplace_back(object, name);
  return keep_alive.back().output<T>(shape, device);
}

// Calls body(T{}) with T the floating-point type of `view`; TypeError for any other.
template <class Body>
auto with_float_type(const TensorView& view, const Body& body) {
  if (view.is_float32()) return body(float{});
  if (view.is_float64()) return body(double{});
  throw py::type_error(std::string(view.name()) +
                       " must be float32 or float64; convert it with .float() or .double()");
}

int checked_threads(int threads);  // ValueError unless threads >= 1

}  // namespace lmc
