#include "worker/engine/engine.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/step_gate.h"
#include "worker/comm/communicator.h"

namespace weir {
namespace {

constexpr int kVocabulary = kLeastVocabulary + 13;
constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 24, .sub_caches = 3, .stride = 8};

// A model that 2 and 3 ranks can share. With quantised weights 2 ranks cut through blocks of the
// attention's output projection, 3 do not.
std::string MakeModel(WeightType type) {
  const NaiveLlamaConfig config = {.layers = 2,
                                   .hidden = 64,
                                   .heads = 12,
                                   .kv_heads = 6,
                                   .head_dim = 8,
                                   .ffn = 96,
                                   .vocabulary = kVocabulary};
  return WriteModel(MakeRandomModel(config, 1, type, type),
                    absl::StrCat("engine_test_", WeightTypeName(type)),
                    {.matrices = type, .embedding = type});
}

const std::string& ModelPath() {
  static const std::string* const path = new std::string(MakeModel(WeightType::kF32));
  return *path;
}

RankOptions Options(int tensor_parallel = 1) {
  RankOptions options;
  options.model_path = ModelPath();
  options.tensor_parallel = tensor_parallel;
  options.engine.max_sessions = 4;
  options.engine.max_runs = 3;
  options.engine.cascade = kCascade;
  options.engine.idle_step = absl::Milliseconds(50);
  return options;
}

std::vector<int32_t> Text(int count, uint64_t seed) {
  return RandomTokens(count, kVocabulary, seed);
}

void Open(Engine& engine, const std::string& id) {
  ASSERT_TRUE(engine.OpenSession(id, kCascade).ok());
}

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
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "whole");
  Open(engine, "broken");
  const std::vector<int32_t> text = Text(101, 2);
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
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "whole");
  Open(engine, "broken");
  ASSERT_TRUE(Append(engine, "whole", Text(13, 2)).status.ok());
  ASSERT_TRUE(Append(engine, "whole", Text(11, 3)).status.ok());
  {
    std::unique_ptr<weir::Run> run = *engine.StartRun("broken", {.kind = RunKind::kAppend});
    ASSERT_TRUE(run->Feed(Text(13, 2)).ok());
    ASSERT_TRUE(run->CloseInput().ok());
  }
  ASSERT_TRUE(Append(engine, "broken", Text(11, 3)).status.ok());
  ExpectSameMemory(engine, "whole", "broken");
}

TEST(EngineTest, ARunOfAnotherKindEndsAnOpenText) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "whole");
  Open(engine, "broken");
  ASSERT_TRUE(Append(engine, "whole", Text(13, 2)).status.ok());
  {
    std::unique_ptr<weir::Run> run = *engine.StartRun("broken", {.kind = RunKind::kAppend});
    ASSERT_TRUE(run->Feed(Text(13, 2)).ok());
  }
  const RunResult expected = Score(engine, "whole", Text(21, 3));
  const RunResult scored = Score(engine, "broken", Text(21, 3));
  ASSERT_TRUE(scored.status.ok()) << scored.status;
  EXPECT_EQ(scored.tokens_read, 21);
  ASSERT_EQ(scored.scores.size(), 21u);
  for (size_t i = 0; i < scored.scores.size(); ++i) {
    EXPECT_EQ(scored.scores[i].logprob, expected.scores[i].logprob) << i;
  }
  ExpectSameMemory(engine, "whole", "broken");
}

TEST(EngineTest, ARunAloneEqualsTheSameRunBesideOthers) {
  TestGroup group(Options());
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
  ASSERT_EQ(alone.tokens.size(), 60u);
  EXPECT_EQ(beside.tokens, alone.tokens);
  EXPECT_EQ(beside.logprobs, alone.logprobs);
  ASSERT_EQ(beside.scores.size(), 45u);
  for (size_t i = 1; i < 45; ++i) EXPECT_EQ(beside.scores[i].logprob, alone.scores[i].logprob);
  ExpectSameMemory(engine, "alone", "beside");
}

TEST(EngineTest, AGenerationThatStopsGoesOnAsIfItHadNot) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "whole");
  Open(engine, "stopped");
  const std::vector<int32_t> text = Text(30, 8);
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
  RankOptions options = Options();
  options.engine.observer = &gate;
  TestGroup group(options);
  Engine& engine = group.leader();
  Open(engine, "cancelled");
  const std::vector<int32_t> text = Text(30, 8);
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

  Open(engine, "whole");
  EXPECT_EQ(told, Generate(engine, "whole", ExactlyTokens(40, 1, 3), text).tokens);
  ExpectSameMemory(engine, "whole", "cancelled");
}

