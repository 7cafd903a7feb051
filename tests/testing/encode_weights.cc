#include "tests/testing/encode_weights.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

#include "kernels/half.h"

namespace weir {
namespace {

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Stores a scale as binary16 and returns what a reader will see; 1 where that is 0, to divide by.
float PutScale(std::string& out, float scale) {
  const uint16_t bits = FloatToHalf(scale);
  Put(out, bits);
  const float stored = HalfToFloat(bits);
  return stored == 0 ? 1 : stored;
}

int RoundInto(float value, int low, int high) {
  return std::clamp(static_cast<int>(std::lround(value)), low, high);
}

// The value of largest magnitude, with its sign.
float Extreme(absl::Span<const float> block) {
  return *std::max_element(block.begin(), block.end(),
                           [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

// 32 numbers from 0 to 15: the first half in the low nibbles.
template <typename Quantise>
void PutNibbles(std::string& out, absl::Span<const float> block, Quantise quantise) {
  for (size_t i = 0; i < 16; ++i) {
    Put(out, static_cast<uint8_t>(quantise(block[i]) | (quantise(block[i + 16]) << 4)));
  }
}

void EncodeBlock(WeightType type, absl::Span<const float> block, std::string& out) {
  switch (type) {
    case WeightType::kF32:
      return Put(out, block[0]);
    case WeightType::kF16:
      return Put(out, FloatToHalf(block[0]));
    case WeightType::kBF16:
      return Put(out, FloatToBFloat16(block[0]));
    case WeightType::kQ8_0: {
      const float scale = PutScale(out, std::fabs(Extreme(block)) / 127);
      for (const float value : block) {
        Put(out, static_cast<int8_t>(RoundInto(value / scale, -127, 127)));
      }
      return;
    }
    case WeightType::kQ4_0: {
      // 4-bit numbers reach from -8 to 7: the largest magnitude becomes -8.
      const float scale = PutScale(out, Extreme(block) / -8);
      return PutNibbles(out, block,
                        [scale](float value) { return RoundInto(value / scale + 8, 0, 15); });
    }
    case WeightType::kQ4_1: {
      const auto [low, high] = std::minmax_element(block.begin(), block.end());
      const float scale = PutScale(out, (*high - *low) / 15);
      const uint16_t minimum_bits = FloatToHalf(*low);
      Put(out, minimum_bits);
      return PutNibbles(out, block, [scale, minimum = HalfToFloat(minimum_bits)](float value) {
        return RoundInto((value - minimum) / scale, 0, 15);
      });
    }
  }
}

}  // namespace

std::string EncodeWeights(WeightType type, absl::Span<const float> values) {
  const size_t block = static_cast<size_t>(BlockWeights(type));
  assert(values.size() % block == 0);
  std::string bytes;
  for (size_t i = 0; i < values.size(); i += block) {
    EncodeBlock(type, values.subspan(i, block), bytes);
  }
  return bytes;
}

uint16_t FloatToHalf(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return sign | 0x7e00;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  // The step between neighbouring binary16 values here; nearbyint rounds ties to even.
  const int exponent = std::max(magnitude > 0 ? std::ilogb(magnitude) : -14, -14);
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  // With the implicit bit, 1024 steps at exponent e are bits ((e + 15) << 10); the sum carries
  // over.
  return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + steps));
}

uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace weir
