// Sessions and runs on one rank.

#include "worker/engine/engine.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/small_engine.h"
#include "tests/worker/engine/step_gate.h"

namespace weir {
namespace {

void ExpectSameMemory(Engine& engine, const std::string& a, const std::string& b) {
  for (int layer = 0; layer < 2; ++layer) {
    const std::vector<HeadMemory> x = *engine.Inspect(a, layer);
    const std::vector<HeadMemory> y = *engine.Inspect(b, layer);
    ASSERT_EQ(x.size(), 6u);
    ASSERT_EQ(y.size(), 6u);
    for (int head = 0; head < 6; ++head) {
      EXPECT_EQ(x[head].tokens, y[head].tokens);
      EXPECT_EQ(x[head].scores, y[head].scores);
      EXPECT_EQ(x[head].sub_caches, y[head].sub_caches);
    }
  }
}

TEST(EngineTest, AnAppendThatBreaksOffGoesOnAsIfItHadNot) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "whole");
  OpenSmall(engine, "broken");
  const std::vector<int32_t> text = SmallText(101, 2);
  ASSERT_TRUE(Append(engine, "whole", text).status.ok());

  // Pieces of every size, each two of them in a run that is destroyed.
  const absl::Span<const int32_t> rest(text);
  size_t fed = 0;
  for (size_t piece = 1; fed < text.size(); ++piece) {
    std::unique_ptr<weir::Run> run = *engine.StartRun("broken", {.kind = RunKind::kAppend});
    for (int i = 0; i < 2 && fed < text.size(); ++i) {
      const absl::Span<const int32_t> part = rest.subspan(fed, piece);
      ASSERT_TRUE(run->Feed(part).ok());
      fed += part.size();
    }
    if (piece % 3 == 0) {  // now and then let it read
      ASSERT_TRUE(run->Next().ok());
    }
  }
  const RunResult last = Append(engine, "broken", {});
  ASSERT_TRUE(last.status.ok()) << last.status;
  EXPECT_EQ(last.reason, FinishReason::kInputRead);
  EXPECT_EQ(engine.Describe("broken")->tokens_seen, 101);
  ExpectSameMemory(engine, "whole", "broken");
  EXPECT_EQ(Generate(engine, "whole", ExactlyTokens(9)).logprobs,
            Generate(engine, "broken", ExactlyTokens(9)).logprobs);
}

TEST(EngineTest, AnAppendCancelledAfterItsEndIsFinishedByTheNext) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "whole");
  OpenSmall(engine, "broken");
  ASSERT_TRUE(Append(engine, "whole", SmallText(13, 2)).status.ok());
  ASSERT_TRUE(Append(engine, "whole", SmallText(11, 3)).status.ok());
  {
    std::unique_ptr<weir::Run> run = *engine.StartRun("broken", {.kind = RunKind::kAppend});
    ASSERT_TRUE(run->Feed(SmallText(13, 2)).ok());
    ASSERT_TRUE(run->CloseInput().ok());
  }
  ASSERT_TRUE(Append(engine, "broken", SmallText(11, 3)).status.ok());
  ExpectSameMemory(engine, "whole", "broken");
}

TEST(EngineTest, ARunOfAnotherKindEndsAnOpenText) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "whole");
  OpenSmall(engine, "broken");
  ASSERT_TRUE(Append(engine, "whole", SmallText(13, 2)).status.ok());
  {
    std::unique_ptr<weir::Run> run = *engine.StartRun("broken", {.kind = RunKind::kAppend});
    ASSERT_TRUE(run->Feed(SmallText(13, 2)).ok());
  }
  const RunResult expected = Score(engine, "whole", SmallText(21, 3));
  const RunResult scored = Score(engine, "broken", SmallText(21, 3));
  ASSERT_TRUE(scored.status.ok()) << scored.status;
  EXPECT_EQ(scored.tokens_read, 21);
  ASSERT_EQ(scored.scores.size(), 21u);
  for (size_t i = 0; i < scored.scores.size(); ++i) {
    EXPECT_EQ(scored.scores[i].logprob, expected.scores[i].logprob) << i;
  }
  ExpectSameMemory(engine, "whole", "broken");
}

