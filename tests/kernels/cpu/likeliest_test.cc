#include "kernels/likeliest.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "kernels/likeliest_merge.h"
#include "tests/kernels/cpu/test_tensors.h"
#include "tests/kernels/naive_likeliest.h"

namespace weir {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  int rows;
  int tokens;
  int padding;
  int32_t first_token;
};

class LikeliestTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) GTEST_SKIP() << "not on this machine";
    hwy::SetSupportedTargetsForTest(GetParam());
  }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Logits [rows][tokens + padding]; padding is larger than any logit.
  std::vector<float> RandomLogits(const Shape& shape, int values) {
    std::normal_distribution<float> normal(0, 4);
    std::vector<float> logits;
    for (int row = 0; row < shape.rows; ++row) {
      for (int i = 0; i < shape.tokens; ++i) {
        float logit = normal(random_);
        if (values > 0) logit = static_cast<float>(RandomInt(random_, -values, values));
        if (RandomInt(random_, 0, 50) == 0) logit = std::nanf("");
        if (RandomInt(random_, 0, 50) == 0) logit = -kInfinity;
        logits.push_back(logit);
      }
      logits.insert(logits.end(), shape.padding, 1e9f);
    }
    return logits;
  }

  std::vector<LikeliestRequest> RandomRequests(int rows, int most) {
    std::vector<LikeliestRequest> requests(rows);
    for (LikeliestRequest& request : requests) {
      request.seed = random_();
      request.index = random_();
      const float inverses[] = {1, 0.01f, 0.7f, 1.4285715f, 20, 1000};
      request.inverse_temperature = inverses[RandomInt(random_, 0, 5)];
      request.likeliest = RandomInt(random_, 1, most);
      request.draw = RandomInt(random_, 0, 1) == 0;
      request.target = RandomInt(random_, -1, 9000);
    }
    return requests;
  }

  static std::vector<float> Summarize(const std::vector<float>& logits, const Shape& shape,
                                      const std::vector<LikeliestRequest>& requests, int most,
                                      int threads) {
    const std::unique_ptr<Backend> backend = MakeCpuBackend(threads);
    const int64_t width = shape.tokens + shape.padding;
    const std::unique_ptr<DeviceRequests> on_device =
        backend->AllocateRequests(shape.rows + 1, width).value();
    backend->LoadRequests(requests, *on_device);
    const Tensor out = PoisonedTensor(*backend, SummaryLines(most), 2 * shape.rows);
    backend->SummarizeLogits(MakeTensor(*backend, shape.rows, width, logits), shape.first_token,
                             shape.tokens, *on_device, out);
    return ToVector(*backend, out);
  }

  static std::vector<float> Row(const std::vector<float>& logits, const Shape& shape, int row) {
    const auto begin = logits.begin() + int64_t{row} * (shape.tokens + shape.padding);
    return {begin, begin + shape.tokens};
  }

  std::mt19937 random_{11};
};

TEST_P(LikeliestTest, SummariesAreRight) {
  for (const Shape& shape :
       {Shape{1, 1, 0, 0}, Shape{2, 3, 1, 5}, Shape{3, 267, 13, 6}, Shape{2, 8192, 0, 8192},
        Shape{3, 8193, 7, 1}, Shape{2, 20000, 480, 40003}}) {
    for (const int values : {0, 2, 300}) {
      const int most = RandomInt(random_, 1, kMostLikeliest);
      std::vector<float> logits = RandomLogits(shape, values);
      const std::vector<LikeliestRequest> requests = RandomRequests(shape.rows, most);
      const std::vector<float> summaries =
          Summarize(logits, shape, requests, most, RandomInt(random_, 1, 3));
      for (int row = 0; row < shape.rows; ++row) {
        const LogitsSummary got =
            MergeSummaries(summaries, 1, shape.rows, most, row, requests[row]);
        EXPECT_EQ(CompareSummary(got, Row(logits, shape, row), shape.first_token, requests[row]),
                  "")
            << shape.tokens << " tokens, row " << row << ", inverse temperature "
            << requests[row].inverse_temperature << ", draw " << requests[row].draw;
      }
    }
  }
}

// What skips tokens that cannot win must not change who wins: many draws, over few and many tokens.
TEST_P(LikeliestTest, EveryDrawIsTheTrueWinner) {
  for (const int tokens : {5, 1000}) {
    const Shape shape = {1, tokens, 0, 3};
    std::vector<float> logits = RandomLogits(shape, 0);
    for (uint64_t index = 0; index < 300; ++index) {
      const LikeliestRequest request = {
          .seed = 1, .index = index, .inverse_temperature = 0.2f * (1 + index % 10), .draw = true};
      const std::vector<float> summaries = Summarize(logits, shape, {request}, 1, 1);
      ASSERT_EQ(CompareSummary(MergeSummaries(summaries, 1, 1, 1, 0, request), logits, 3, request),
                "");
    }
  }
}

