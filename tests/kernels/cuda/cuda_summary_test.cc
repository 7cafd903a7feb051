// The CUDA backend's reduction of logits as a step uses it: recorded once, replayed with other
// requests. The kernels themselves: likeliest_test.

#include <memory>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "kernels/likeliest.h"
#include "kernels/likeliest_merge.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"
#include "tests/kernels/naive_likeliest.h"

namespace weir {
namespace {

constexpr int kRows = 3;
constexpr int kWidth = 1001;
constexpr int kTokens = 990;
constexpr int kFirstToken = 41;
constexpr int kInner = 64;

TEST_F(CudaBackendTest, SummariesFollowTheRequests) {
  std::mt19937 random(51);
  // Row r of x picks column r of the weights, so these are the logits.
  const std::vector<float> weights = RandomBFloat16s(random, kWidth * kInner, 3.0f);
  std::vector<float> one_hot(kRows * kInner);
  for (int row = 0; row < kRows; ++row) one_hot[row * kInner + row] = 1;
  const std::unique_ptr<Matrix> matrix = MakeMatrix(weights, kInner);
  const Tensor x = MakeTensor(one_hot, kInner);
  const Tensor logits = Allocate(ElementType::kFloat32, kRows, kWidth);
  const Tensor out = Allocate(ElementType::kFloat32, SummaryLines(kMostLikeliest), 2 * kRows);
  const std::unique_ptr<DeviceRequests> requests =
      backend_->AllocateRequests(kRows + 5, kWidth).value();
  const std::vector<RowGroup> groups = {{0, 1}, {1, 1}, {2, 1}};
  const auto enqueue = [&] {
    backend_->MatMul(groups, x, *matrix, logits);
    backend_->SummarizeLogits(logits, kFirstToken, kTokens, *requests, out);
    return absl::OkStatus();
  };
  ASSERT_TRUE(backend_->Record(7, enqueue).ok());

  for (uint64_t step = 0; step < 6; ++step) {
    // The last row has no request of its own.
    const std::vector<LikeliestRequest> asked = {
        {.seed = 9,
         .index = step,
         .inverse_temperature = 0.8f,
         .likeliest = 1 + static_cast<int32_t>(step * 200),
         .target = 700,
         .draw = true},
        {.likeliest = 20, .target = static_cast<int32_t>(step)}};
    backend_->LoadRequests(asked, *requests);
    const absl::Status replayed = backend_->Replay(7, enqueue);
    ASSERT_TRUE(replayed.ok()) << replayed;
    const std::vector<float> summaries = Read(out);
    for (int row = 0; row < kRows; ++row) {
      const LikeliestRequest request = row < 2 ? asked[row] : LikeliestRequest();
      std::vector<float> values;
      for (int token = 0; token < kTokens; ++token) values.push_back(weights[token * kInner + row]);
      const LogitsSummary got = MergeSummaries(summaries, 1, kRows, kMostLikeliest, row, request);
      EXPECT_EQ(CompareSummary(got, values, kFirstToken, request), "")
          << "step " << step << ", row " << row;
    }
  }
}

TEST_F(CudaBackendTest, RefusesAVocabularyThatIsTooLarge) {
  EXPECT_EQ(backend_->AllocateRequests(1, 1 << 20).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace weir
