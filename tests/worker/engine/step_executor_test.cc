#include "worker/engine/step_executor.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/comm/single_communicator.h"

namespace weir {
namespace {

constexpr CascadeConfig kCascade = {.sinks = 1, .slots = 6, .sub_caches = 2, .stride = 4};

class StepExecutorTest : public testing::Test {
 protected:
  StepExecutorTest() {
    const NaiveLlamaConfig config = {.layers = 1,
                                     .hidden = 16,
                                     .heads = 2,
                                     .kv_heads = 2,
                                     .head_dim = 8,
                                     .ffn = 16,
                                     .vocabulary = kLeastVocabulary};
    const std::string path = WriteModel(MakeRandomModel(config, 1), "step_executor_test");
    backend_ = *CreateCpuBackend({.threads = 1});
    model_ = *LlamaModel::Load(**GgufFile::Open(path), 0, 1, backend_.get());
    executor_ = *StepExecutor::Create(model_.get(), 2, kCascade);
    executor_->JoinGroup(communicator_.get());
  }

  // Begins a session in slot 0.
  void Begin() {
    StepPlan plan;
    plan.resets.push_back({.cache_slot = 0, .cascade = kCascade});
    ASSERT_TRUE(executor_->Validate(plan).ok());
    ASSERT_TRUE(executor_->Execute(plan).ok());
  }

  StepResult Execute(PlannedSequence sequence) {
    StepPlan plan;
    plan.sequences.push_back(std::move(sequence));
    EXPECT_TRUE(executor_->Validate(plan).ok());
    return *executor_->Execute(plan);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> communicator_ = MakeSingleCommunicator();
  std::unique_ptr<LlamaModel> model_;
  std::unique_ptr<StepExecutor> executor_;
};

// The session keeps what its next token follows from, so logits may come with the last row or
// later.
TEST_F(StepExecutorTest, LogitsNowOrLaterAreTheSame) {
  Begin();
  const StepResult now = Execute({.cache_slot = 0, .tokens = {5, 6, 7}, .logits = true});
  ASSERT_EQ(now.sequences[0].logits.size(), static_cast<size_t>(kLeastVocabulary));
  const StepResult later = Execute({.cache_slot = 0, .logits = true});
  EXPECT_EQ(later.sequences[0].logits, now.sequences[0].logits);

  // And the score of the next token follows from them too.
  double sum = 0;
  for (float logit : now.sequences[0].logits) sum += std::exp(double{logit});
  const StepResult scored = Execute({.cache_slot = 0, .tokens = {9}, .score = true});
  ASSERT_EQ(scored.sequences[0].scores.size(), 1u);
  EXPECT_NEAR(scored.sequences[0].scores[0], now.sequences[0].logits[9] - std::log(sum), 1e-5);
}

TEST_F(StepExecutorTest, AResetForgetsEverything) {
  Begin();
  const StepResult first = Execute({.cache_slot = 0, .tokens = {5, 6, 7}, .logits = true});
  Execute({.cache_slot = 0, .tokens = {1, 2, 3, 4}});
  Begin();
  EXPECT_EQ(executor_->cache(0).tokens(), 0);
  const StepResult again = Execute({.cache_slot = 0, .tokens = {5, 6, 7}, .logits = true});
  EXPECT_EQ(again.sequences[0].logits, first.sequences[0].logits);
}

TEST_F(StepExecutorTest, PlansThatMakeNoSenseAreRefused) {
  Begin();
  const auto refused = [&](const StepPlan& plan) {
    const absl::Status status = executor_->Validate(plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    return std::string(status.message());
  };
  const auto sequence = [&](PlannedSequence sequence) {
    StepPlan plan;
    plan.sequences.push_back(std::move(sequence));
    return refused(plan);
  };
  using testing::HasSubstr;
  EXPECT_THAT(sequence({.cache_slot = 1, .tokens = {1}}), HasSubstr("slot 1, which is not used"));
  EXPECT_THAT(sequence({.cache_slot = 2, .tokens = {1}}), HasSubstr("slot 2"));
  EXPECT_THAT(sequence({.cache_slot = -1, .tokens = {1}}), HasSubstr("slot -1"));
  EXPECT_THAT(sequence({.cache_slot = 0}), HasSubstr("nothing to do for slot 0"));
  EXPECT_THAT(sequence({.cache_slot = 0, .logits = true}), HasSubstr("nothing to do for slot 0"));
  EXPECT_THAT(sequence({.cache_slot = 0, .tokens = {1, 2, 3, 4, 5}}), HasSubstr("stride is 4"));
  EXPECT_THAT(sequence({.cache_slot = 0, .tokens = {kLeastVocabulary}}), HasSubstr("token 267"));
  EXPECT_THAT(sequence({.cache_slot = 0, .tokens = {-1}}), HasSubstr("token -1"));

  StepPlan twice;
  twice.sequences = {{.cache_slot = 0, .tokens = {1}}, {.cache_slot = 0, .tokens = {1}}};
  EXPECT_THAT(refused(twice), HasSubstr("slot 0 twice"));
  StepPlan rows;  // 4 + 4 rows; a chunk and a token of the other session fit
  rows.resets.push_back({.cache_slot = 1, .cascade = kCascade});
  rows.sequences = {{.cache_slot = 0, .tokens = {1, 1, 1, 1}},
                    {.cache_slot = 1, .tokens = {1, 1, 1, 1}}};
  EXPECT_THAT(refused(rows), HasSubstr("8 rows; at most 6 fit"));
  StepPlan reset;
  reset.resets.push_back({.cache_slot = 2, .cascade = kCascade});
  EXPECT_THAT(refused(reset), HasSubstr("slot 2 of 2"));
  reset.resets = {
      {.cache_slot = 1, .cascade = {.sinks = 2, .slots = 6, .sub_caches = 1, .stride = 4}}};
  EXPECT_THAT(refused(reset), HasSubstr("sinks + slots"));
  StepPlan inspection;
  inspection.inspection = Inspection{.cache_slot = 0, .layer = 1};
  EXPECT_THAT(refused(inspection), HasSubstr("slot 0, layer 1"));
  inspection.inspection = Inspection{.cache_slot = 1, .layer = 0};
  EXPECT_THAT(refused(inspection), HasSubstr("slot 1, layer 0"));
}

}  // namespace
}  // namespace weir
