#include "kernels/cuda/decode/few_rows_matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kMostRows = FewRowsMatMul::kMostRows;

// `count` values of about `scale`, then NaNs that nobody may read.
std::vector<__nv_bfloat16> Values(std::mt19937& random, int64_t count, float scale = 1.0f,
                                  int64_t nans = 256) {
  std::vector<__nv_bfloat16> values(count + nans, __float2bfloat16(NAN));
  for (int64_t i = 0; i < count; ++i) {
    values[i] = __float2bfloat16(scale * (static_cast<int>(random() % 4001) - 2000) / 1000.0f);
  }
  return values;
}

// Rows of `cols` values, with NaNs between them.
std::vector<__nv_bfloat16> Rows(std::mt19937& random, int rows, int cols, int64_t stride) {
  std::vector<__nv_bfloat16> x(rows * stride, __float2bfloat16(NAN));
  for (int row = 0; row < rows; ++row) {
    const std::vector<__nv_bfloat16> values = Values(random, cols, 1.0f, 0);
    std::copy(values.begin(), values.end(), x.begin() + row * stride);
  }
  return x;
}

float ToFloat(float value) { return value; }
float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

// A sum that is to be found, and how far from it may be what was computed in float32.
struct Sum {
  double value = 0.0;
  double error = 0.0;
};

Sum DotProduct(const __nv_bfloat16* x, const __nv_bfloat16* weights, int cols) {
  Sum sum;
  double magnitude = 0.0;
  for (int col = 0; col < cols; ++col) {
    const double product = static_cast<double>(ToFloat(x[col])) * ToFloat(weights[col]);
    sum.value += product;
    magnitude += std::abs(product);
  }
  sum.error = std::ldexp(magnitude, -20);
  return sum;
}

Sum Rounded(Sum sum) {
  sum.error += std::ldexp(std::abs(sum.value), -8);
  return sum;
}

// The slope of silu is at most 1.1.
Sum Gated(const Sum& gate, const Sum& up) {
  const double silu = gate.value / (1.0 + std::exp(-gate.value));
  return {silu * up.value, 1.1 * gate.error * (std::abs(up.value) + up.error) +
                               std::abs(silu) * up.error +
                               std::ldexp(std::abs(silu * up.value), -18)};
}

// The product of random operands is right, and nothing else is written.
template <typename Out>
void ExpectRight(std::mt19937& random, int rows, int outputs, int cols, bool gated = false) {
  SCOPED_TRACE(testing::Message() << rows << " rows, " << outputs << " outputs, " << cols
                                  << " columns, " << sizeof(Out) << " bytes"
                                  << (gated ? ", gated" : ""));
  const int64_t x_stride = cols + 8 * static_cast<int>(random() % 3);
  const int64_t out_stride = outputs + static_cast<int>(random() % 3);
  const std::vector<__nv_bfloat16> x = Rows(random, rows, cols, x_stride);
  // Gates of a few units, where silu is neither nothing nor everything.
  const std::vector<__nv_bfloat16> weights =
      gated ? Values(random, int64_t{2} * outputs * cols, 1.5f / std::sqrt(cols))
            : Values(random, int64_t{outputs} * cols);
  const DeviceArray<__nv_bfloat16> device_x(x), device_weights(weights);
  DeviceArray<Out> device_out(rows * out_stride + 64);
  device_out.FillBytes(0xff);
  CheckCuda(cudaDeviceSynchronize());
  CheckCuda(
      LaunchFewRowsMatMul({device_x.data(), x_stride, device_weights.data(), rows, outputs, cols,
                           device_out.data(), out_stride, sizeof(Out) == sizeof(float), gated},
                          nullptr));
  const std::vector<Out> out = device_out.Read();
  const std::vector<uint8_t> poison(sizeof(Out), 0xff);
  int wrong = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    const int64_t row = i / out_stride;
    const int64_t output = i % out_stride;
    if (row >= rows || output >= outputs) {
      if (std::memcmp(&out[i], poison.data(), sizeof(Out)) == 0) continue;
      ADD_FAILURE() << "written outside: row " << row << ", output " << output;
    } else {
      const auto product = [&](int64_t weight_row) {
        return DotProduct(&x[row * x_stride], &weights[weight_row * cols], cols);
      };
      const Sum sum = gated ? Gated(Rounded(product(output)), Rounded(product(outputs + output)))
                            : product(output);
      const Sum want = sizeof(Out) == sizeof(float) ? sum : Rounded(sum);
      if (std::abs(ToFloat(out[i]) - want.value) <= want.error) continue;
      ADD_FAILURE() << "row " << row << ", output " << output << ": got " << ToFloat(out[i])
                    << ", want " << want.value;
    }
    if (++wrong == 10) return;
  }
}

