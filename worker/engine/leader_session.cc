#include "worker/engine/leader_session.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "worker/engine/sampler.h"

namespace weir {

void LeaderSession::StartRun(std::shared_ptr<ActiveRun> run) {
  assert(run_ == nullptr);
  run_ = std::move(run);
  if (run_->options.kind != RunKind::kAppend) input_.EndText();
  run_->leftover = input_.size();
}

void LeaderSession::TakeInput() {
  if (run_->input_closed) return;
  bool closed = false;
  input_.Push(run_->channel->TakeInput(closed));
  if (closed) {
    input_.EndText();
    run_->input_closed = true;
  }
}

LeaderSession::Action LeaderSession::NextAction() {
  if (planned_.has_value()) return Action::kWait;
  if (run_->channel->full()) return Action::kWait;
  // What waits beyond the next chunk stays in the channel, which limits it.
  if (input_.size() < cascade_.stride) TakeInput();
  if (pending_token_.has_value()) return Action::kDecode;
  if (input_.NextChunk(cascade_.stride) > 0) return Action::kChunk;
  if (!input_read()) return Action::kWait;
  const bool generate = run_->options.kind == RunKind::kGenerate && tokens_read_ > 0;
  return generate ? Action::kDecode : Action::kFinish;
}

std::optional<LikeliestRequest> LeaderSession::RequestNext() const {
  if (run_->options.kind != RunKind::kGenerate || !input_read()) return std::nullopt;
  const GenerateOptions& options = run_->options.generate;
  return RequestFor(options.sampling, NextIndex(), options.top_logprobs);
}

PlannedDecode LeaderSession::PlanDecode() {
  planned_ = {.run = run_};
  PlannedDecode decode = {.cache_slot = cache_slot_, .token = std::exchange(pending_token_, {})};
  if (decode.token.has_value()) planned_->tokens = {*decode.token};
  decode.next = RequestNext();
  return decode;
}

PlannedChunk LeaderSession::PlanChunk(int64_t step) {
  const int count = input_.NextChunk(cascade_.stride);
  const int64_t old = std::min<int64_t>(count, run_->leftover);
  run_->leftover -= old;
  run_->last_prefill_step = step;
  // Only an append goes on with a text of another run, so a scored chunk is all this run's.
  planned_ = {.run = run_,
              .tokens = input_.Take(count),
              .own = count - old,
              .score = run_->options.kind == RunKind::kScore && old < count};
  if (input_.size() < cascade_.stride) TakeInput();
  return {.cache_slot = cache_slot_,
          .tokens = planned_->tokens,
          .next = RequestNext(),
          .score = planned_->score};
}

absl::Status LeaderSession::Deliver(std::vector<float> scores, int64_t tokens_cached) {
  const Planned planned = *std::exchange(planned_, std::nullopt);
  tokens_read_ += static_cast<int64_t>(planned.tokens.size());
  tokens_cached_ = tokens_cached;
  if (run_ == nullptr || run_ != planned.run) return absl::OkStatus();

  run_->tokens_read += planned.own;
  if (planned.score) {
    RunEvent event;
    event.kind = RunEvent::Kind::kScores;
    for (size_t i = 0; i < planned.tokens.size(); ++i) {
      event.scores.push_back({planned.tokens[i], scores[i]});
    }
    run_->channel->Push(std::move(event));
  } else if (planned.own > 0) {
    RunEvent event;
    event.kind = RunEvent::Kind::kProgress;
    event.tokens_read = run_->tokens_read;
    run_->channel->Push(std::move(event));
  }

  if (!run_->outcome.has_value()) return absl::OkStatus();
  absl::StatusOr<Generation::Outcome> outcome = *std::move(run_->outcome);
  run_->outcome.reset();
  if (!outcome.ok()) return outcome.status();
  pending_token_ = outcome->token.token;
  run_->channel->Push(std::move(outcome->token));
  if (outcome->finished.has_value()) CompleteRun(*std::move(outcome->finished));
  return absl::OkStatus();
}

absl::Status LeaderSession::FinishRun() {
  if (run_->options.kind == RunKind::kGenerate) {
    return absl::FailedPreconditionError(
        "there is nothing to generate from: the session has read nothing and there is no input");
  }
  RunEvent finished;
  finished.kind = RunEvent::Kind::kFinished;
  finished.reason = FinishReason::kInputRead;
  CompleteRun(std::move(finished));
  return absl::OkStatus();
}

void LeaderSession::CompleteRun(RunEvent finished) {
  finished.tokens_read = run_->tokens_read;
  run_->channel->Push(std::move(finished));
  run_->channel->End(absl::OutOfRangeError("the run is over"));
  run_.reset();
}

void LeaderSession::EndRun(const absl::Status& status) {
  run_->channel->End(status);
  if (run_->options.kind == RunKind::kAppend) {
    TakeInput();
  } else {
    input_.Truncate(run_->leftover);
  }
  run_.reset();
}

}  // namespace weir
