// Sums over ranks that have the residual and the norm with them give what sums and norms apart
// give, decode step after decode step: on the CPU, where this test fuses them, and on as many GPUs
// as there are.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/worker/comm/counting_communicator.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "tests/worker/engine/executor_group.h"

namespace weir {
namespace {

constexpr int kLayers = kSharedModelLayers;
constexpr int kSessions = 3;
constexpr int kSteps = 40;
constexpr CascadeConfig kCascade = {.sinks = 2, .slots = 12, .sub_caches = 3, .stride = 8};

// Sums alone.
class ApartCommunicator : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  bool FusesNorm(int64_t, int64_t) const override { return false; }
};

// Fuses, with the means of a communicator that does not. What LlamaForward is not to do itself,
// it sees undone.
class FusingCommunicator : public ForwardingCommunicator {
 public:
  FusingCommunicator(std::unique_ptr<Communicator> base, Backend& backend)
      : ForwardingCommunicator(std::move(base)), backend_(backend) {}

  bool FusesNorm(int64_t rows, int64_t) const override { return rows <= kSessions; }
  absl::Status AllReduceAddRmsNorm(Tensor residual, Tensor delta, Tensor weight, float epsilon,
                                   Tensor normed) override {
    if (sum_.elements() == 0) {
      sum_ = *backend_.AllocateTensor(delta.type, kSessions, delta.cols);
    }
    const Tensor sum = sum_.Rows(0, delta.rows);
    backend_.CopyRows(delta, sum);
    if (absl::Status status = AllReduceSum(sum); !status.ok()) return status;
    backend_.AddRmsNorm(residual, sum, weight, epsilon, normed);
    return absl::OkStatus();
  }

 private:
  Backend& backend_;
  Tensor sum_ = {};
};

using FusedNormTest = GroupTest;

INSTANTIATE_TEST_SUITE_P(Groups, FusedNormTest,
                         testing::Values(GroupCase{"cpu", 2}, GroupCase{"cpu", 3},
                                         GroupCase{"cuda", 2}, GroupCase{"cuda", 3}),
                         GroupCaseName);

// What one, two and three sessions say to what they are given, in turn.
std::vector<float> Decode(const ExecutorGroupOptions& options) {
  std::vector<float> outcome;
  RunExecutorGroup(options, [&](ExecutorRank& rank) {
    for (int step = 0; step <= kSteps; ++step) {
      StepPlan plan;
      for (int slot = 0; step == 0 && slot < kSessions; ++slot) {
        plan.resets.push_back({.cache_slot = slot, .cascade = kCascade});
      }
      for (int slot = 0; step > 0 && slot <= step % kSessions; ++slot) {
        plan.decodes.push_back({.cache_slot = slot,
                                .token = (7 * step + slot) % kLeastVocabulary,
                                .next = LikeliestRequest{.likeliest = 3}});
      }
      const absl::StatusOr<StepResult> result = rank.ExecuteLeaders(plan);
      ASSERT_TRUE(result.ok()) << result.status();
      if (rank.number() != 0) continue;
      for (const auto& summary : result->decodes) {
        ASSERT_TRUE(summary.has_value());
        outcome.push_back(static_cast<float>(summary->sum));
        for (const TokenLogit& likely : summary->likeliest) {
          outcome.push_back(static_cast<float>(likely.token));
          outcome.push_back(likely.logit);
        }
      }
    }
  });
  return outcome;
}

TEST_P(FusedNormTest, SessionsSayTheSame) {
  const auto& [device, ranks] = GetParam();
  const bool on_gpus = device == "cuda";
  ExecutorGroupOptions options = {.model_path = WriteSharedModel("fused_norm_test"),
                                  .device = device,
                                  .ranks = ranks,
                                  .sessions = kSessions,
                                  .cascade = kCascade};
  options.wrap = [](std::unique_ptr<Communicator> base, Backend&) {
    return std::make_unique<ApartCommunicator>(std::move(base));
  };
  const std::vector<float> expected = Decode(options);
  std::vector<FusedSums> sums(ranks);
  options.wrap = [&](std::unique_ptr<Communicator> base, Backend& backend) {
    if (!on_gpus) base = std::make_unique<FusingCommunicator>(std::move(base), backend);
    FusedSums* const counts = &sums[base->rank()];
    return std::make_unique<CountingCommunicator>(std::move(base), counts);
  };
  const std::vector<float> actual = Decode(options);

  if (on_gpus && sums[0].of_few_rows == 0) GTEST_SKIP() << "needs GPUs that reach one another";
  // Two sums a layer; a device records a step for each number of rows.
  for (const FusedSums& counts : sums) {
    if (on_gpus) {
      EXPECT_GE(counts.of_few_rows, 2 * kLayers);
    } else {
      EXPECT_EQ(counts.of_few_rows, kSteps * 2 * kLayers);
    }
  }
  ASSERT_EQ(expected.size(), 7u * 80);
  EXPECT_EQ(actual, expected);
}

}  // namespace
}  // namespace weir