TEST(EngineTest, ARunAloneEqualsTheSameRunBesideOthers) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  const auto talk = [&](const std::string& id, uint64_t seed) {
    OpenSmall(engine, id);
    RunResult all = Score(engine, id, SmallText(45, seed));
    for (int turn = 0; turn < 3; ++turn) {
      const RunResult result =
          Generate(engine, id, ExactlyTokens(20, 0.9, seed), SmallText(19, seed + turn));
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
  ASSERT_EQ(alone.tokens.size(), 60u);
  EXPECT_EQ(beside.tokens, alone.tokens);
  EXPECT_EQ(beside.logprobs, alone.logprobs);
  ASSERT_EQ(beside.scores.size(), 45u);
  for (size_t i = 1; i < 45; ++i) EXPECT_EQ(beside.scores[i].logprob, alone.scores[i].logprob);
  ExpectSameMemory(engine, "alone", "beside");
}

TEST(EngineTest, AGenerationThatStopsGoesOnAsIfItHadNot) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "whole");
  OpenSmall(engine, "stopped");
  const std::vector<int32_t> text = SmallText(30, 8);
  const RunResult whole = Generate(engine, "whole", ExactlyTokens(40, 1, 3), text);
  EXPECT_EQ(whole.reason, FinishReason::kMaxTokens);
  EXPECT_EQ(whole.tokens_generated, 40);
  EXPECT_EQ(engine.Describe("whole")->tokens_seen, 70);

  RunResult stopped = Generate(engine, "stopped", ExactlyTokens(17, 1, 3), text);
  const RunResult rest = Generate(engine, "stopped", ExactlyTokens(23, 1, 3));
  stopped.tokens.insert(stopped.tokens.end(), rest.tokens.begin(), rest.tokens.end());
  EXPECT_EQ(stopped.tokens, whole.tokens);
  ExpectSameMemory(engine, "whole", "stopped");
}

TEST(EngineTest, AGenerationThatIsCancelledGoesOnAsIfItHadNot) {
  StepGate gate;
  RankOptions options = SmallOptions();
  options.engine.observer = &gate;
  TestGroup group(options);
  Engine& engine = group.leader();
  OpenSmall(engine, "cancelled");
  const std::vector<int32_t> text = SmallText(30, 8);
  std::vector<int32_t> told;
  {
    std::unique_ptr<weir::Run> run = *engine.StartRun(
        "cancelled", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(40, 1, 3)});
    EXPECT_TRUE(run->Feed(text).ok());
    EXPECT_TRUE(run->CloseInput().ok());
    gate.AwaitStep();
    gate.Step(3);  // the text's four chunks, and the first token
    gate.Step(6);
    while (told.size() < 7) {
      const RunEvent event = *run->Next();
      if (event.kind == RunEvent::Kind::kToken) told.push_back(event.token);
    }
  }
  gate.Open();
  // What it told and what the session has read agree.
  std::unique_ptr<weir::Run> next = *engine.StartRun("cancelled", {.kind = RunKind::kAppend});
  EXPECT_EQ(engine.Describe("cancelled")->tokens_seen, 30 + 7);
  next.reset();
  const RunResult end = Generate(engine, "cancelled", ExactlyTokens(33, 1, 3));
  told.insert(told.end(), end.tokens.begin(), end.tokens.end());

  OpenSmall(engine, "whole");
  EXPECT_EQ(told, Generate(engine, "whole", ExactlyTokens(40, 1, 3), text).tokens);
  ExpectSameMemory(engine, "whole", "cancelled");
}

TEST(EngineTest, SamplingDependsOnTheSeed) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  std::vector<std::vector<int32_t>> answers;
  for (uint64_t seed : {1, 1, 2}) {
    OpenSmall(engine, "s");
    answers.push_back(Generate(engine, "s", ExactlyTokens(30, 1, seed), SmallText(10, 4)).tokens);
    ASSERT_TRUE(engine.CloseSession("s").ok());
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
}

