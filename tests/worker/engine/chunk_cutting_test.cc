// A chunk that takes several steps, and what happens to its run and session meanwhile.

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/step_gate.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/step_plan.h"

namespace weir {
namespace {

constexpr int kLayers = 5;
constexpr int kStride = 8;
constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 24, .sub_caches = 3, .stride = kStride};

// Beside decodes, a step has one layer of a chunk.
RankOptions Options(StepGate* gate, int ranks = 1) {
  static const std::string* const path =
      new std::string(WriteModel(MakeRandomModel({.layers = kLayers,
                                                  .hidden = 24,
                                                  .heads = 6,
                                                  .kv_heads = 3,
                                                  .head_dim = 8,
                                                  .ffn = 48,
                                                  .vocabulary = kLeastVocabulary},
                                                 1),
                                 "chunk_cutting_test"));
  RankOptions options;
  options.model_path = *path;
  options.tensor_parallel = ranks;
  options.engine.max_sessions = 4;
  options.engine.cascade = kCascade;
  options.engine.token_gap = absl::ZeroDuration();
  options.engine.observer = gate;
  return options;
}

std::vector<int32_t> Text(int count, uint64_t seed) {
  return RandomTokens(count, kLeastVocabulary, seed);
}

std::unique_ptr<weir::Run> Start(Engine& engine, const std::string& id, RunKind kind,
                                 const std::vector<int32_t>& text, int64_t tokens = 0) {
  std::unique_ptr<weir::Run> run =
      *engine.StartRun(id, {.kind = kind, .generate = ExactlyTokens(tokens)});
  EXPECT_TRUE(run->Feed(text).ok());
  EXPECT_TRUE(run->CloseInput().ok());
  return run;
}

void Open(Engine& engine, const std::string& id) {
  ASSERT_TRUE(engine.OpenSession(id, kCascade).ok());
}

int64_t TokensSeen(const Engine& engine, const std::string& id) {
  return engine.Describe(id)->tokens_seen;
}

// Both sessions remember the same and go on the same.
void ExpectSameSession(Engine& engine, const std::string& actual, const std::string& expected) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::vector<HeadMemory> x = *engine.Inspect(actual, layer);
    const std::vector<HeadMemory> y = *engine.Inspect(expected, layer);
    ASSERT_EQ(x.size(), y.size());
    for (size_t head = 0; head < x.size(); ++head) {
      EXPECT_EQ(x[head].tokens, y[head].tokens);
      EXPECT_EQ(x[head].scores, y[head].scores);
    }
  }
  const RunResult x = Generate(engine, actual, ExactlyTokens(7), Text(3, 99));
  const RunResult y = Generate(engine, expected, ExactlyTokens(7), Text(3, 99));
  ASSERT_TRUE(x.status.ok()) << x.status;
  EXPECT_EQ(x.tokens, y.tokens);
  EXPECT_EQ(x.logprobs, y.logprobs);
}

// A communicator of one rank that keeps the plans.
class PlanRecorder : public ForwardingCommunicator {
 public:
  PlanRecorder() : ForwardingCommunicator(MakeSingleCommunicator()) {}

  absl::Status Broadcast(std::string& bytes) override {
    const absl::StatusOr<StepPlan> plan = ParseStepPlan(bytes);
    EXPECT_TRUE(plan.ok()) << plan.status();
    absl::MutexLock lock(&mutex_);
    if (!plan->empty()) plans_.push_back(*plan);
    return ForwardingCommunicator::Broadcast(bytes);
  }

  // Those with work in them since the last call.
  std::vector<StepPlan> Take() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(plans_, {});
  }

 private:
  absl::Mutex mutex_;
  std::vector<StepPlan> plans_ ABSL_GUARDED_BY(mutex_);
};

// A leader of one rank that goes step by step. Its session "talks" generates a token a step while
// others read.
class SteppedLeader {
 public:
  SteppedLeader() {
    Open(engine(), "talks");
    talk_ = Start(engine(), "talks", RunKind::kGenerate, Text(3, 1));
    gate_.AwaitStep();  // it has read its text and chosen a token
    EXPECT_EQ(TokensSeen(engine(), "talks"), 4);
    recorder_.Take();
  }
  ~SteppedLeader() { Go(); }

  Engine& engine() { return *engine_; }
  void Step(int steps = 1) { gate_.Step(steps); }
  void EndTalk() { talk_.reset(); }
  // From now on the engine runs by itself, without the talk.
  void Go() {
    EndTalk();
    gate_.Open();
  }
  // The plans with work in them since the last call.
  std::vector<StepPlan> Plans() { return recorder_.Take(); }

 private:
  StepGate gate_;
  PlanRecorder recorder_;
  std::unique_ptr<Rank> rank_ = *Rank::Load(Options(&gate_));
  std::unique_ptr<Engine> engine_ = *rank_->StartEngine(&recorder_);
  std::unique_ptr<weir::Run> talk_;
};

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

// Cancelled in the middle of its chunk, a run leaves a session that has read the chunk.
TEST(ChunkCuttingTest, TheChunkOfACancelledRunIsReadToItsEnd) {
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
TEST(ChunkCuttingTest, AClosedSessionsChunkIsAbandoned) {
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

TEST(ChunkCuttingTest, AnInspectionWaitsForTheChunk) {
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

TEST(ChunkCuttingTest, AGroupStopsInTheMiddleOfAChunkAndFormsAgain) {
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
