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

constexpr WeightType kTypes[] = {WeightType::kF32,  WeightType::kF16,  WeightType::kBF16,
                                 WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1};

// A matrix as it lies in a file, and the values it stands for.
struct FileMatrix {
  int64_t cols = 0;
  std::vector<std::string> bytes;
  std::vector<WeightRow> rows;
  std::vector<std::vector<float>> values;
};

// Rows of `types`, in turn.
FileMatrix RandomMatrix(std::mt19937& random, int64_t rows, int64_t cols,
                        const std::vector<WeightType>& types) {
  FileMatrix matrix{.cols = cols};
  for (int64_t row = 0; row < rows; ++row) {
    const WeightType type = types[row % types.size()];
    // One byte in front: a file's rows start anywhere.
    matrix.bytes.push_back("x" + EncodeWeights(type, RandomFloats(random, cols)));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const WeightType type = types[row % types.size()];
    const auto* data = reinterpret_cast<const std::byte*>(matrix.bytes[row].data()) + 1;
    matrix.rows.push_back({data, type});
    matrix.values.emplace_back(cols);
    DequantizeRow(type, data, absl::MakeSpan(matrix.values.back()));
  }
  return matrix;
}

// Checks out = x * matrix^T against double precision, within what float32 sums of that length may
// be off.
void ExpectProduct(const FileMatrix& matrix, const std::vector<float>& x,
                   const std::vector<float>& out, const std::vector<bool>& row_is_used) {
  const int64_t outputs = static_cast<int64_t>(matrix.rows.size());
  for (size_t row = 0; row < row_is_used.size(); ++row) {
    for (int64_t output = 0; output < outputs; ++output) {
      const float actual = out[row * outputs + output];
      if (!row_is_used[row]) {
        ASSERT_TRUE(std::isnan(actual)) << "row " << row << " is in no group, yet written";
        continue;
      }
      double sum = 0.0;
      double magnitude = 0.0;
      for (int64_t col = 0; col < matrix.cols; ++col) {
        const double term = double{x[row * matrix.cols + col]} * matrix.values[output][col];
        sum += term;
        magnitude += std::abs(term);
      }
      const double tolerance = 4e-7 * magnitude * std::sqrt(1.0 + matrix.cols / 16.0) + 1e-30;
      ASSERT_NEAR(actual, sum, tolerance) << "row " << row << ", output " << output;
    }
  }
}

// Small groups, large ones and gaps between them.
std::vector<RowGroup> RandomGroups(std::mt19937& random, int rows, std::vector<bool>& used) {
  std::vector<RowGroup> groups;
  used.assign(rows, false);
  for (int row = 0; row < rows;) {
    const int count =
        std::min(rows - row, RandomInt(random, 0, 2) == 0 ? RandomInt(random, 1, 40) : 1);
    if (RandomInt(random, 0, 4) != 0) {
      groups.push_back({row, count});
      std::fill_n(used.begin() + row, count, true);
    }
    row += count;
  }
  return groups;
}

class MatMulTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) GTEST_SKIP() << "not on this machine";
    hwy::SetSupportedTargetsForTest(GetParam());
  }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(MatMulTest, EveryTypeAndShape) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const std::unique_ptr<Backend> backend = MakeCpuBackend(RandomInt(random, 1, 3));
    std::vector<WeightType> types = {kTypes[trial % 6]};
    if (trial >= 36) types.push_back(kTypes[RandomInt(random, 0, 5)]);
    bool in_blocks = false;
    for (const WeightType type : types) in_blocks = in_blocks || BlockWeights(type) > 1;
    const int64_t cols = in_blocks ? 32 * RandomInt(random, 1, 10) : RandomInt(random, 1, 300);
    const int64_t outputs = RandomInt(random, 1, 150);
    const int rows = trial % 3 == 0 ? RandomInt(random, 1, 300) : RandomInt(random, 1, 8);
    const FileMatrix file = RandomMatrix(random, outputs, cols, types);
    const std::unique_ptr<Matrix> matrix = backend->LoadMatrix(file.rows, cols).value();
    ASSERT_EQ(matrix->rows(), outputs);
    ASSERT_EQ(matrix->cols(), cols);

    std::vector<bool> used;
    const std::vector<RowGroup> groups = RandomGroups(random, rows, used);
    const std::vector<float> x = RandomFloats(random, rows * cols);
    const Tensor out = PoisonedTensor(*backend, rows, outputs);
    backend->MatMul(groups, MakeTensor(*backend, rows, cols, x), *matrix, out);
    ASSERT_NO_FATAL_FAILURE(ExpectProduct(file, x, ToVector(*backend, out), used))
        << "trial " << trial << ": " << rows << " rows, [" << outputs << ", " << cols << "]";
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatMulTest,
                         testing::Values(HWY_SCALAR, HWY_SSE4, HWY_AVX2, HWY_AVX3),
                         [](const testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

TEST(PackedMatrixTest, Q4ScalesOfEverySize) {
  // d * (q - 8) where d is the smallest and the largest f16, subnormal ones, zero and negative
  // ones.
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  for (const uint16_t d : {0x0000, 0x0001, 0x007f, 0x0080, 0x00ff, 0x01ff, 0x03ff, 0x0400, 0x3c00,
                           0x6fff, 0x7000, 0x7bff, 0x8001, 0xbc00, 0xefff, 0xf000}) {
    std::string bytes(BlockBytes(WeightType::kQ4_0), '\x5e');
    bytes[0] = static_cast<char>(d & 0xff);
    bytes[1] = static_cast<char>(d >> 8);
    const WeightRow row = {reinterpret_cast<const std::byte*>(bytes.data()), WeightType::kQ4_0};
    std::vector<float> expected(32);
    DequantizeRow(row.type, row.data, absl::MakeSpan(expected));

    const std::unique_ptr<Matrix> matrix = backend->LoadMatrix({row}, 32).value();
    std::vector<float> identity(32 * 32);
    for (int i = 0; i < 32; ++i) identity[i * 33] = 1.0f;
    const Tensor out = PoisonedTensor(*backend, 32, 1);
    backend->MatMul({{0, 32}}, MakeTensor(*backend, 32, 32, identity), *matrix, out);
    EXPECT_EQ(ToVector(*backend, out), expected) << "d = " << d;
  }
}

TEST_P(MatMulTest, ARowDependsOnItselfAlone) {
  std::mt19937 random(2);
  for (const WeightType type : kTypes) {
    constexpr int kCols = 32 * 7;
    constexpr int kOutputs = 150;
    const FileMatrix file = RandomMatrix(random, kOutputs, kCols, {type});
    const std::vector<float> x = RandomFloats(random, 300 * kCols);
    std::vector<float> expected;
    for (int threads = 1; threads <= 3; ++threads) {
      const std::unique_ptr<Backend> backend = MakeCpuBackend(threads);
      const std::unique_ptr<Matrix> matrix = backend->LoadMatrix(file.rows, kCols).value();
      const Tensor in = MakeTensor(*backend, 300, kCols, x);
      const Tensor out = PoisonedTensor(*backend, 300, kOutputs);
      backend->MatMul({{0, 256}, {256, 1}, {257, 43}}, in, *matrix, out);
      if (expected.empty()) expected = ToVector(*backend, out);
      EXPECT_EQ(ToVector(*backend, out), expected);

      // The same rows with other neighbours: one to nine at a time, with gaps.
      const Tensor apart = PoisonedTensor(*backend, 300, kOutputs);
      for (int row = 0, count = 1; row < 300; row += count, count = count % 9 + 1) {
        const int first = std::min(count, 300 - row) / 2;
        const int second = std::min(count, 300 - row) - first;
        std::vector<RowGroup> groups = {{row + first, second}};
        if (first > 0) groups.push_back({row, first});
        backend->MatMul(groups, in, *matrix, apart);
      }
      EXPECT_EQ(ToVector(*backend, apart), expected);
    }
  }
}

TEST(CpuBackendTest, SaysWhatDidNotFit) {
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const auto tensor = backend->AllocateTensor(ElementType::kFloat32, int64_t{1} << 40, 1 << 10);
  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(tensor.status().message().find("[1099511627776, 1024]"), std::string::npos)
      << tensor.status();
}

}  // namespace
}  // namespace weir
