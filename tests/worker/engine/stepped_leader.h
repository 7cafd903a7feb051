#ifndef WEIR_TESTS_WORKER_ENGINE_STEPPED_LEADER_H_
#define WEIR_TESTS_WORKER_ENGINE_STEPPED_LEADER_H_

// Engines of a small model, and one that goes step by step, for what happens to a chunk that takes
// several steps.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/step_gate.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/step_plan.h"

namespace weir {

inline constexpr int kLayers = 5;
inline constexpr int kStride = 8;
inline constexpr CascadeConfig kCascade = {
    .sinks = 4, .slots = 24, .sub_caches = 3, .stride = kStride};

// Beside decodes, a step has one layer of a chunk.
inline RankOptions Options(StepGate* gate, int ranks = 1) {
  static const std::string* const path =
      new std::string(WriteModel(MakeRandomModel({.layers = kLayers,
                                                  .hidden = 24,
                                                  .heads = 6,
                                                  .kv_heads = 3,
                                                  .head_dim = 8,
                                                  .ffn = 48,
                                                  .vocabulary = kLeastVocabulary},
                                                 1),
                                 "stepped_leader"));
  RankOptions options;
  options.model_path = *path;
  options.tensor_parallel = ranks;
  options.engine.max_sessions = 4;
  options.engine.cascade = kCascade;
  options.engine.token_gap = absl::ZeroDuration();
  options.engine.observer = gate;
  return options;
}

inline std::vector<int32_t> Text(int count, uint64_t seed) {
  return RandomTokens(count, kLeastVocabulary, seed);
}

inline std::unique_ptr<weir::Run> Start(Engine& engine, const std::string& id, RunKind kind,
                                        const std::vector<int32_t>& text, int64_t tokens = 0) {
  std::unique_ptr<weir::Run> run =
      *engine.StartRun(id, {.kind = kind, .generate = ExactlyTokens(tokens)});
  EXPECT_TRUE(run->Feed(text).ok());
  EXPECT_TRUE(run->CloseInput().ok());
  return run;
}

inline void Open(Engine& engine, const std::string& id) {
  ASSERT_TRUE(engine.OpenSession(id, kCascade).ok());
}

inline int64_t TokensSeen(const Engine& engine, const std::string& id) {
  return engine.Describe(id)->tokens_seen;
}

// Both sessions remember the same and go on the same.
inline void ExpectSameSession(Engine& engine, const std::string& actual,
                              const std::string& expected) {
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

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_ENGINE_STEPPED_LEADER_H_