TEST(EngineTest, SamplingDependsOnTheSeed) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  std::vector<std::vector<int32_t>> answers;
  for (uint64_t seed : {1, 1, 2}) {
    Open(engine, "s");
    answers.push_back(Generate(engine, "s", ExactlyTokens(30, 1, seed), Text(10, 4)).tokens);
    ASSERT_TRUE(engine.CloseSession("s").ok());
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
}

TEST(EngineTest, ASlowReaderPausesOnlyItself) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "slow");
  Open(engine, "quick");
  std::unique_ptr<weir::Run> slow =
      *engine.StartRun("slow", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(500)});
  ASSERT_TRUE(slow->Feed(Text(5, 1)).ok());
  ASSERT_TRUE(slow->CloseInput().ok());
  const RunResult quick = Generate(engine, "quick", ExactlyTokens(400), Text(5, 2));
  EXPECT_EQ(quick.tokens.size(), 400u);
  EXPECT_LE(engine.Describe("slow")->tokens_seen, 5 + 64);

  const RunResult late = Collect(*slow);
  ASSERT_TRUE(late.status.ok()) << late.status;
  EXPECT_EQ(late.tokens.size(), 500u);
  Open(engine, "again");
  EXPECT_EQ(Generate(engine, "again", ExactlyTokens(500), Text(5, 1)).tokens, late.tokens);
}

TEST(EngineTest, AnUnreadAppendNeverBlocks) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "s");
  std::unique_ptr<weir::Run> run = *engine.StartRun("s", {.kind = RunKind::kAppend});
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(run->Feed(Text(8, i)).ok());
  ASSERT_TRUE(run->CloseInput().ok());
  const RunResult result = Collect(*run);
  ASSERT_TRUE(result.status.ok());
  EXPECT_EQ(result.tokens_read, 4000);
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(EngineTest, LimitsAndWrongCalls) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  for (const char* id : {"a", "b", "c", "d"}) Open(engine, id);
  EXPECT_EQ(engine.OpenSession("a", kCascade).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(engine.OpenSession("e", kCascade).code(), absl::StatusCode::kResourceExhausted);
  CascadeConfig large = kCascade;
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
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "fresh");
  const RunResult expected = Generate(engine, "fresh", ExactlyTokens(10), Text(20, 1));
  for (const char* id : {"b", "c", "d"}) Open(engine, id);
  std::unique_ptr<weir::Run> run =
      *engine.StartRun("d", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(0)});
  ASSERT_TRUE(run->Feed(Text(50, 3)).ok());
  ASSERT_TRUE(run->CloseInput().ok());
  while (run->Next()->kind != RunEvent::Kind::kToken) {
  }
  ASSERT_TRUE(engine.CloseSession("d").ok());
  EXPECT_EQ(Collect(*run).status.code(), absl::StatusCode::kCancelled);
  Open(engine, "e");  // in d's slot
  EXPECT_EQ(engine.Describe("e")->tokens_seen, 0);
  EXPECT_EQ(Generate(engine, "e", ExactlyTokens(10), Text(20, 1)).logprobs, expected.logprobs);
}

TEST(EngineTest, TheCallersOwnCancellationEndsARun) {
  TestGroup group(Options());
  Engine& engine = group.leader();
  Open(engine, "s");
  std::atomic<bool> cancelled = false;
  std::unique_ptr<weir::Run> run = *engine.StartRun(
      "s", {.kind = RunKind::kAppend, .cancelled = [&] { return cancelled.load(); }});
  ASSERT_TRUE(run->Feed(Text(3, 1)).ok());
  cancelled = true;  // while it waits for input
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->Feed(Text(3, 1)).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->CloseInput().code(), absl::StatusCode::kCancelled);
}

TEST(EngineTest, ASizeThatDoesNotDivideTheModelIsToldWithThoseThatDo) {
  RankOptions options = Options(4);
  const absl::Status status = Rank::Load(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "tensor-parallel size 4 does not divide the model's 6 KV heads, 12 query heads and "
            "feed-forward width 96; possible: 1, 2, 3, 6");
  options.tensor_parallel = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(EngineTest, WrongOptionsAreNamed) {
  RankOptions options = Options();
  options.engine.cascade.stride = 4096;
  EXPECT_EQ(Rank::Load(options).status().message(),
            "sinks + slots + stride is 4 + 24 + 4096 = 4124; the model has 4096 positions");
  options = Options();
  options.engine.max_sessions = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.engine.max_runs = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.device = "abacus";
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.model_path = "/nowhere.gguf";
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kNotFound);
}

