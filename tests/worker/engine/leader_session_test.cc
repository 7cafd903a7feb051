#include "worker/engine/leader_session.h"

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "worker/engine/sampler.h"

namespace weir {
namespace {

using Action = LeaderSession::Action;

std::vector<int32_t> Count(int first, int count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A session with stride 4, driven without an engine.
class LeaderSessionTest : public testing::Test {
 protected:
  // Begins a run that is fed `input`, and whose input is closed if so told.
  std::shared_ptr<RunChannel> Start(RunKind kind, const std::vector<int32_t>& input,
                                    bool close = true) {
    auto run = std::make_shared<ActiveRun>();
    run->options.kind = kind;
    run->channel = std::make_shared<RunChannel>(0, std::make_shared<WakeSignal>());
    EXPECT_TRUE(run->channel->Feed(input).ok());
    if (close) {
      EXPECT_TRUE(run->channel->CloseInput().ok());
    }
    session_.StartRun(run);
    return run->channel;
  }

  // What a session did in a step, whichever way.
  struct Planned {
    std::vector<int32_t> tokens;
    std::optional<LikeliestRequest> next;
    bool score = false;
  };

  Planned Plan(Action action) {
    EXPECT_EQ(session_.NextAction(), action);
    const int64_t step = step_++;
    if (action == Action::kChunk) {
      PlannedChunk chunk = session_.PlanChunk(step);
      return {std::move(chunk.tokens), chunk.next, chunk.score};
    }
    const PlannedDecode decode = session_.PlanDecode();
    Planned planned = {.next = decode.next};
    if (decode.token.has_value()) planned.tokens = {*decode.token};
    return planned;
  }

  absl::Status Deliver(const Planned& planned) {
    return session_.Deliver(
        planned.score ? std::vector<float>(planned.tokens.size(), -1.0f) : std::vector<float>(), 0);
  }

  // A step of the session, which is up to `action`.
  Planned Step(Action action) {
    const Planned planned = Plan(action);
    EXPECT_TRUE(Deliver(planned).ok());
    return planned;
  }

  // A step in which the run's generation yields `token`.
  Planned Yield(Action action, int32_t token, bool finished = false) {
    const Planned planned = Plan(action);
    EXPECT_TRUE(planned.next.has_value());
    Generation::Outcome outcome;
    outcome.token.kind = RunEvent::Kind::kToken;
    outcome.token.token = token;
    if (finished) {
      outcome.finished.emplace();
      outcome.finished->kind = RunEvent::Kind::kFinished;
    }
    session_.run()->outcome = std::move(outcome);
    EXPECT_TRUE(Deliver(planned).ok());
    return planned;
  }

  void Finish() {
    EXPECT_EQ(session_.NextAction(), Action::kFinish);
    EXPECT_TRUE(session_.FinishRun().ok());
    EXPECT_EQ(session_.run(), nullptr);
  }

  LeaderSession session_{0, {.sinks = 0, .slots = 8, .sub_caches = 1, .stride = 4}};
  int64_t step_ = 0;
};

TEST_F(LeaderSessionTest, ATextIsReadInChunks) {
  const std::shared_ptr<RunChannel> channel = Start(RunKind::kAppend, Count(0, 6), false);
  EXPECT_EQ(Step(Action::kChunk).tokens, Count(0, 4));
  EXPECT_EQ(session_.NextAction(), Action::kWait);
  ASSERT_TRUE(channel->CloseInput().ok());
  const Planned last = Step(Action::kChunk);
  EXPECT_EQ(last.tokens, Count(4, 2));
  EXPECT_FALSE(last.next.has_value());
  EXPECT_FALSE(last.score);
  Finish();
  EXPECT_EQ(session_.tokens_seen(), 6);
  EXPECT_EQ(channel->Next()->tokens_read, 6);  // the progress before was replaced
  EXPECT_EQ(channel->Next()->kind, RunEvent::Kind::kFinished);
  EXPECT_EQ(channel->Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(LeaderSessionTest, TheLastChunkYieldsTheFirstToken) {
  Start(RunKind::kGenerate, Count(0, 5));
  EXPECT_FALSE(Step(Action::kChunk).next.has_value());
  EXPECT_EQ(Yield(Action::kChunk, 90).tokens, Count(4, 1));
  EXPECT_EQ(Yield(Action::kDecode, 91).tokens, Count(90, 1));
  EXPECT_EQ(session_.tokens_seen(), 7);
  EXPECT_EQ(Yield(Action::kDecode, 92, true).tokens, Count(91, 1));
  EXPECT_EQ(session_.run(), nullptr);
  EXPECT_EQ(session_.tokens_seen(), 8);

  // The next run reads the last token first, in a step of its own.
  Start(RunKind::kScore, Count(0, 4));
  const Planned pending = Step(Action::kDecode);
  EXPECT_EQ(pending.tokens, Count(92, 1));
  EXPECT_FALSE(pending.score);
  EXPECT_TRUE(Step(Action::kChunk).score);
  Finish();
}

TEST_F(LeaderSessionTest, AGenerationWithoutInputGoesOnFromTheLastRow) {
  Start(RunKind::kAppend, Count(0, 3));
  Step(Action::kChunk);
  Finish();
  Start(RunKind::kGenerate, {});
  EXPECT_TRUE(Yield(Action::kDecode, 90).tokens.empty());
  EXPECT_EQ(Yield(Action::kDecode, 91, true).tokens, Count(90, 1));
  Start(RunKind::kGenerate, {});
  EXPECT_EQ(Yield(Action::kDecode, 92, true).tokens, Count(91, 1));
}

// What is asked of the next token's logits follows from the run's options and the token's index.
TEST_F(LeaderSessionTest, AsksForWhatTheSamplerNeeds) {
  Start(RunKind::kAppend, Count(0, 3));
  Step(Action::kChunk);
  Finish();
  GenerateOptions options;
  options.sampling = {.temperature = 0.5, .seed = 77};
  options.top_logprobs = 5;
  Start(RunKind::kGenerate, Count(0, 5));
  session_.run()->options.generate = options;
  EXPECT_FALSE(Step(Action::kChunk).next.has_value());
  EXPECT_EQ(Yield(Action::kChunk, 90).next, RequestFor(options.sampling, 8, 5));
  const Planned decode = Yield(Action::kDecode, 91, true);
  EXPECT_EQ(decode.next, RequestFor(options.sampling, 9, 5));
  EXPECT_TRUE(decode.next->draw);
  EXPECT_EQ(decode.next->index, 9u);
}

TEST_F(LeaderSessionTest, AGenerationFromNothingIsRefused) {
  Start(RunKind::kGenerate, {});
  EXPECT_EQ(session_.NextAction(), Action::kFinish);
  EXPECT_EQ(session_.FinishRun().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(LeaderSessionTest, WhatAnAppendLeftSurvivesRunsThatDoNotReadIt) {
  Start(RunKind::kAppend, Count(0, 6), false);
  session_.EndRun(absl::CancelledError(""));
  for (RunKind kind : {RunKind::kScore, RunKind::kGenerate}) {
    const std::shared_ptr<RunChannel> channel = Start(kind, Count(50, 9));
    session_.EndRun(absl::CancelledError(""));
    EXPECT_EQ(channel->Next().status().code(), absl::StatusCode::kCancelled);
  }
  Start(RunKind::kScore, Count(50, 1));
  EXPECT_FALSE(Step(Action::kChunk).score);
  EXPECT_EQ(session_.run()->tokens_read, 0);
  // Half read; the other half stays too. The first run of another kind ended the text.
  session_.EndRun(absl::CancelledError(""));
  Start(RunKind::kAppend, Count(10, 5), false);
  EXPECT_EQ(Step(Action::kChunk).tokens, Count(4, 2));
  EXPECT_EQ(session_.run()->tokens_read, 0);
  EXPECT_EQ(Step(Action::kChunk).tokens, Count(10, 4));
  EXPECT_EQ(session_.run()->tokens_read, 4);
  EXPECT_EQ(session_.NextAction(), Action::kWait);
}

TEST_F(LeaderSessionTest, AnAppendGoesOnInTheMiddleOfAChunk) {
  Start(RunKind::kAppend, Count(0, 6), false);
  Step(Action::kChunk);
  session_.EndRun(absl::CancelledError(""));
  Start(RunKind::kAppend, Count(6, 3));
  EXPECT_EQ(Step(Action::kChunk).tokens, Count(4, 4));
  EXPECT_EQ(session_.run()->tokens_read, 2);
  EXPECT_EQ(Step(Action::kChunk).tokens, Count(8, 1));
  Finish();
}

TEST_F(LeaderSessionTest, AFullChannelPausesTheRun) {
  const std::shared_ptr<RunChannel> channel = Start(RunKind::kGenerate, Count(0, 4));
  Yield(Action::kChunk, 90);
  for (int i = 0; !channel->full(); ++i) Yield(Action::kDecode, i);
  EXPECT_EQ(session_.NextAction(), Action::kWait);
  ASSERT_TRUE(channel->Next().ok());
  EXPECT_EQ(session_.NextAction(), Action::kDecode);
}

TEST_F(LeaderSessionTest, ABrokenModelEndsTheRunAlone) {
  Start(RunKind::kGenerate, Count(0, 4));
  const Planned planned = Plan(Action::kChunk);
  session_.run()->outcome = absl::InternalError("the model's logits are not numbers");
  EXPECT_EQ(Deliver(planned).code(), absl::StatusCode::kInternal);
}

// Nothing else is planned while a chunk is in progress, and it is read to its end whatever becomes
// of its run.
TEST_F(LeaderSessionTest, AChunkOutlivesItsRun) {
  Start(RunKind::kScore, Count(0, 6));
  const Planned chunk = Plan(Action::kChunk);
  EXPECT_EQ(chunk.tokens, Count(0, 4));
  EXPECT_TRUE(chunk.score);
  EXPECT_EQ(session_.NextAction(), Action::kWait);
  EXPECT_EQ(session_.tokens_seen(), 0);

  session_.EndRun(absl::CancelledError(""));
  const std::shared_ptr<RunChannel> channel = Start(RunKind::kScore, Count(10, 5));
  EXPECT_EQ(session_.NextAction(), Action::kWait);
  EXPECT_TRUE(Deliver(chunk).ok());
  EXPECT_EQ(session_.tokens_seen(), 4);
  EXPECT_EQ(session_.run()->tokens_read, 0);

  EXPECT_EQ(Step(Action::kChunk).tokens, Count(10, 4));
  EXPECT_EQ(session_.run()->tokens_read, 4);
  const RunEvent event = *channel->Next();  // none of the run before
  ASSERT_EQ(event.scores.size(), 4u);
  EXPECT_EQ(event.scores[0].token, 10);
}

TEST_F(LeaderSessionTest, ASessionReadsOnWhileItHasChunks) {
  const std::shared_ptr<RunChannel> channel = Start(RunKind::kAppend, Count(0, 10));
  EXPECT_TRUE(Deliver(Plan(Action::kChunk)).ok());
  const Planned second = Plan(Action::kChunk);
  EXPECT_TRUE(session_.reads_on());
  EXPECT_TRUE(Deliver(second).ok());
  const Planned last = Plan(Action::kChunk);
  EXPECT_FALSE(session_.reads_on());
  session_.EndRun(absl::CancelledError(""));
  EXPECT_FALSE(session_.reads_on());
  EXPECT_TRUE(Deliver(last).ok());
  EXPECT_EQ(session_.tokens_seen(), 10);
}

// At most a chunk and what may wait beside it is taken over from the caller.
TEST_F(LeaderSessionTest, InputStaysWithTheCallerUntilItIsNeeded) {
  const std::shared_ptr<RunChannel> channel = Start(RunKind::kAppend, Count(0, 8), false);
  EXPECT_EQ(session_.NextAction(), Action::kChunk);
  ASSERT_TRUE(channel->Feed(Count(8, 8)).ok());
  Step(Action::kChunk);
  bool closed = false;
  EXPECT_EQ(channel->TakeInput(closed).size(), 8u);
}

}  // namespace
}  // namespace weir