// Cut anywhere, the vocabulary yields the same tokens.
TEST_P(LikeliestTest, PartsAgreeWithTheWhole) {
  const Shape whole = {1, 9001, 0, 0};
  std::vector<float> logits = RandomLogits(whole, 40);
  for (uint64_t index = 0; index < 20; ++index) {
    const LikeliestRequest request = {
        .seed = 5, .index = index, .inverse_temperature = 1.25f, .likeliest = 50, .draw = true};
    const std::vector<float> one = Summarize(logits, whole, {request}, 50, 1);
    const LogitsSummary want = MergeSummaries(one, 1, 1, 50, 0, request);
    std::vector<float> parts;
    int begin = 0;
    for (const int end : {1, 3001, 3003, 9001}) {
      const Shape shape = {1, end - begin, 0, begin};
      std::vector<float> part(logits.begin() + begin, logits.begin() + end);
      const std::vector<float> summary = Summarize(part, shape, {request}, 50, 1);
      parts.insert(parts.end(), summary.begin(), summary.end());
      begin = end;
    }
    const LogitsSummary got = MergeSummaries(parts, 4, 1, 50, 0, request);
    EXPECT_EQ(got.drawn.token, want.drawn.token);
    EXPECT_EQ(got.drawn_value, want.drawn_value);
    ASSERT_EQ(got.likeliest.size(), want.likeliest.size());
    for (int rank = 0; rank < 50; ++rank) {
      EXPECT_EQ(got.likeliest[rank].token, want.likeliest[rank].token);
    }
  }
}

TEST_P(LikeliestTest, ARowDependsOnItselfAlone) {
  const Shape shape = {5, 17000, 3, 1};
  std::vector<float> logits = RandomLogits(shape, 0);
  const std::vector<LikeliestRequest> requests = RandomRequests(shape.rows, 30);
  const std::vector<float> together = Summarize(logits, shape, requests, 30, 3);
  for (int row = 0; row < shape.rows; ++row) {
    std::vector<float> alone = Row(logits, shape, row);
    const std::vector<float> summary =
        Summarize(alone, {1, shape.tokens, 0, shape.first_token}, {requests[row]}, 30, 1);
    EXPECT_EQ(std::memcmp(SummariesOf(summary.data()), SummariesOf(together.data()) + row,
                          sizeof(LikeliestSummary)),
              0);
  }
}

TEST_P(LikeliestTest, WithoutNumbersNothingIsNamed) {
  std::vector<float> nan(10, std::nanf(""));
  const LikeliestRequest request = {.likeliest = 3, .draw = true};
  std::vector<float> out = Summarize(nan, {1, 10, 0, 0}, {request}, 3, 1);
  const LikeliestSummary& summary = *SummariesOf(out.data());
  EXPECT_EQ(summary.max, -kInfinity);
  EXPECT_EQ(summary.sum, 0);
  EXPECT_EQ(summary.likeliest, 0);
  EXPECT_EQ(summary.drawn_token, -1);

  std::vector<float> infinite = {1, kInfinity, 2};
  out = Summarize(infinite, {1, 3, 0, 0}, {request}, 3, 1);
  EXPECT_EQ(SummariesOf(out.data())->max, kInfinity);
}

TEST_P(LikeliestTest, Targets) {
  const Shape shape = {1, 20001, 3, 5};
  std::vector<float> logits = RandomLogits(shape, 0);
  logits[8192] = std::nanf("");
  for (const int32_t target : {-1, 0, 4, 5, 6, 8191, 8197, 12000, 20005, 20006, 30000}) {
    const LikeliestRequest request = {.target = target};
    const std::vector<float> summaries = Summarize(logits, shape, {request}, 1, 1);
    EXPECT_EQ(CompareSummary(MergeSummaries(summaries, 1, 1, 1, 0, request), Row(logits, shape, 0),
                             5, request),
              "")
        << target;
  }
}

// What a request of the load before asked for is forgotten, and a rank may have no tokens at all.
TEST(LikeliestBackendTest, RowsWithoutRequestsOrTokens) {
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const std::unique_ptr<DeviceRequests> requests = backend->AllocateRequests(2, 4).value();
  const Tensor logits = MakeTensor(*backend, 2, 4, {1, 2, 3, 4, 8, 7, 6, 5});
  const LikeliestRequest both[] = {{.likeliest = 3}, {.likeliest = 2, .draw = true}};
  backend->LoadRequests(both, *requests);
  backend->LoadRequests({both, 1}, *requests);
  for (const int tokens : {4, 0}) {
    const Tensor out = PoisonedTensor(*backend, SummaryLines(3), 4);
    backend->SummarizeLogits(logits, 10, tokens, *requests, out);
    const std::vector<float> values = ToVector(*backend, out);
    const LikeliestSummary* summaries = SummariesOf(values.data());
    EXPECT_EQ(summaries[0].likeliest, tokens == 0 ? 0 : 3);
    EXPECT_EQ(summaries[1].likeliest, tokens == 0 ? 0 : 1);
    EXPECT_EQ(summaries[1].max, tokens == 0 ? -kInfinity : 8.0f);
    EXPECT_EQ(summaries[1].drawn_token, -1);
    if (tokens > 0) {
      EXPECT_EQ(LikeliestOf(values.data(), 2)[0].token, 13);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, LikeliestTest,
                         testing::Values(HWY_SCALAR, HWY_SSE4, HWY_AVX2, HWY_AVX3),
                         [](const testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

}  // namespace
}  // namespace weir
