#include "kernels/dequantize.h"

#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "kernels/half.h"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little, "weights are read as stored");

constexpr size_t kBlock = 32;

uint16_t LoadUint16(const std::byte* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float LoadHalf(const std::byte* from) { return HalfToFloat(LoadUint16(from)); }

// out[i] = scale * (nibble i - zero) + minimum for the 32 nibbles packed in 16 bytes.
void UnpackNibbles(const std::byte* packed, float scale, int zero, float minimum, float* out) {
  for (size_t i = 0; i < kBlock / 2; ++i) {
    const int byte = std::to_integer<int>(packed[i]);
    out[i] = scale * static_cast<float>((byte & 15) - zero) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>((byte >> 4) - zero) + minimum;
  }
}

void DequantizeBlock(WeightType type, const std::byte* block, float* out) {
  switch (type) {
    case WeightType::kF32:
      std::memcpy(out, block, sizeof(float));
      return;
    case WeightType::kF16:
      *out = LoadHalf(block);
      return;
    case WeightType::kBF16:
      *out = BFloat16ToFloat(LoadUint16(block));
      return;
    case WeightType::kQ8_0: {
      const float scale = LoadHalf(block);
      for (size_t i = 0; i < kBlock; ++i) {
        out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
      }
      return;
    }
    case WeightType::kQ4_0:
      UnpackNibbles(block + 2, LoadHalf(block), 8, 0.0f, out);
      return;
    case WeightType::kQ4_1:
      UnpackNibbles(block + 4, LoadHalf(block), 0, LoadHalf(block + 2), out);
      return;
  }
}

}  // namespace

void DequantizeRow(WeightType type, const std::byte* row, absl::Span<float> out) {
  const size_t block_weights = static_cast<size_t>(BlockWeights(type));
  const size_t block_bytes = static_cast<size_t>(BlockBytes(type));
  assert(out.size() % block_weights == 0);
  for (size_t i = 0; i < out.size(); i += block_weights, row += block_bytes) {
    DequantizeBlock(type, row, out.data() + i);
  }
}

}  // namespace weir
