#ifndef WEIR_WORKER_MODEL_GGUF_TYPES_H_
#define WEIR_WORKER_MODEL_GGUF_TYPES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/weight_type.h"

namespace weir {

// The types of metadata values, numbered as in the file format.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Such as "uint32".
absl::string_view GgufTypeName(GgufValueType type);

// Bytes of a value of fixed size; 0 for strings and arrays; none for a type that does not exist.
std::optional<uint64_t> FixedGgufSize(GgufValueType type);

// The weight type of a tensor type as numbered in the file; none for one that Weir does not read.
std::optional<WeightType> WeightTypeOfGguf(uint32_t file_type);
// The tensor type that stands for a weight type in the file.
uint32_t GgufOfWeightType(WeightType type);

// What GGUF tools call a tensor type that Weir does not read.
std::string GgufTensorTypeName(uint32_t file_type);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_GGUF_TYPES_H_
