// Engines of several ranks: they compute what one does, and end together.

#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/small_engine.h"

namespace weir {
namespace {

TEST(GroupTest, IdleStepsGoOn) {
  TestGroup group(SmallOptions(2));
  const int64_t before = group.engine(1).steps();
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  while (group.engine(1).steps() < before + 3 && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(group.engine(1).steps(), before + 3);
  EXPECT_TRUE(group.leader().health().ok());
  EXPECT_TRUE(group.engine(1).health().ok());
}

struct TensorParallelCase {
  int ranks;
  WeightType type;
};

class TensorParallelTest : public testing::TestWithParam<TensorParallelCase> {};

TEST_P(TensorParallelTest, EqualsOneRank) {
  RankOptions options = SmallOptions(1);
  options.model_path = SmallModelPath(GetParam().type);
  TestGroup one(options);
  options.tensor_parallel = GetParam().ranks;
  TestGroup many(options);
  RunResult results[2];
  std::vector<HeadMemory> memories[2];
  Engine* engines[] = {&one.leader(), &many.leader()};
  for (int i = 0; i < 2; ++i) {
    Engine& engine = *engines[i];
    OpenSmall(engine, "s");
    results[i] = Score(engine, "s", SmallText(150, 1));
    ASSERT_TRUE(results[i].status.ok()) << results[i].status;
    const RunResult generated = Generate(engine, "s", ExactlyTokens(60, 0.7, 5), SmallText(9, 2));
    results[i].tokens = generated.tokens;
    results[i].logprobs = generated.logprobs;
    memories[i] = *engine.Inspect("s", 1);
  }
  EXPECT_EQ(results[0].tokens, results[1].tokens);
  for (size_t i = 0; i < 60; ++i) {
    EXPECT_NEAR(results[0].logprobs[i], results[1].logprobs[i], 1e-3);
  }
  for (size_t i = 1; i < 150; ++i) {
    EXPECT_NEAR(results[0].scores[i].logprob, results[1].scores[i].logprob, 1e-3);
  }
  ASSERT_EQ(memories[1].size(), 6u);
  for (int head = 0; head < 6; ++head) {
    EXPECT_EQ(memories[1][head].kv_head, head);
    EXPECT_EQ(memories[0][head].tokens, memories[1][head].tokens);
  }
  for (int rank = 0; rank < GetParam().ranks; ++rank) EXPECT_TRUE(many.engine(rank).health().ok());
}

INSTANTIATE_TEST_SUITE_P(Ranks, TensorParallelTest,
                         testing::Values(TensorParallelCase{2, WeightType::kF32},
                                         TensorParallelCase{3, WeightType::kF32},
                                         TensorParallelCase{2, WeightType::kQ8_0},
                                         TensorParallelCase{3, WeightType::kQ4_1},
                                         TensorParallelCase{6, WeightType::kQ4_0}));

TEST(GroupTest, FollowersTakeNoCalls) {
  TestGroup group(SmallOptions(2));
  Engine& follower = group.engine(1);
  EXPECT_EQ(follower.OpenSession("s", kSmallCascade).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.CloseSession("s").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.Describe("s").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.Inspect("s", 0).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.StartRun("s", {}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GroupTest, ALostFollowerEndsEveryRunAndTheGroupFormsAgain) {
  TestGroup group(SmallOptions(3));
  OpenSmall(group.leader(), "generates");
  OpenSmall(group.leader(), "waits");
  std::unique_ptr<weir::Run> generates = *group.leader().StartRun(
      "generates", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(0)});
  std::unique_ptr<weir::Run> waits = *group.leader().StartRun("waits", {.kind = RunKind::kAppend});
  ASSERT_TRUE(generates->Feed(SmallText(10, 1)).ok());
  ASSERT_TRUE(generates->CloseInput().ok());
  while (generates->Next()->kind != RunEvent::Kind::kToken) {
  }
  group.engine(1).Abort("the plug was pulled");
  EXPECT_EQ(Collect(*generates).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Collect(*waits).status.code(), absl::StatusCode::kUnavailable);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(group.engine(rank).Wait().code(), absl::StatusCode::kUnavailable) << rank;
  }
  EXPECT_EQ(group.engine(1).health().message(), "the plug was pulled");
  EXPECT_EQ(group.leader().OpenSession("s", kSmallCascade).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(group.leader().Inspect("waits", 0).status().code(), absl::StatusCode::kUnavailable);

  group.FormAgain();
  EXPECT_EQ(group.leader().Describe("waits").status().code(), absl::StatusCode::kNotFound);
  OpenSmall(group.leader(), "s");
  EXPECT_EQ(Generate(group.leader(), "s", ExactlyTokens(5), SmallText(10, 1)).tokens.size(), 5u);
}

TEST(GroupTest, StoppingTheLeaderCancelsRunsAndEndsFollowers) {
  TestGroup group(SmallOptions(2));
  OpenSmall(group.leader(), "s");
  std::unique_ptr<weir::Run> run = *group.leader().StartRun("s", {.kind = RunKind::kAppend});
  group.StopEngine(0);
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->Feed(SmallText(1, 1)).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(group.engine(1).Wait().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace weir
