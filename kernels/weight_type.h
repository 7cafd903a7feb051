#ifndef WEIR_KERNELS_WEIGHT_TYPE_H_
#define WEIR_KERNELS_WEIGHT_TYPE_H_

#include <cstddef>
#include <cstdint>

namespace weir {

// How the weights of one tensor are stored, byte for byte as in a GGUF file (little-endian). A row
// is a whole number of blocks, one after another; quantised blocks hold 32 weights w[0..31]:
//
//   kF32, kF16, kBF16   one weight per block: IEEE binary32, IEEE binary16, the upper half of a
//                       binary32
//   kQ8_0               f16 d; int8 q[32]                w[i] = d * q[i]
//   kQ4_0               f16 d; uint8 p[16]               w[i] = d * (q[i] - 8)
//   kQ4_1               f16 d; f16 m; uint8 p[16]        w[i] = d * q[i] + m
//
// In both 4-bit types q[i] is the low nibble of p[i] and q[i + 16] is its high nibble.
enum class WeightType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

// Weights per block.
constexpr int64_t BlockWeights(WeightType type) {
  switch (type) {
    case WeightType::kF32:
    case WeightType::kF16:
    case WeightType::kBF16:
      return 1;
    case WeightType::kQ8_0:
    case WeightType::kQ4_0:
    case WeightType::kQ4_1:
      return 32;
  }
  return 0;
}

// Bytes per block.
constexpr int64_t BlockBytes(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 4;
    case WeightType::kF16:
    case WeightType::kBF16:
      return 2;
    case WeightType::kQ8_0:
      return 2 + 32;
    case WeightType::kQ4_0:
      return 2 + 16;
    case WeightType::kQ4_1:
      return 2 + 2 + 16;
  }
  return 0;
}

// Bytes of a row of `weights` weights, a multiple of BlockWeights(type).
constexpr int64_t RowBytes(WeightType type, int64_t weights) {
  return weights / BlockWeights(type) * BlockBytes(type);
}

// The type's name in GGUF tools, such as "Q4_1".
constexpr const char* WeightTypeName(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return "F32";
    case WeightType::kF16:
      return "F16";
    case WeightType::kBF16:
      return "BF16";
    case WeightType::kQ8_0:
      return "Q8_0";
    case WeightType::kQ4_0:
      return "Q4_0";
    case WeightType::kQ4_1:
      return "Q4_1";
  }
  return "unknown";
}

}  // namespace weir

#endif  // WEIR_KERNELS_WEIGHT_TYPE_H_
