// What becomes of a chunk whose run, session or group ends in the middle of it, or is asked about.

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/step_gate.h"
#include "tests/worker/engine/stepped_leader.h"
#include "worker/engine/step_plan.h"

namespace weir {
namespace {

// Cancelled in the middle of its chunk, a run leaves a session that has read the chunk.
TEST(UnfinishedChunkTest, TheChunkOfACancelledRunIsReadToItsEnd) {
  for (RunKind kind : {RunKind::kAppend, RunKind::kScore, RunKind::kGenerate}) {
    for (int layers = 1; layers <= kLayers; ++layers) {
      SCOPED_TRACE(testing::Message()
                   << "kind " << static_cast<int>(kind) << ", " << layers << " layers");
      SteppedLeader leader;
      Engine& engine = leader.engine();
      Open(engine, "broken");
      Open(engine, "whole");
      std::unique_ptr<weir::Run> run = Start(engine, "broken", kind, Text(kStride, 2));
      leader.Step(layers);
      run.reset();
      leader.Step();
      EXPECT_FALSE(engine.Describe("broken")->running);
      std::unique_ptr<weir::Run> next =
          Start(engine, "broken", RunKind::kScore, Text(kStride + 1, 3));
      leader.Step(2);
      leader.Go();
      const RunResult broken = Collect(*next);
      ASSERT_TRUE(broken.status.ok()) << broken.status;
      EXPECT_EQ(broken.tokens_read, kStride + 1);

      // A generation whose chunk was over had chosen a token.
      const bool generated = kind == RunKind::kGenerate && layers == kLayers;
      const RunResult first = generated
                                  ? Generate(engine, "whole", ExactlyTokens(1), Text(kStride, 2))
                                  : Append(engine, "whole", Text(kStride, 2));
      ASSERT_TRUE(first.status.ok()) << first.status;
      const RunResult whole = Score(engine, "whole", Text(kStride + 1, 3));
      ASSERT_EQ(broken.scores.size(), whole.scores.size());
      for (size_t i = 0; i < whole.scores.size(); ++i) {
        EXPECT_EQ(broken.scores[i].logprob, whole.scores[i].logprob) << i;
      }
      ExpectSameSession(engine, "broken", "whole");
    }
  }
}

// Closed in the middle of its chunk, a session leaves nothing to whoever gets its slot.
TEST(UnfinishedChunkTest, AClosedSessionsChunkIsAbandoned) {
  for (bool at_once : {true, false}) {
    for (int layers = 1; layers <= kLayers; ++layers) {
      SCOPED_TRACE(testing::Message() << layers << " layers, " << (at_once ? "at once" : "later"));
      SteppedLeader leader;
      Engine& engine = leader.engine();
      Open(engine, "gone");
      std::unique_ptr<weir::Run> run = Start(engine, "gone", RunKind::kAppend, Text(kStride, 2));
      leader.Step(layers);
      leader.Plans();
      ASSERT_TRUE(engine.CloseSession("gone").ok());
      EXPECT_EQ(Collect(*run).status.code(), absl::StatusCode::kCancelled);
      if (!at_once) leader.Step(2);
      Open(engine, "short");  // in the same slot
      ASSERT_TRUE(engine.CloseSession("short").ok());
      Open(engine, "reuses");
      std::unique_ptr<weir::Run> next = Start(engine, "reuses", RunKind::kScore, Text(19, 3));
      leader.Step(2);
      const std::vector<StepPlan> plans = leader.Plans();
      const StepPlan& begins = plans[plans.size() - 2];
      EXPECT_EQ(begins.chunk->cache_slot, 1);
      EXPECT_EQ(begins.chunk_layers, 1);
      for (size_t i = 0; i + 2 < plans.size(); ++i) EXPECT_EQ(plans[i].chunk_layers, 0);

      leader.Go();
      const RunResult reuses = Collect(*next);
      ASSERT_TRUE(reuses.status.ok()) << reuses.status;
      Open(engine, "fresh");
      const RunResult fresh = Score(engine, "fresh", Text(19, 3));
      for (size_t i = 1; i < 19; ++i) {
        EXPECT_EQ(reuses.scores[i].logprob, fresh.scores[i].logprob) << i;
      }
      ExpectSameSession(engine, "reuses", "fresh");
    }
  }
}

TEST(UnfinishedChunkTest, AnInspectionWaitsForTheChunk) {
  SteppedLeader leader;
  Engine& engine = leader.engine();
  Open(engine, "reads");
  std::unique_ptr<weir::Run> reads = Start(engine, "reads", RunKind::kAppend, Text(kStride, 2));
  leader.Step(2);
  std::vector<HeadMemory> memory;
  std::thread inspect([&] { memory = *engine.Inspect("reads", 0); });
  absl::SleepFor(absl::Milliseconds(20));
  leader.Step();
  EXPECT_EQ(TokensSeen(engine, "reads"), 0);
  leader.Step(kLayers - 3);
  EXPECT_EQ(TokensSeen(engine, "reads"), kStride);
  leader.Go();
  inspect.join();
  ASSERT_EQ(memory.size(), 3u);
  for (const HeadMemory& head : memory) EXPECT_EQ(head.tokens.size(), size_t{kStride});
}

TEST(UnfinishedChunkTest, AGroupStopsInTheMiddleOfAChunkAndFormsAgain) {
  for (bool lost : {false, true}) {
    StepGate gate;
    TestGroup group(Options(&gate, 3));
    Open(group.leader(), "talks");
    Open(group.leader(), "reads");
    std::unique_ptr<weir::Run> talks =
        Start(group.leader(), "talks", RunKind::kGenerate, Text(3, 1));
    gate.AwaitStep();
    std::unique_ptr<weir::Run> reads =
        Start(group.leader(), "reads", RunKind::kAppend, Text(3 * kStride, 2));
    gate.Step(2);
    EXPECT_EQ(TokensSeen(group.leader(), "reads"), 0);
    if (lost) {
      group.engine(1).Abort("the plug was pulled");
      gate.Open();
      EXPECT_EQ(group.leader().Wait().code(), absl::StatusCode::kUnavailable);
    } else {
      std::thread open([&] {
        absl::SleepFor(absl::Milliseconds(50));  // the leader knows by then
        gate.Open();
      });
      group.StopEngine(0);
      open.join();
    }
    const absl::StatusCode expected =
        lost ? absl::StatusCode::kUnavailable : absl::StatusCode::kCancelled;
    EXPECT_EQ(Collect(*talks).status.code(), expected);
    EXPECT_EQ(Collect(*reads).status.code(), expected);
    for (int rank : {1, 2}) {
      EXPECT_EQ(group.engine(rank).Wait().code(), absl::StatusCode::kUnavailable) << rank;
    }

    group.FormAgain();
    for (const char* id : {"a", "b"}) {
      Open(group.leader(), id);
      ASSERT_TRUE(Append(group.leader(), id, Text(3 * kStride, 2)).status.ok());
    }
    ExpectSameSession(group.leader(), "a", "b");
  }
}

}  // namespace
}  // namespace weir
