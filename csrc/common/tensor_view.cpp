// SPDX-License-Identifier: MIT
#include "common/tensor_view.h"

#include <cstring>

namespace lmc {
namespace {

std::string to_string(const std::vector<int64_t>& shape) {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

std::string to_string(dlpack::DataType t) {
  switch (t.code) {
    case dlpack::kBool:
      return "bool";
    case dlpack::kInt:
      return "int" + std::to_string(t.bits);
    case dlpack::kUInt:
      return "uint" + std::to_string(t.bits);
    case dlpack::kFloat:
      return "float" + std::to_string(t.bits);
    default:
      return "a type of DLPack code " + std::to_string(t.code);
  }
}

bool same(dlpack::DataType a, dlpack::DataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

std::string name_of(dlpack::Device device) {
  if (device.type == dlpack::kCpu) return "the CPU";
  if (device.type == dlpack::kCuda) return "cuda:" + std::to_string(device.id);
  return "a device of DLPack type " + std::to_string(device.type);
}

template <class Managed>
void release(void* owner) {
  auto* managed = static_cast<Managed*>(owner);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

}  // namespace

TensorView::TensorView(py::handle object, const char* name) : name_(name) {
  if (!borrow_versioned(object)) borrow_capsule(object);
}

TensorView::TensorView(TensorView&& other) noexcept
    : name_(other.name_),
      tensor_(other.tensor_),
      owner_(other.owner_),
      release_(other.release_),
      copy_(std::move(other.copy_)) {
  other.owner_ = nullptr;
}

TensorView::~TensorView() {
  if (owner_ != nullptr) release_(owner_);
}

// False when the object's type does not offer this, or not for writing.
bool TensorView::borrow_versioned(py::handle object) {
  static const char* const kAttribute = "__dlpack_c_exchange_api__";
  const py::object capsule = py::getattr(py::type::handle_of(object), kAttribute, py::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return false;
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (api->version.major != 1) return false;
  dlpack::VersionedTensor* managed = nullptr;
  if (api->from_python(object.ptr(), &managed) != 0) throw py::error_already_set();
  tensor_ = &managed->tensor;
  owner_ = managed;
  release_ = release<dlpack::VersionedTensor>;
  if ((managed->flags & dlpack::kReadOnly) == 0) return true;
  release_(owner_);
  owner_ = nullptr;
  return false;
}

void TensorView::borrow_capsule(py::handle object) {
  if (!py::hasattr(object, "__dlpack__"))
    throw py::type_error(std::string(name_) +
                         " must be an array with __dlpack__ (torch, numpy, cupy); got " +
                         py::str(py::type::of(object).attr("__name__")).cast<std::string>());
  // torch gives no capsule of a tensor that requires a gradient.
  const py::object array = py::hasattr(object, "detach")
                               ? object.attr("detach")()
                               : py::reinterpret_borrow<py::object>(object);
  // -1: no waiting for the stream that wrote it; whoever calls uses the caller's own.
  const bool on_cuda = py::hasattr(array, "is_cuda") && array.attr("is_cuda").cast<bool>();
  const py::object capsule =
      on_cuda ? array.attr("__dlpack__")(py::arg("stream") = -1) : array.attr("__dlpack__")();
  auto* managed =
      static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");  // ours to delete from here on
  tensor_ = &managed->tensor;
  owner_ = managed;
  release_ = release<dlpack::ManagedTensor>;
}

bool TensorView::is_float32() const { return same(tensor_->dtype, TypeOf<float>::value); }
bool TensorView::is_float64() const { return same(tensor_->dtype, TypeOf<double>::value); }

std::string TensorView::shape_string() const {
  const auto& t = *tensor_;
  return to_string(std::vector<int64_t>(t.shape, t.shape + t.ndim));
}

const int64_t* TensorView::labels(const std::vector<int64_t>& shape, int64_t classes) {
  const int64_t* values = input<int64_t>(shape);
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  for (int64_t i = 0; i < count; ++i)
    if (values[i] < 0 || values[i] >= classes)
      fail("must hold labels in 0.." + std::to_string(classes - 1) + "; got " +
           std::to_string(values[i]) + " at index " + std::to_string(i));
  return values;
}

void TensorView::fail(const std::string& what) const {
  throw py::value_error(name_ + (" " + what));
}

void TensorView::require_ndim(int wanted, const char* letters) const {
  if (ndim() != wanted)
    fail("must be " + std::string(letters) + ", " + std::to_string(wanted) +
         "-dimensional; got shape " + shape_string());
}

void TensorView::check(const std::vector<int64_t>& shape, dlpack::DataType dtype,
                       dlpack::Device device) const {
  const auto& t = *tensor_;
  if (std::vector<int64_t>(t.shape, t.shape + t.ndim) != shape)
    fail("must have shape " + to_string(shape) + "; got " + shape_string());
  if (!same(t.dtype, dtype))
    throw py::type_error(std::string(name_) + " must be " + to_string(dtype) + "; got " +
                         to_string(t.dtype));
  if (t.device.type != device.type || (device.type != dlpack::kCpu && t.device.id != device.id))
    fail("must be on " + name_of(device) + "; got one on " + name_of(t.device));
  bool empty = false;
  for (int64_t size : shape) empty |= size == 0;
  if (t.data == nullptr && !empty) fail("must hold data; got an array without memory");
}

void* TensorView::data() const { return static_cast<char*>(tensor_->data) + tensor_->byte_offset; }

bool TensorView::is_dense() const {
  const auto& t = *tensor_;
  if (t.strides == nullptr) return true;
  int64_t expected = 1;
  for (int axis = 0; axis < t.ndim; ++axis)
    if (t.shape[axis] == 0) return true;
  for (int axis = t.ndim - 1; axis >= 0; --axis) {
    if (t.shape[axis] != 1 && t.strides[axis] != expected) return false;
    expected *= t.shape[axis];
  }
  return true;
}

bool TensorView::is_aligned() const {
  return reinterpret_cast<uintptr_t>(data()) % (tensor_->dtype.bits / 8) == 0;
}

const void* TensorView::dense() {
  if (is_dense() && is_aligned()) return data();
  if (tensor_->device.type != dlpack::kCpu) fail("must be contiguous and aligned on this device");
  const auto& t = *tensor_;
  const int64_t item = t.dtype.bits / 8;
  int64_t count = 1;
  for (int axis = 0; axis < t.ndim; ++axis) count *= t.shape[axis];
  const char* from = static_cast<const char*>(data());
  if (is_dense()) {
    copy_.assign(from, from + count * item);
    return copy_.data();
  }
  copy_.resize(static_cast<size_t>(count * item));
  std::vector<int64_t> index(static_cast<size_t>(t.ndim), 0);
  for (int64_t e = 0; e < count; ++e) {
    int64_t offset = 0;
    for (int axis = 0; axis < t.ndim; ++axis)
      offset += index[static_cast<size_t>(axis)] * t.strides[axis];
    std::memcpy(&copy_[static_cast<size_t>(e * item)], from + offset * item,
                static_cast<size_t>(item));
    for (int axis = t.ndim - 1; axis >= 0 && ++index[static_cast<size_t>(axis)] == t.shape[axis];
         --axis)
      index[static_cast<size_t>(axis)] = 0;
  }
  return copy_.data();
}

int checked_threads(int threads) {
  if (threads < 1)
    throw py::value_error("threads must be at least 1; got " + std::to_string(threads));
  return threads;
}

}  // namespace lmc