// By number of rows.
class FewRowsMatMulReferenceTest : public testing::TestWithParam<int> {};

TEST_P(FewRowsMatMulReferenceTest, Matches) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const int rows = GetParam();
  std::mt19937 random(rows);
  const int output_counts[] = {1, 7, 15, 16, 17, 33, 48, 100, 320};
  for (const int cols : {8, 24, 56, 64, 72, 192, 512, 520, 576, 1536, 3144, 4104}) {
    const int outputs = output_counts[random() % std::size(output_counts)];
    ExpectRight<float>(random, rows, outputs, cols);
    ExpectRight<__nv_bfloat16>(random, rows, outputs, cols);
    ExpectRight<__nv_bfloat16>(random, rows, outputs, cols, /*gated=*/true);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, FewRowsMatMulReferenceTest,
                         testing::Values(1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64));

// Sizes at which a block takes 2, 3 and 4 tiles of outputs on a card of 132 multiprocessors.
TEST(FewRowsMatMulTest, MatchesReferenceWithManyOutputs) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(12);
  for (const int rows : {1, 8, 13, 32, 50}) {
    for (const int outputs : {4096, 6144, 6113, 9999, 14335}) {
      ExpectRight<float>(random, rows, outputs, rows == 8 ? 1096 : 264);
      ExpectRight<__nv_bfloat16>(random, rows, outputs / 2, rows == 8 ? 1096 : 264,
                                 /*gated=*/true);
    }
  }
}

struct MatrixShape {
  int outputs, cols;
  bool gated = false;
};

class FewRowsMatMulRowsTest : public testing::TestWithParam<MatrixShape> {};

