#ifndef WEIR_TESTS_KERNELS_CUDA_RANK_TENSORS_H_
#define WEIR_TESTS_KERNELS_CUDA_RANK_TENSORS_H_

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace weir {

// Tensors of ranks in host memory, as bytes of either element type, and what collectives make of
// them.

inline double ElementAt(const std::vector<uint8_t>& bytes, ElementType type, int64_t i) {
  if (type == ElementType::kFloat32) {
    float value;
    std::memcpy(&value, &bytes[i * sizeof(value)], sizeof(value));
    return value;
  }
  __nv_bfloat16 value;
  std::memcpy(&value, &bytes[i * sizeof(value)], sizeof(value));
  return __bfloat162float(value);
}

inline void SetElement(std::vector<uint8_t>& bytes, ElementType type, int64_t i, float value) {
  if (type == ElementType::kFloat32) {
    std::memcpy(&bytes[i * sizeof(value)], &value, sizeof(value));
    return;
  }
  const __nv_bfloat16 rounded = __float2bfloat16(value);
  std::memcpy(&bytes[i * sizeof(rounded)], &rounded, sizeof(rounded));
}

// Values of many magnitudes, so that the order of a sum shows in its bits; some zeros of both
// signs.
inline std::vector<uint8_t> RandomTensor(std::mt19937& random, ElementType type, int64_t elements) {
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bytes(elements * ElementBytes(type));
  for (int64_t i = 0; i < elements; ++i) {
    const uint32_t kind = random() % 16;
    const float value = kind == 0   ? 0.0f
                        : kind == 1 ? -0.0f
                                    : std::ldexp(normal(random), static_cast<int>(random() % 12));
    SetElement(bytes, type, i, value);
  }
  return bytes;
}

// The bits that every rank must get: added in rank order in float32, rounded once. `error`, if it
// is not empty afterwards, says where this is not what a sum in double precision says.
inline std::vector<uint8_t> SumInOrder(const std::vector<std::vector<uint8_t>>& inputs,
                                       ElementType type, std::string* error) {
  std::vector<uint8_t> sums(inputs[0].size());
  const int64_t elements = static_cast<int64_t>(sums.size()) / ElementBytes(type);
  const double rounding =
      type == ElementType::kFloat32 ? 0.0 : std::ldexp(1.0, -8);  // half of the last of 8 bits
  for (int64_t i = 0; i < elements; ++i) {
    float sum = static_cast<float>(ElementAt(inputs[0], type, i));
    double exact = sum;
    double magnitude = std::abs(exact);
    for (size_t rank = 1; rank < inputs.size(); ++rank) {
      const double value = ElementAt(inputs[rank], type, i);
      sum += static_cast<float>(value);
      exact += value;
      magnitude += std::abs(value);
    }
    SetElement(sums, type, i, sum);
    const double got = ElementAt(sums, type, i);
    if (std::abs(got - exact) > 1e-6 * magnitude + rounding * std::abs(exact)) {
      *error = "element " + std::to_string(i) + ": " + std::to_string(got) + " instead of " +
               std::to_string(exact);
    }
  }
  return sums;
}

// Where two tensors first differ, in words; empty if nowhere.
inline std::string FirstDifference(const std::vector<uint8_t>& got,
                                   const std::vector<uint8_t>& want, ElementType type) {
  if (got.size() != want.size()) return "sizes differ";
  const int64_t bytes = ElementBytes(type);
  int64_t different = 0;
  std::string first;
  for (size_t i = 0; i < got.size(); i += bytes) {
    if (std::memcmp(&got[i], &want[i], bytes) == 0) continue;
    if (different++ > 0) continue;
    const int64_t element = static_cast<int64_t>(i) / bytes;
    first = "element " + std::to_string(element) + " is " +
            std::to_string(ElementAt(got, type, element)) + ", not " +
            std::to_string(ElementAt(want, type, element));
  }
  if (different == 0) return "";
  return first + "; " + std::to_string(different) + " of " + std::to_string(got.size() / bytes) +
         " differ";
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_RANK_TENSORS_H_
