// SPDX-License-Identifier: MIT
// The part of the DLPack ABI (https://dmlc.github.io/dlpack) that borrowing an array needs: from a
// "dltensor" capsule (DLPack 0.x), or through the table of C functions that a type may offer as
// __dlpack_c_exchange_api__ (DLPack 1.2), which spares a call into Python.
#pragma once

#include <cstdint>

namespace lmc::dlpack {

enum DeviceType : int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBool = 6 };

struct Device {
  int32_t type;
  int32_t id;
};
struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: dense row-major
  uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

// DLPack 1.x.
struct Version {
  uint32_t major, minor;
};
inline constexpr uint64_t kReadOnly = 1;
struct VersionedTensor {
  Version version;
  void* context;
  void (*deleter)(VersionedTensor*);
  uint64_t flags;
  Tensor tensor;
};
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  void* allocate;
  int (*from_python)(void* object, VersionedTensor** out);  // 0, or -1 with a Python exception
};

}  // namespace lmc::dlpack