// Whatever other rows there are, and wherever a row stands.
TEST_P(FewRowsMatMulRowsTest, DoNotDependOnOneAnother) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const auto [outputs, cols, gated] = GetParam();
  const size_t out_bytes = gated ? sizeof(__nv_bfloat16) : sizeof(float);
  std::mt19937 random(13);
  const DeviceArray<__nv_bfloat16> x(Rows(random, kMostRows, cols, cols));
  const DeviceArray<__nv_bfloat16> weights(
      Values(random, int64_t{gated ? 2 : 1} * outputs * cols, 1.5f / std::sqrt(cols)));
  DeviceArray<uint8_t> out(int64_t{kMostRows} * outputs * out_bytes);
  CheckCuda(cudaDeviceSynchronize());
  const auto multiply = [&](int first_row, int rows) {
    out.FillBytes(0xff);
    CheckCuda(LaunchFewRowsMatMul({x.data() + int64_t{first_row} * cols, cols, weights.data(), rows,
                                   outputs, cols, out.data(), outputs, !gated, gated},
                                  nullptr));
    return out.Read();
  };
  const std::vector<uint8_t> all = multiply(0, kMostRows);
  for (const int rows : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63}) {
    for (const int first_row : {0, (kMostRows - rows) / 2, kMostRows - rows}) {
      const std::vector<uint8_t> some = multiply(first_row, rows);
      for (int row = 0; row < rows; ++row) {
        const size_t row_bytes = outputs * out_bytes;
        ASSERT_EQ(
            0, std::memcmp(&some[row * row_bytes], &all[(first_row + row) * row_bytes], row_bytes))
            << outputs << " outputs, " << cols << " columns: row " << row << " of " << rows
            << " differs from row " << first_row + row << " of " << kMostRows;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, FewRowsMatMulRowsTest,
                         testing::Values(MatrixShape{960, 576}, MatrixShape{576, 1536},
                                         MatrixShape{4096, 2056}, MatrixShape{6144, 4096},
                                         MatrixShape{28672, 1024}, MatrixShape{1536, 576, true},
                                         MatrixShape{14336, 1024, true}));

struct ChainShape {
  int rows, narrow, wide;
};

class FewRowsMatMulChainTest : public testing::TestWithParam<ChainShape> {};

// Products that need one another's results, in a graph where their launches overlap, give what they
// give one at a time.
TEST_P(FewRowsMatMulChainTest, WaitsForEarlierKernelsInGraph) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const int rows = GetParam().rows;
  const int narrow = GetParam().narrow;
  const int wide = GetParam().wide;
  std::mt19937 random(14);
  const DeviceArray<__nv_bfloat16> first(Rows(random, rows, narrow, narrow));
  DeviceArray<__nv_bfloat16> a(first.size()), b(int64_t{rows} * wide);
  // Scaled so that values neither grow nor vanish from product to product.
  const int64_t weights = int64_t{narrow} * wide;
  const DeviceArray<__nv_bfloat16> up(Values(random, weights, std::sqrt(0.75f / narrow)));
  const DeviceArray<__nv_bfloat16> down(Values(random, weights, std::sqrt(0.75f / wide)));
  cudaStream_t stream;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  CheckCuda(cudaDeviceSynchronize());
  const auto enqueue_chain = [&](bool one_at_a_time) {
    const auto finish = [&] {
      if (one_at_a_time) CheckCuda(cudaStreamSynchronize(stream));
    };
    CheckCuda(
        cudaMemcpyAsync(a.data(), first.data(), first.bytes(), cudaMemcpyDeviceToDevice, stream));
    finish();
    for (int i = 0; i < 12; ++i) {
      CheckCuda(LaunchFewRowsMatMul(
          {a.data(), narrow, up.data(), rows, wide, narrow, b.data(), wide, false}, stream));
      finish();
      CheckCuda(LaunchFewRowsMatMul(
          {b.data(), wide, down.data(), rows, narrow, wide, a.data(), narrow, false}, stream));
      finish();
    }
  };
  enqueue_chain(true);
  const std::vector<__nv_bfloat16> want = a.Read();
  EXPECT_GT(std::abs(ToFloat(want[0])), 1e-6f);
  const CapturedGraph graph(stream, [&] { enqueue_chain(false); });
  a.FillBytes(0xff);
  b.FillBytes(0xff);
  CheckCuda(cudaDeviceSynchronize());
  for (int replay = 0; replay < 5; ++replay) graph.Launch(stream);
  CheckCuda(cudaStreamSynchronize(stream));
  const std::vector<__nv_bfloat16> got = a.Read();
  int different = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    different += std::memcmp(&got[i], &want[i], sizeof(got[i])) != 0;
  }
  EXPECT_EQ(different, 0) << "of " << got.size() << ": " << narrow << " to " << wide << ", " << rows
                          << " rows";
  CheckCuda(cudaStreamDestroy(stream));
}

INSTANTIATE_TEST_SUITE_P(Shapes, FewRowsMatMulChainTest,
                         testing::Values(ChainShape{1, 576, 1536}, ChainShape{8, 576, 1536},
                                         ChainShape{24, 576, 1536}, ChainShape{1, 4096, 6144},
                                         ChainShape{8, 4096, 6144}, ChainShape{24, 4096, 6144}));

}  // namespace
}  // namespace weir
