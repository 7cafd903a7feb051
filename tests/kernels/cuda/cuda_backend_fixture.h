#ifndef WEIR_TESTS_KERNELS_CUDA_CUDA_BACKEND_FIXTURE_H_
#define WEIR_TESTS_KERNELS_CUDA_CUDA_BACKEND_FIXTURE_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/missing_gpu.h"

namespace weir {

inline float RoundedToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000);
}

// Normal numbers that bfloat16 holds.
inline std::vector<float> RandomBFloat16s(std::mt19937& random, int64_t count,
                                          float deviation = 1.0f) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = RoundedToBFloat16(normal(random));
  return values;
}

// || a - b || / || b ||; NaN where either has one.
inline double RelativeError(const std::vector<float>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

constexpr double kRopeBase = 10000.0;

inline RopeTable MakeRopeTable(int head_dim, int rotations) {
  RopeTable table = {.rotations = rotations, .head_dim = head_dim};
  for (int rotation = 0; rotation < rotations; ++rotation) {
    for (int i = 0; i < head_dim / 2; ++i) {
      const double angle = rotation * std::pow(kRopeBase, -2.0 * i / head_dim);
      table.cos.push_back(static_cast<float>(std::cos(angle)));
      table.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

// A backend on GPU 0; skips the test where there is none.
class CudaBackendTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const absl::Status gpu = CheckCudaGpu(0); IsMissingGpu(gpu)) GTEST_SKIP() << gpu;
    absl::StatusOr<std::unique_ptr<Backend>> backend = CreateCudaBackend({.exact_scores = true});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
  }

  Tensor Allocate(ElementType type, int64_t rows, int64_t cols) {
    return backend_->AllocateTensor(type, rows, cols).value();
  }

  std::unique_ptr<Matrix> MakeMatrix(const std::vector<float>& values, int64_t cols) {
    std::vector<WeightRow> rows;
    for (size_t i = 0; i < values.size(); i += cols) {
      rows.push_back({reinterpret_cast<const std::byte*>(values.data() + i), WeightType::kF32});
    }
    return backend_->LoadMatrix(rows, cols).value();
  }

  // x = values, which bfloat16 holds: rows of a table, looked up.
  void Fill(Tensor x, const std::vector<float>& values) {
    const std::unique_ptr<Matrix> table = MakeMatrix(values, x.cols);
    std::vector<int32_t> tokens(x.rows);
    std::iota(tokens.begin(), tokens.end(), 0);
    const std::unique_ptr<DeviceStep> step =
        backend_->AllocateStep({.kv_heads = 1, .query_heads = 1}, static_cast<int>(x.rows), 1)
            .value();
    backend_->LoadStep(tokens, {}, *step);
    backend_->Embed(*table, *step, x);
    ASSERT_TRUE(backend_->Synchronize().ok());
  }

  Tensor MakeTensor(const std::vector<float>& values, int64_t cols) {
    const Tensor x = Allocate(ElementType::kBFloat16, values.size() / cols, cols);
    Fill(x, values);
    return x;
  }
  Tensor MakeFloatTensor(const std::vector<float>& values, int64_t cols) {
    const Tensor x = Allocate(ElementType::kFloat32, values.size() / cols, cols);
    Fill(x, values);
    return x;
  }
  // What an operation forgets to write, a test sees.
  Tensor Poisoned(int64_t rows, int64_t cols) {
    return MakeTensor(std::vector<float>(rows * cols, std::nanf("")), cols);
  }

  std::vector<float> Read(Tensor x) {
    std::vector<float> values(x.elements());
    EXPECT_TRUE(backend_->CopyToHost(x, absl::MakeSpan(values)).ok());
    return values;
  }

  std::unique_ptr<Backend> backend_;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_CUDA_BACKEND_FIXTURE_H_
