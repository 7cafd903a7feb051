// The CUDA backend's operations but attention, against the same in double precision.

#include "kernels/cuda/cuda_backend.h"

#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"

namespace weir {
namespace {

std::vector<double> Norm(const std::vector<float>& x, const std::vector<float>& weight,
                         double epsilon) {
  const size_t width = weight.size();
  std::vector<double> out(x.size());
  for (size_t first = 0; first < x.size(); first += width) {
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += double{x[first + i]} * x[first + i];
    const double scale = 1 / std::sqrt(squares / width + epsilon);
    for (size_t i = 0; i < width; ++i) out[first + i] = x[first + i] * scale * weight[i];
  }
  return out;
}

TEST_F(CudaBackendTest, Norms) {
  std::mt19937 random(1);
  for (const int width : {64, 576, 4096, 8200, 16384}) {
    for (const int rows : {1, 5, 70}) {
      const std::vector<float> x = RandomBFloat16s(random, int64_t{rows} * width, 3.0f);
      const std::vector<float> delta = RandomBFloat16s(random, int64_t{rows} * width);
      const std::vector<float> weight = RandomBFloat16s(random, width);
      const Tensor device_weight = backend_->LoadVector(weight).value();
      const Tensor out = Poisoned(rows, width);
      const Tensor residual = MakeFloatTensor(x, width);
      backend_->RmsNorm(residual, device_weight, 1e-5f, out);
      EXPECT_LT(RelativeError(Read(out), Norm(x, weight, 1e-5)), 4e-3) << rows << " x " << width;

      backend_->AddRmsNorm(residual, MakeTensor(delta, width), device_weight, 1e-5f, out);
      std::vector<float> sum(x.size());
      for (size_t i = 0; i < x.size(); ++i) sum[i] = x[i] + delta[i];
      EXPECT_EQ(Read(residual), sum);
      EXPECT_LT(RelativeError(Read(out), Norm(sum, weight, 1e-5)), 4e-3) << rows << " x " << width;
    }
  }
}

TEST_F(CudaBackendTest, SwiGlu) {
  std::mt19937 random(2);
  for (const int width : {8, 1536, 14336}) {
    for (const int rows : {1, 67}) {
      const std::vector<float> gate_up = RandomBFloat16s(random, int64_t{rows} * 2 * width, 4.0f);
      const Tensor out = Poisoned(rows, width);
      backend_->SwiGlu(MakeTensor(gate_up, 2 * width), out);
      std::vector<double> expected;
      for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < width; ++i) {
          const double gate = gate_up[int64_t{row} * 2 * width + i];
          expected.push_back(gate / (1 + std::exp(-gate)) *
                             gate_up[(int64_t{row} * 2 + 1) * width + i]);
        }
      }
      EXPECT_LT(RelativeError(Read(out), expected), 4e-3) << rows << " x " << width;
    }
  }
}

std::vector<double> Product(const std::vector<float>& x, const std::vector<float>& weights,
                            int cols) {
  std::vector<double> out;
  for (size_t row = 0; row < x.size(); row += cols) {
    for (size_t output = 0; output < weights.size(); output += cols) {
      double sum = 0;
      for (int k = 0; k < cols; ++k) sum += double{x[row + k]} * weights[output + k];
      out.push_back(sum);
    }
  }
  return out;
}

// A row's result depends on its group alone: single rows in any company, and a chunk.
TEST_F(CudaBackendTest, ProductsOfGroups) {
  std::mt19937 random(3);
  constexpr int kCols = 576;
  constexpr int kOutputs = 200;
  constexpr int kRows = 180;
  const std::vector<float> x = RandomBFloat16s(random, kRows * kCols);
  const std::vector<float> weights = RandomBFloat16s(random, kOutputs * kCols);
  const std::vector<double> expected = Product(x, weights, kCols);
  const std::unique_ptr<Matrix> matrix = MakeMatrix(weights, kCols);
  EXPECT_EQ(matrix->rows(), kOutputs);
  EXPECT_EQ(matrix->cols(), kCols);
  const Tensor in = MakeTensor(x, kCols);

  std::vector<RowGroup> singles;
  for (int row = 0; row < kRows; ++row) singles.push_back({row, 1});
  const Tensor out = Allocate(ElementType::kFloat32, kRows, kOutputs);
  backend_->MatMul(singles, in, *matrix, out);
  const std::vector<float> alone = Read(out);
  EXPECT_LT(RelativeError(alone, expected), 1e-5);
  const Tensor one = Allocate(ElementType::kFloat32, 1, kOutputs);
  for (const int row : {0, 63, 64, 179}) {
    const RowGroup group = {0, 1};
    backend_->MatMul({&group, 1}, in.Rows(row, 1), *matrix, one);
    EXPECT_EQ(Read(one), std::vector<float>(alone.begin() + row * kOutputs,
                                            alone.begin() + (row + 1) * kOutputs));
  }

  const RowGroup chunk[] = {{0, 1}, {1, 178}, {179, 1}};
  backend_->MatMul(chunk, in, *matrix, out);
  const std::vector<float> together = Read(out);
  EXPECT_LT(RelativeError(together, expected), 1e-5);
  EXPECT_TRUE(std::equal(together.begin(), together.begin() + kOutputs, alone.begin()));
  const Tensor rounded = Poisoned(kRows, kOutputs);
  backend_->MatMul(chunk, in, *matrix, rounded);
  EXPECT_LT(RelativeError(Read(rounded), expected), 4e-3);
}

