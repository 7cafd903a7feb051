#include "worker/model/weight_rows.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/dequantize.h"
#include "tests/testing/encode_weights.h"

namespace weir {
namespace {

// A tensor {cols, rows} of random values stored as `type`, and the values that it holds.
struct Stored {
  Stored(WeightType type, int64_t cols, int64_t rows) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    values.resize(cols * rows);
    for (float& value : values) value = normal(random);
    bytes = EncodeWeights(type, values);
    tensor.type = type;
    tensor.dims = {cols, rows};
    tensor.data = reinterpret_cast<const std::byte*>(bytes.data());
    tensor.size = static_cast<int64_t>(bytes.size());
    DequantizeRow(type, tensor.data, absl::MakeSpan(values));
  }
  float At(int64_t row, int64_t col) const { return values[row * tensor.dims[0] + col]; }

  GgufTensor tensor;
  std::string bytes;
  std::vector<float> values;
};

std::vector<float> Read(const WeightRow& row, int64_t cols) {
  std::vector<float> values(cols);
  DequantizeRow(row.type, row.data, absl::MakeSpan(values));
  return values;
}

TEST(WeightRowsTest, RangesOfRows) {
  const Stored stored(WeightType::kQ4_1, 64, 10);
  std::vector<WeightRow> rows;
  AppendRows(stored.tensor, 7, 2, rows);
  AppendRows(stored.tensor, 0, 1, rows);
  ASSERT_EQ(rows.size(), 3u);
  for (int col = 0; col < 64; ++col) {
    EXPECT_EQ(Read(rows[0], 64)[col], stored.At(7, col));
    EXPECT_EQ(Read(rows[1], 64)[col], stored.At(8, col));
    EXPECT_EQ(Read(rows[2], 64)[col], stored.At(0, col));
  }
}

// The file has heads of 6 rows a0 b0 a1 b1 a2 b2; Weir turns a_i with b_i at distance 3.
TEST(WeightRowsTest, HeadsInRotateHalfOrder) {
  const Stored stored(WeightType::kF16, 5, 18);
  std::vector<WeightRow> rows;
  AppendRotatedHeads(stored.tensor, 6, 1, 2, rows);
  const std::vector<int> expected = {6, 8, 10, 7, 9, 11, 12, 14, 16, 13, 15, 17};
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(Read(rows[i], 5)[3], stored.At(expected[i], 3)) << i;
  }
}

TEST(WeightRowsTest, ColumnsOfWholeBlocksStayQuantised) {
  const Stored stored(WeightType::kQ8_0, 128, 4);
  const ColumnSlice slice(stored.tensor, 32, 64);
  ASSERT_EQ(slice.rows().size(), 4u);
  for (int row = 0; row < 4; ++row) {
    EXPECT_EQ(slice.rows()[row].type, WeightType::kQ8_0);
    for (int col = 0; col < 64; ++col) {
      EXPECT_EQ(Read(slice.rows()[row], 64)[col], stored.At(row, 32 + col));
    }
  }
}

TEST(WeightRowsTest, ColumnsThatCutBlocksAreDequantised) {
  const Stored stored(WeightType::kQ4_0, 96, 3);
  const ColumnSlice slice(stored.tensor, 48, 48);
  ASSERT_EQ(slice.rows().size(), 3u);
  for (int row = 0; row < 3; ++row) {
    EXPECT_EQ(slice.rows()[row].type, WeightType::kF32);
    for (int col = 0; col < 48; ++col) {
      EXPECT_EQ(Read(slice.rows()[row], 48)[col], stored.At(row, 48 + col));
    }
  }
}

}  // namespace
}  // namespace weir