TEST(EngineTest, ASlowReaderPausesOnlyItself) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "slow");
  OpenSmall(engine, "quick");
  std::unique_ptr<weir::Run> slow =
      *engine.StartRun("slow", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(500)});
  ASSERT_TRUE(slow->Feed(SmallText(5, 1)).ok());
  ASSERT_TRUE(slow->CloseInput().ok());
  const RunResult quick = Generate(engine, "quick", ExactlyTokens(400), SmallText(5, 2));
  EXPECT_EQ(quick.tokens.size(), 400u);
  EXPECT_LE(engine.Describe("slow")->tokens_seen, 5 + 64);

  const RunResult late = Collect(*slow);
  ASSERT_TRUE(late.status.ok()) << late.status;
  EXPECT_EQ(late.tokens.size(), 500u);
  OpenSmall(engine, "again");
  EXPECT_EQ(Generate(engine, "again", ExactlyTokens(500), SmallText(5, 1)).tokens, late.tokens);
}

TEST(EngineTest, AnUnreadAppendNeverBlocks) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "s");
  std::unique_ptr<weir::Run> run = *engine.StartRun("s", {.kind = RunKind::kAppend});
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(run->Feed(SmallText(8, i)).ok());
  ASSERT_TRUE(run->CloseInput().ok());
  const RunResult result = Collect(*run);
  ASSERT_TRUE(result.status.ok());
  EXPECT_EQ(result.tokens_read, 4000);
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(EngineTest, LimitsAndWrongCalls) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  for (const char* id : {"a", "b", "c", "d"}) OpenSmall(engine, id);
  EXPECT_EQ(engine.OpenSession("a", kSmallCascade).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(engine.OpenSession("e", kSmallCascade).code(), absl::StatusCode::kResourceExhausted);
  CascadeConfig large = kSmallCascade;
  large.slots *= 2;
  EXPECT_EQ(engine.OpenSession("e", large).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine.CloseSession("e").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine.Describe("e").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine.Inspect("e", 0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine.Inspect("a", 2).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(engine.Inspect("a", -1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(engine.StartRun("e", {}).status().code(), absl::StatusCode::kNotFound);
  GenerateOptions hot;
  hot.sampling.temperature = -1;
  EXPECT_EQ(Generate(engine, "a", hot).status.code(), absl::StatusCode::kInvalidArgument);

  const RunResult empty = Generate(engine, "a", ExactlyTokens(1));
  EXPECT_EQ(empty.status.code(), absl::StatusCode::kFailedPrecondition) << empty.status;
  EXPECT_FALSE(engine.Describe("a")->running);

  std::vector<std::unique_ptr<weir::Run>> runs;
  for (const char* id : {"a", "b", "c"}) {
    runs.push_back(*engine.StartRun(id, {}));
    EXPECT_TRUE(engine.Describe(id)->running);
  }
  EXPECT_EQ(engine.StartRun("a", {}).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(engine.StartRun("d", {}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine.sessions_open(), 4);
}

TEST(EngineTest, ClosingASessionCancelsItsRunAndFreesItsSlot) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "fresh");
  const RunResult expected = Generate(engine, "fresh", ExactlyTokens(10), SmallText(20, 1));
  for (const char* id : {"b", "c", "d"}) OpenSmall(engine, id);
  std::unique_ptr<weir::Run> run =
      *engine.StartRun("d", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(0)});
  ASSERT_TRUE(run->Feed(SmallText(50, 3)).ok());
  ASSERT_TRUE(run->CloseInput().ok());
  while (run->Next()->kind != RunEvent::Kind::kToken) {
  }
  ASSERT_TRUE(engine.CloseSession("d").ok());
  EXPECT_EQ(Collect(*run).status.code(), absl::StatusCode::kCancelled);
  OpenSmall(engine, "e");  // in d's slot
  EXPECT_EQ(engine.Describe("e")->tokens_seen, 0);
  EXPECT_EQ(Generate(engine, "e", ExactlyTokens(10), SmallText(20, 1)).logprobs, expected.logprobs);
}

TEST(EngineTest, TheCallersOwnCancellationEndsARun) {
  TestGroup group(SmallOptions());
  Engine& engine = group.leader();
  OpenSmall(engine, "s");
  std::atomic<bool> cancelled = false;
  std::unique_ptr<weir::Run> run = *engine.StartRun(
      "s", {.kind = RunKind::kAppend, .cancelled = [&] { return cancelled.load(); }});
  ASSERT_TRUE(run->Feed(SmallText(3, 1)).ok());
  cancelled = true;  // while it waits for input
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->Feed(SmallText(3, 1)).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->CloseInput().code(), absl::StatusCode::kCancelled);
}

class CountingObserver : public EngineObserver {
 public:
  void OnStepPhase(StepPhase phase, absl::Duration) override { ++phases[static_cast<int>(phase)]; }
  void OnQueueTime(absl::Duration) override { ++queued; }
  void OnFirstToken(absl::Duration) override { ++first_tokens; }
  void OnNextToken(absl::Duration) override { ++next_tokens; }
  void OnRunEnd(RunKind kind, absl::StatusCode code, absl::Duration) override {
    ++(code == absl::StatusCode::kOk ? finished : failed);
  }
  std::atomic<int> phases[4] = {};
  std::atomic<int> queued = 0;
  std::atomic<int> first_tokens = 0;
  std::atomic<int> next_tokens = 0;
  std::atomic<int> finished = 0;
  std::atomic<int> failed = 0;
};

TEST(EngineTest, StatisticsAddUp) {
  CountingObserver observer;
  RankOptions options = SmallOptions();
  options.engine.observer = &observer;
  TestGroup group(options);
  Engine& engine = group.leader();
  OpenSmall(engine, "s");
  ASSERT_TRUE(Append(engine, "s", SmallText(200, 1)).status.ok());
  ASSERT_TRUE(Generate(engine, "s", ExactlyTokens(11), SmallText(3, 2)).status.ok());
  ASSERT_FALSE(engine.Describe("s")->running);
  std::unique_ptr<weir::Run> waiting = *engine.StartRun("s", {});

  EngineStats stats;
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  do {  // the totals of the sub-caches are refreshed now and then
    absl::SleepFor(absl::Milliseconds(20));
    stats = engine.stats();
  } while ((stats.sub_caches.size() < 3 || stats.sub_caches[0].accepts < 12 * (200 + 13 - 4)) &&
           absl::Now() < give_up);
  EXPECT_EQ(stats.prompt_tokens, 203);
  EXPECT_EQ(stats.generated_tokens, 11);
  EXPECT_EQ(stats.sessions_open, 1);
  EXPECT_EQ(stats.session_capacity, 4);
  EXPECT_EQ(stats.slots_filled, 28);
  EXPECT_EQ(stats.slot_capacity, 4 * 28);
  EXPECT_EQ(stats.cache_bytes, 4 * engine.Describe("s")->cache_bytes);
  // 2 layers of 6 KV heads. The last generated token is read by the next run, which has begun, so
  // 203 + 11 tokens came to sub-cache 0, less 4 sinks; all were accepted there, all but 8 left it.
  ASSERT_EQ(stats.sub_caches.size(), 3u);
  EXPECT_EQ(stats.runs_running, 1);
  EXPECT_EQ(stats.sub_caches[0].accepts, 12 * 210);
  EXPECT_EQ(stats.sub_caches[0].swaps, 0);
  EXPECT_EQ(stats.sub_caches[0].drops, 0);
  const SubCacheStats& second = stats.sub_caches[1];
  EXPECT_EQ(second.accepts + second.swaps + second.drops, 12 * 202);
  EXPECT_GT(second.swaps, 0);
  EXPECT_GT(second.drops, 0);
  // On the CPU; there is one rank.
  EXPECT_EQ(stats.all_reduce_time, absl::ZeroDuration());

  EXPECT_EQ(observer.queued, 3);
  EXPECT_EQ(observer.first_tokens, 1);
  EXPECT_EQ(observer.next_tokens, 10);
  EXPECT_EQ(observer.finished, 2);
  EXPECT_EQ(observer.failed, 0);
  for (const std::atomic<int>& phase : observer.phases) EXPECT_GE(phase, 25 + 1 + 11);
}

}  // namespace
}  // namespace weir