// The same bits as products and SwiGLU one after the other, in single rows and beside a chunk.
TEST_F(CudaBackendTest, GatedProductsOfGroups) {
  std::mt19937 random(5);
  constexpr int kCols = 576;
  const auto expect_same = [&](int width, int chunk, int singles) {
    SCOPED_TRACE(testing::Message() << width << " outputs, a chunk of " << chunk << " rows and "
                                    << singles << " single ones");
    const int rows = chunk + singles;
    const std::vector<float> x = RandomBFloat16s(random, int64_t{rows} * kCols);
    const std::vector<float> weights = RandomBFloat16s(random, int64_t{2} * width * kCols, 0.1f);
    const std::unique_ptr<Matrix> matrix = MakeMatrix(weights, kCols);
    const Tensor in = MakeTensor(x, kCols);
    std::vector<RowGroup> groups;
    if (chunk > 0) groups.push_back({0, chunk});
    for (int row = chunk; row < rows; ++row) groups.push_back({row, 1});

    const Tensor gate_up = Poisoned(rows, 2 * width);
    const Tensor apart = Poisoned(rows, width);
    backend_->MatMul(groups, in, *matrix, gate_up);
    backend_->SwiGlu(gate_up, apart);
    const Tensor together = Poisoned(rows, width);
    backend_->MatMulSwiGlu(groups, in, *matrix, Poisoned(rows, 2 * width), together);
    EXPECT_EQ(Read(together), Read(apart));
  };
  for (const int width : {8, 200, 1544}) {
    expect_same(width, 100, 50);
    for (const int singles : {1, 8, 9, 16, 24, 32, 64, 72}) expect_same(width, 0, singles);
  }
}

TEST_F(CudaBackendTest, KeepsAndRecallsRowsInARecordedStep) {
  std::mt19937 random(4);
  constexpr int kWidth = 64;
  const KvShape shape = {
      .layers = 1, .kv_heads = 1, .query_heads = 1, .head_dim = 64, .sessions = 5};
  const std::vector<float> table = RandomBFloat16s(random, 10 * kWidth);
  const std::unique_ptr<Matrix> matrix = MakeMatrix(table, kWidth);
  const std::unique_ptr<DeviceStep> step = backend_->AllocateStep(shape, 3, 3).value();
  const Tensor kept = MakeTensor(std::vector<float>(5 * kWidth, 7.0f), kWidth);
  const int rows = backend_->PaddedRows(3);
  ASSERT_GE(rows, 3);
  const Tensor x = Poisoned(rows, kWidth);
  const Tensor recalled = Poisoned(rows, kWidth);
  int calls = 0;
  const auto enqueue = [&] {
    ++calls;
    backend_->Embed(*matrix, *step, x);
    backend_->KeepLastRows(*step, x, kept);
    backend_->RecallLastRows(*step, kept, recalled);
    return absl::OkStatus();
  };
  const auto row = [&](const std::vector<float>& values, int index) {
    return std::vector<float>(values.begin() + index * kWidth,
                              values.begin() + (index + 1) * kWidth);
  };
  ASSERT_TRUE(backend_->Record(1, enqueue).ok());
  EXPECT_EQ(row(Read(kept), 0), std::vector<float>(kWidth, 7.0f));  // nothing ran

  const std::vector<SequenceStep> first = {{.cache_slot = 4, .first_row = 0, .rows = 1},
                                           {.cache_slot = 2, .first_row = 1, .rows = 1},
                                           {.cache_slot = 0}};
  backend_->LoadStep({9, 3}, first, *step);
  ASSERT_TRUE(backend_->Replay(1, enqueue).ok());
  std::vector<float> now = Read(recalled);
  EXPECT_EQ(row(now, 0), row(table, 9));
  EXPECT_EQ(row(now, 1), row(table, 3));
  EXPECT_EQ(row(now, 2), std::vector<float>(kWidth, 7.0f));

  const std::vector<SequenceStep> second = {{.cache_slot = 0, .first_row = 0, .rows = 1},
                                            {.cache_slot = 4}};
  backend_->LoadStep({5}, second, *step);
  ASSERT_TRUE(backend_->Replay(1, enqueue).ok());
  now = Read(recalled);
  EXPECT_EQ(row(now, 0), row(table, 5));
  EXPECT_EQ(row(now, 1), row(table, 9));
  EXPECT_EQ(calls, 1);
  const std::vector<float> all = Read(kept);
  EXPECT_EQ(row(all, 2), row(table, 3));
  EXPECT_EQ(row(all, 1), std::vector<float>(kWidth, 7.0f));
}

TEST_F(CudaBackendTest, SaysWhatItCannotDo) {
  EXPECT_EQ(CreateCudaBackend({.gpu = 99}).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status tensor =
      backend_->AllocateTensor(ElementType::kFloat32, 1 << 20, 1 << 20).status();
  EXPECT_EQ(tensor.code(), absl::StatusCode::kResourceExhausted) << tensor;
  for (const auto& [query_heads, head_dim] : {std::pair(1, 32), std::pair(33, 64)}) {
    const KvShape shape = {.layers = 1,
                           .kv_heads = 1,
                           .query_heads = query_heads,
                           .head_dim = head_dim,
                           .sessions = 1,
                           .slots = 1,
                           .max_step_rows = 1,
                           .max_stride = 1};
    const absl::Status heads =
        backend_->AllocateKv(shape, {.rotations = 1, .head_dim = head_dim}).status();
    EXPECT_EQ(heads.code(), absl::StatusCode::kUnimplemented) << heads;
  }
  EXPECT_TRUE(backend_->Synchronize().ok());
}

}  // namespace
}  // namespace weir
