#include "kernels/dequantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/encode_weights.h"

namespace weir {
namespace {

std::vector<float> Dequantize(WeightType type, const std::string& bytes, size_t weights) {
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), RowBytes(type, static_cast<int64_t>(weights)));
  std::vector<float> values(weights);
  DequantizeRow(type, reinterpret_cast<const std::byte*>(bytes.data()), absl::MakeSpan(values));
  return values;
}

// Bytes of a scale of 0.5, or of -2, as binary16.
const std::string kHalfOfOne("\x00\x38", 2);
const std::string kMinusTwo("\x00\xc0", 2);

TEST(DequantizeTest, Q8Blocks) {
  std::string block = kHalfOfOne;
  for (int i = 0; i < 32; ++i) block.push_back(static_cast<char>(i * 8 - 128));
  const std::vector<float> values = Dequantize(WeightType::kQ8_0, block, 32);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(values[i], 0.5f * (i * 8 - 128)) << i;
}

TEST(DequantizeTest, Q4Blocks) {
  std::string nibbles;
  for (int i = 0; i < 16; ++i) nibbles.push_back(static_cast<char>(i | ((15 - i) << 4)));
  const std::vector<float> q4_0 = Dequantize(WeightType::kQ4_0, kHalfOfOne + nibbles, 32);
  const std::vector<float> q4_1 =
      Dequantize(WeightType::kQ4_1, kHalfOfOne + kMinusTwo + nibbles, 32);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(q4_0[i], 0.5f * (i - 8)) << i;
    EXPECT_EQ(q4_0[i + 16], 0.5f * (15 - i - 8)) << i;
    EXPECT_EQ(q4_1[i], 0.5f * i - 2) << i;
    EXPECT_EQ(q4_1[i + 16], 0.5f * (15 - i) - 2) << i;
  }
}

TEST(DequantizeTest, FloatsAndSeveralBlocksAtOddAddresses) {
  std::string floats("x");  // so that the row is not aligned
  for (const float value : {1.5f, -3.25f, 1e30f}) {
    floats.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  std::vector<float> values(3);
  DequantizeRow(WeightType::kF32, reinterpret_cast<const std::byte*>(floats.data()) + 1,
                absl::MakeSpan(values));
  EXPECT_EQ(values, (std::vector<float>{1.5f, -3.25f, 1e30f}));
  EXPECT_EQ(Dequantize(WeightType::kF16, kHalfOfOne + kMinusTwo, 2),
            (std::vector<float>{0.5f, -2.0f}));
  EXPECT_EQ(Dequantize(WeightType::kBF16, std::string("\x80\x3f\x00\xc0", 4), 2),
            (std::vector<float>{1.0f, -2.0f}));

  std::string blocks = kHalfOfOne + std::string(32, '\x01') + kMinusTwo + std::string(32, '\x03');
  const std::vector<float> two = Dequantize(WeightType::kQ8_0, blocks, 64);
  EXPECT_EQ(two[31], 0.5f);
  EXPECT_EQ(two[32], -6.0f);
}

// The test encoder and the reference decoder, written apart, agree to half a step.
class RoundTripTest : public testing::TestWithParam<WeightType> {};

TEST_P(RoundTripTest, IsWithinHalfAStep) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.2f, 1.0f);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<float> values(64);
    for (float& value : values) value = normal(random);
    const std::vector<float> decoded =
        Dequantize(GetParam(), EncodeWeights(GetParam(), values), values.size());
    for (size_t block = 0; block < values.size(); block += 32) {
      float low = values[block];
      float high = values[block];
      for (size_t i = block; i < block + 32; ++i) {
        low = std::min(low, values[i]);
        high = std::max(high, values[i]);
      }
      const float magnitude = std::max(std::fabs(low), std::fabs(high));
      float step = 0;
      switch (GetParam()) {
        case WeightType::kF32:
          break;
        case WeightType::kF16:
          step = magnitude / 1024;
          break;
        case WeightType::kBF16:
          step = magnitude / 128;
          break;
        case WeightType::kQ8_0:
          step = magnitude / 127 * 1.01f;
          break;
        case WeightType::kQ4_0:
          // The side opposite to the extreme ends at 7 steps: up to one step is cut off.
          step = 2 * magnitude / 8 * 1.01f;
          break;
        case WeightType::kQ4_1:
          step = (high - low) / 15 * 1.05f;
          break;
      }
      for (size_t i = block; i < block + 32; ++i) {
        EXPECT_LE(std::fabs(decoded[i] - values[i]), step / 2) << values[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, RoundTripTest,
                         testing::Values(WeightType::kF32, WeightType::kF16, WeightType::kBF16,
                                         WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1),
                         [](const auto& info) { return WeightTypeName(info.param); });

}  // namespace
}  // namespace weir