// A communicator of one rank that does not let it prepare its steps.
class UnableCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  absl::Status AllReduceSum(Tensor) override { return absl::OkStatus(); }
  absl::Status AllGather(Tensor, Tensor) override { return absl::OkStatus(); }
  absl::Status Broadcast(std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    return std::vector<std::string>{bytes};
  }
  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t, int64_t) override {
    return absl::ResourceExhaustedError("no memory is left");
  }
  absl::Status Poll() override { return group; }
  void Abort() override {}

  absl::Status group;
};

TEST(EngineTest, TellsWhyItCouldNotJoin) {
  const std::unique_ptr<Rank> rank = *Rank::Load(Options());
  UnableCommunicator communicator;
  {
    const std::unique_ptr<Engine> engine = *rank->StartEngine(&communicator);
    EXPECT_EQ(engine->WaitUntilJoined(), absl::ResourceExhaustedError("no memory is left"));
    EXPECT_EQ(engine->Wait(), absl::UnavailableError("no memory is left"));
  }
  // Not if that came of the group's end.
  communicator.group = absl::UnavailableError("rank 1 is lost");
  const std::unique_ptr<Engine> engine = *rank->StartEngine(&communicator);
  EXPECT_EQ(engine->WaitUntilJoined(), communicator.group);
}

TEST(EngineTest, JoinsByItself) {
  TestGroup group(Options());
  EXPECT_TRUE(group.leader().WaitUntilJoined().ok());
}

TEST(EngineTest, IdleStepsGoOn) {
  TestGroup group(Options(2));
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
  RankOptions options = Options(1);
  options.model_path = MakeModel(GetParam().type);
  TestGroup one(options);
  options.tensor_parallel = GetParam().ranks;
  TestGroup many(options);
  RunResult results[2];
  std::vector<HeadMemory> memories[2];
  Engine* engines[] = {&one.leader(), &many.leader()};
  for (int i = 0; i < 2; ++i) {
    Engine& engine = *engines[i];
    Open(engine, "s");
    results[i] = Score(engine, "s", Text(150, 1));
    ASSERT_TRUE(results[i].status.ok()) << results[i].status;
    const RunResult generated = Generate(engine, "s", ExactlyTokens(60, 0.7, 5), Text(9, 2));
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
  TestGroup group(Options(2));
  Engine& follower = group.engine(1);
  EXPECT_EQ(follower.OpenSession("s", kCascade).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.CloseSession("s").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.Describe("s").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.Inspect("s", 0).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(follower.StartRun("s", {}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GroupTest, ALostFollowerEndsEveryRunAndTheGroupFormsAgain) {
  TestGroup group(Options(3));
  Open(group.leader(), "generates");
  Open(group.leader(), "waits");
  std::unique_ptr<weir::Run> generates = *group.leader().StartRun(
      "generates", {.kind = RunKind::kGenerate, .generate = ExactlyTokens(0)});
  std::unique_ptr<weir::Run> waits = *group.leader().StartRun("waits", {.kind = RunKind::kAppend});
  ASSERT_TRUE(generates->Feed(Text(10, 1)).ok());
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
  EXPECT_EQ(group.leader().OpenSession("s", kCascade).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(group.leader().Inspect("waits", 0).status().code(), absl::StatusCode::kUnavailable);

  group.FormAgain();
  EXPECT_EQ(group.leader().Describe("waits").status().code(), absl::StatusCode::kNotFound);
  Open(group.leader(), "s");
  EXPECT_EQ(Generate(group.leader(), "s", ExactlyTokens(5), Text(10, 1)).tokens.size(), 5u);
}

TEST(GroupTest, StoppingTheLeaderCancelsRunsAndEndsFollowers) {
  TestGroup group(Options(2));
  Open(group.leader(), "s");
  std::unique_ptr<weir::Run> run = *group.leader().StartRun("s", {.kind = RunKind::kAppend});
  group.StopEngine(0);
  EXPECT_EQ(run->Next().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(run->Feed(Text(1, 1)).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(group.engine(1).Wait().code(), absl::StatusCode::kUnavailable);
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
  RankOptions options = Options();
  options.engine.observer = &observer;
  TestGroup group(options);
  Engine& engine = group.leader();
  Open(engine, "s");
  ASSERT_TRUE(Append(engine, "s", Text(200, 1)).status.ok());
  ASSERT_TRUE(Generate(engine, "s", ExactlyTokens(11), Text(3, 2)).status.ok());
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
