#include "worker/model/gguf_types.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

// How the file format numbers the types of tensors that Weir reads.
constexpr std::pair<uint32_t, WeightType> kWeightTypes[] = {
    {0, WeightType::kF32},  {1, WeightType::kF16},  {2, WeightType::kQ4_0},
    {3, WeightType::kQ4_1}, {8, WeightType::kQ8_0}, {30, WeightType::kBF16},
};

}  // namespace

absl::string_view GgufTypeName(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
      return "uint8";
    case GgufValueType::kInt8:
      return "int8";
    case GgufValueType::kUint16:
      return "uint16";
    case GgufValueType::kInt16:
      return "int16";
    case GgufValueType::kUint32:
      return "uint32";
    case GgufValueType::kInt32:
      return "int32";
    case GgufValueType::kFloat32:
      return "float32";
    case GgufValueType::kBool:
      return "bool";
    case GgufValueType::kString:
      return "string";
    case GgufValueType::kArray:
      return "array";
    case GgufValueType::kUint64:
      return "uint64";
    case GgufValueType::kInt64:
      return "int64";
    case GgufValueType::kFloat64:
      return "float64";
  }
  return "unknown";
}

std::optional<uint64_t> FixedGgufSize(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return std::nullopt;
}

std::optional<WeightType> WeightTypeOfGguf(uint32_t file_type) {
  for (const auto& [number, type] : kWeightTypes) {
    if (number == file_type) return type;
  }
  return std::nullopt;
}

uint32_t GgufOfWeightType(WeightType type) {
  for (const auto& [number, weight_type] : kWeightTypes) {
    if (weight_type == type) return number;
  }
  std::abort();  // the table has them all
}

std::string GgufTensorTypeName(uint32_t file_type) {
  static constexpr std::pair<uint32_t, absl::string_view> kNames[] = {
      {6, "Q5_0"},    {7, "Q5_1"},     {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},
      {12, "Q4_K"},   {13, "Q5_K"},    {14, "Q6_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},
      {39, "MXFP4"},
  };
  for (const auto& [type, name] : kNames) {
    if (type == file_type) return std::string(name);
  }
  return absl::StrCat("number ", file_type);
}

}  // namespace weir
