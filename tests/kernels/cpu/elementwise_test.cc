#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "kernels/backend.h"
#include "kernels/dequantize.h"
#include "tests/kernels/cpu/test_tensors.h"
#include "tests/testing/encode_weights.h"

namespace weir {
namespace {

class ElementwiseTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) GTEST_SKIP() << "not on this machine";
    hwy::SetSupportedTargetsForTest(GetParam());
  }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  std::mt19937 random_{3};
};

void ExpectNormalized(const std::vector<float>& x, const std::vector<float>& weight, double epsilon,
                      const std::vector<float>& out) {
  const size_t cols = weight.size();
  for (size_t row = 0; row < x.size() / cols; ++row) {
    double squares = 0.0;
    for (size_t col = 0; col < cols; ++col) squares += std::pow(x[row * cols + col], 2.0);
    const double rms = std::sqrt(squares / cols + epsilon);
    for (size_t col = 0; col < cols; ++col) {
      const double expected = x[row * cols + col] / rms * weight[col];
      ASSERT_NEAR(out[row * cols + col], expected, 2e-6 * std::abs(expected) + 1e-30);
    }
  }
}

TEST_P(ElementwiseTest, RmsNormAndAddRmsNorm) {
  for (const int cols : {1, 7, 16, 33, 64, 576}) {
    for (const int rows : {1, 3, 129}) {
      const std::unique_ptr<Backend> backend = MakeCpuBackend(RandomInt(random_, 1, 3));
      std::vector<float> x = RandomFloats(random_, rows * cols, 3.0f);
      const std::vector<float> delta = RandomFloats(random_, rows * cols);
      const std::vector<float> weight = RandomFloats(random_, cols);
      const Tensor weights = backend->LoadVector(weight).value();
      const Tensor in = MakeTensor(*backend, rows, cols, x);
      const Tensor out = PoisonedTensor(*backend, rows, cols);
      backend->RmsNorm(in, weights, 1e-5f, out);
      ASSERT_NO_FATAL_FAILURE(ExpectNormalized(x, weight, 1e-5, ToVector(*backend, out)));

      const Tensor sum_out = PoisonedTensor(*backend, rows, cols);
      backend->AddRmsNorm(in, MakeTensor(*backend, rows, cols, delta), weights, 1e-5f, sum_out);
      for (size_t i = 0; i < x.size(); ++i) x[i] += delta[i];
      EXPECT_EQ(ToVector(*backend, in), x);
      ASSERT_NO_FATAL_FAILURE(ExpectNormalized(x, weight, 1e-5, ToVector(*backend, sum_out)));
    }
  }
}

TEST_P(ElementwiseTest, SwiGlu) {
  for (const int cols : {1, 5, 48, 1536}) {
    const int rows = RandomInt(random_, 1, 70);
    const std::unique_ptr<Backend> backend = MakeCpuBackend(RandomInt(random_, 1, 3));
    std::vector<float> gate_up = RandomFloats(random_, rows * 2 * cols, 8.0f);
    gate_up[0] = RandomInt(random_, 0, 1) == 0 ? 500.0f : -500.0f;  // exp overflows a float
    const Tensor out = PoisonedTensor(*backend, rows, cols);
    backend->SwiGlu(MakeTensor(*backend, rows, 2 * cols, gate_up), out);
    const std::vector<float> result = ToVector(*backend, out);
    for (int row = 0; row < rows; ++row) {
      for (int col = 0; col < cols; ++col) {
        const double gate = gate_up[row * 2 * cols + col];
        const double expected =
            gate / (1.0 + std::exp(-gate)) * gate_up[(row * 2 + 1) * cols + col];
        ASSERT_NEAR(result[row * cols + col], expected, 1e-6 * std::abs(expected) + 1e-30)
            << "gate " << gate;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ElementwiseTest,
                         testing::Values(HWY_SCALAR, HWY_SSE4, HWY_AVX2, HWY_AVX3),
                         [](const testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

TEST(CpuBackendTest, EmbedAndLastRows) {
  std::mt19937 random(4);
  const std::unique_ptr<Backend> backend = MakeCpuBackend(2);
  const WeightType types[] = {WeightType::kF32,  WeightType::kF16,  WeightType::kBF16,
                              WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1};
  constexpr int kCols = 96;
  std::vector<std::string> bytes;
  std::vector<std::vector<float>> values;
  for (const WeightType type : types) {
    bytes.push_back(EncodeWeights(type, RandomFloats(random, kCols)));
    values.emplace_back(kCols);
    DequantizeRow(type, reinterpret_cast<const std::byte*>(bytes.back().data()),
                  absl::MakeSpan(values.back()));
  }
  std::vector<WeightRow> rows;
  for (int i = 0; i < 6; ++i) {
    rows.push_back({reinterpret_cast<const std::byte*>(bytes[i].data()), types[i]});
  }
  const std::unique_ptr<Matrix> table = backend->LoadTable(rows, kCols).value();
  for (std::string& row : bytes) row.assign(row.size(), '\xff');  // the file may be closed
  std::vector<int32_t> tokens;
  for (int i = 0; i < 50; ++i) tokens.push_back(RandomInt(random, 0, 5));
  const Tensor out = PoisonedTensor(*backend, 50, kCols);
  backend->Embed(*table, *MakeStep(*backend, {}, tokens), out);
  const std::vector<float> result = ToVector(*backend, out);
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(
        std::equal(values[tokens[i]].begin(), values[tokens[i]].end(), result.begin() + i * kCols));
  }

  // Two sequences with rows and one without, which only recalls.
  const std::unique_ptr<DeviceStep> step =
      MakeStep(*backend, {{.cache_slot = 3, .first_row = 0, .rows = 50},
                          {.cache_slot = 1, .first_row = 7, .rows = 1},
                          {.cache_slot = 0}});
  const Tensor kept = MakeTensor(*backend, 4, kCols, std::vector<float>(4 * kCols, 5.0f));
  backend->KeepLastRows(*step, out, kept);
  const Tensor recalled = PoisonedTensor(*backend, 3, kCols);
  backend->RecallLastRows(*step, kept, recalled);
  const std::vector<float> three = ToVector(*backend, recalled);
  EXPECT_TRUE(std::equal(three.begin(), three.begin() + kCols, result.begin() + 49 * kCols));
  EXPECT_TRUE(
      std::equal(three.begin() + kCols, three.begin() + 2 * kCols, result.begin() + 7 * kCols));
  EXPECT_EQ(std::vector<float>(three.begin() + 2 * kCols, three.end()),
            std::vector<float>(kCols, 5.0f));
}

TEST(CpuBackendTest, DescribesItself) {
  hwy::SetSupportedTargetsForTest(HWY_SSE4);
  EXPECT_EQ(MakeCpuBackend(3)->description(), "cpu (sse4, 3 threads)");
  hwy::SetSupportedTargetsForTest(0);
  EXPECT_EQ(CreateCpuBackend({.threads = 0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateCpuBackend({.threads = 1025}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
