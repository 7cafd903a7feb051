// How chunks and decodes share steps.

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/stepped_leader.h"
#include "worker/engine/step_plan.h"

namespace weir {
namespace {

TEST(ChunkCuttingTest, AChunkIsCutOnlyBesideDecodes) {
  SteppedLeader leader;
  Engine& engine = leader.engine();
  Open(engine, "reads");
  std::unique_ptr<weir::Run> reads = Start(engine, "reads", RunKind::kAppend, Text(3 * kStride, 2));
  for (int layer = 1; layer < kLayers; ++layer) {
    leader.Step();
    EXPECT_EQ(TokensSeen(engine, "talks"), 4 + layer);
    EXPECT_EQ(TokensSeen(engine, "reads"), 0);
    EXPECT_EQ(engine.stats().prompt_tokens, 3);
  }
  leader.Step();
  EXPECT_EQ(TokensSeen(engine, "reads"), kStride);
  EXPECT_EQ(engine.stats().prompt_tokens, 3 + kStride);
  EXPECT_EQ(reads->Next()->tokens_read, kStride);
  leader.Step(2);
  const std::vector<StepPlan> plans = leader.Plans();
  ASSERT_EQ(plans.size(), size_t{kLayers + 2});
  for (size_t i = 0; i < plans.size(); ++i) {
    EXPECT_EQ(plans[i].decodes.size(), 1u) << i;
    EXPECT_EQ(plans[i].chunk_layers, 1) << i;
    EXPECT_EQ(plans[i].chunk.has_value(), i % kLayers == 0) << i;
    EXPECT_TRUE(plans[i].synchronize) << i;
  }

  // The rest of the second chunk, and all of the third, when nobody decodes any more.
  leader.EndTalk();
  leader.Step(2);
  const std::vector<StepPlan> rest = leader.Plans();
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_TRUE(rest[0].decodes.empty());
  EXPECT_EQ(rest[0].chunk_layers, kLayers - 2);
  EXPECT_EQ(rest[1].chunk_layers, kLayers);
  leader.Go();
  const RunResult result = Collect(*reads);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.tokens_read, 3 * kStride);

  Open(engine, "whole");
  ASSERT_TRUE(Append(engine, "whole", Text(3 * kStride, 2)).status.ok());
  ExpectSameSession(engine, "reads", "whole");
}

TEST(ChunkCuttingTest, RunsThatReadTakeTurnsByWholeChunks) {
  SteppedLeader leader;
  Engine& engine = leader.engine();
  Open(engine, "one");
  Open(engine, "two");
  std::unique_ptr<weir::Run> one = Start(engine, "one", RunKind::kAppend, Text(2 * kStride, 2));
  std::unique_ptr<weir::Run> two = Start(engine, "two", RunKind::kAppend, Text(2 * kStride, 3));
  leader.Step(4 * kLayers);
  std::vector<int> slots;
  for (const StepPlan& plan : leader.Plans()) {
    if (plan.chunk.has_value()) slots.push_back(plan.chunk->cache_slot);
  }
  EXPECT_EQ(slots, (std::vector<int>{1, 2, 1, 2}));
}

TEST(ChunkCuttingTest, LanesThatReadComeFirst) {
  SteppedLeader leader;
  Engine& engine = leader.engine();
  for (const char* id : {"before", "then"}) {  // in the order of ids, "talks" is between them
    Open(engine, id);
    std::unique_ptr<weir::Run> reads = Start(engine, id, RunKind::kAppend, Text(kStride, 2));
    leader.Step(kLayers + 1);
  }
  leader.Plans();
  std::unique_ptr<weir::Run> runs[] = {Start(engine, "before", RunKind::kGenerate, {}),
                                       Start(engine, "then", RunKind::kGenerate, {})};
  leader.Step(2);
  const std::vector<StepPlan> plans = leader.Plans();
  ASSERT_EQ(plans.size(), 2u);
  ASSERT_EQ(plans[0].decodes.size(), 3u);
  EXPECT_EQ(plans[0].decodes[0].cache_slot, 0);
  EXPECT_TRUE(plans[0].decodes[0].token.has_value());
  for (int lane : {1, 2}) {
    EXPECT_EQ(plans[0].decodes[lane].cache_slot, lane);
    EXPECT_FALSE(plans[0].decodes[lane].token.has_value());
    EXPECT_TRUE(plans[0].decodes[lane].next.has_value());
  }
  // Each its own token.
  EXPECT_EQ(runs[0]->Next()->token, runs[1]->Next()->token);
  for (const PlannedDecode& decode : plans[1].decodes) EXPECT_TRUE(decode.token.has_value());
}

// Chunks alone are enqueued in pairs; the last one of a text is waited for.
TEST(ChunkCuttingTest, DevicesDoNotIdleBetweenWholeChunks) {
  SteppedLeader leader;
  Engine& engine = leader.engine();
  Open(engine, "reads");
  leader.EndTalk();
  std::unique_ptr<weir::Run> reads =
      Start(engine, "reads", RunKind::kAppend, Text(5 * kStride + 1, 2));
  leader.Step(6);
  std::vector<bool> synchronize;
  for (const StepPlan& plan : leader.Plans()) {
    EXPECT_EQ(plan.chunk_layers, kLayers);
    synchronize.push_back(plan.synchronize);
  }
  EXPECT_EQ(synchronize, (std::vector<bool>{false, true, false, true, false, true}));

  // What is to be read is waited for.
  std::unique_ptr<weir::Run> scores = Start(engine, "talks", RunKind::kScore, Text(2 * kStride, 2));
  leader.Step(3);  // the token generated last, and two chunks
  for (const StepPlan& plan : leader.Plans()) EXPECT_TRUE(plan.synchronize);
}

// As in one process, so on three ranks: whoever reads or generates beside a session, it does the
// same.
TEST(ChunkCuttingTest, ThreeRanksCutTheSameAndNobodyNotices) {
  TestGroup group(Options(nullptr, 3));
  Engine& engine = group.leader();
  const auto talk = [&](const std::string& id, uint64_t seed) {
    Open(engine, id);
    RunResult all = Score(engine, id, Text(45, seed));
    for (int turn = 0; turn < 3; ++turn) {
      const RunResult result =
          Generate(engine, id, ExactlyTokens(20, 0.9, seed), Text(19, seed + turn));
      EXPECT_TRUE(result.status.ok()) << result.status;
      all.tokens.insert(all.tokens.end(), result.tokens.begin(), result.tokens.end());
      all.logprobs.insert(all.logprobs.end(), result.logprobs.begin(), result.logprobs.end());
    }
    return all;
  };
  const RunResult alone = talk("alone", 5);
  RunResult beside;
  std::vector<std::thread> threads;
  threads.emplace_back([&] { beside = talk("beside", 5); });
  threads.emplace_back([&] { talk("other", 6); });
  threads.emplace_back([&] { talk("another", 7); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(beside.tokens, alone.tokens);
  EXPECT_EQ(beside.logprobs, alone.logprobs);
  ASSERT_EQ(beside.scores.size(), 45u);
  for (size_t i = 1; i < 45; ++i) EXPECT_EQ(beside.scores[i].logprob, alone.scores[i].logprob);
  ExpectSameSession(engine, "beside", "alone");
}

}  // namespace
}  // namespace weir
