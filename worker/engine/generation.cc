#include "worker/engine/generation.h"

#include <utility>

#include "worker/engine/sampler.h"

namespace weir {

Generation::Generation(const GenerateOptions& options, const Tokenizer* tokenizer)
    : options_(options), tokenizer_(tokenizer), text_(*tokenizer), stop_(options.stop) {}

absl::StatusOr<Generation::Outcome> Generation::Next(const LogitsSummary& summary, int64_t index) {
  const absl::StatusOr<TokenLogit> chosen = ChooseToken(summary, options_.sampling, index);
  if (!chosen.ok()) return chosen.status();
  const int32_t token = chosen->token;
  ++tokens_generated_;

  Outcome outcome;
  outcome.token.kind = RunEvent::Kind::kToken;
  outcome.token.token = token;
  if (options_.top_logprobs.has_value()) {
    Logprobs logprobs = ComputeLogprobs(summary, chosen->logit, *options_.top_logprobs);
    outcome.token.logprob = logprobs.token;
    outcome.token.top_logprobs = std::move(logprobs.top);
  }
  if (!tokenizer_->IsSpecial(token)) outcome.token.text = stop_.Append(text_.Append(token));

  std::optional<FinishReason> reason;
  if (stop_.found()) {
    reason = FinishReason::kStopText;
  } else if (!options_.ignore_end_token && tokenizer_->IsEndToken(token)) {
    reason = FinishReason::kEndToken;
  } else if (options_.max_tokens > 0 && tokens_generated_ >= options_.max_tokens) {
    reason = FinishReason::kMaxTokens;
  }
  if (!reason.has_value()) return outcome;

  outcome.finished.emplace();
  outcome.finished->kind = RunEvent::Kind::kFinished;
  outcome.finished->reason = *reason;
  outcome.finished->tokens_generated = tokens_generated_;
  if (*reason != FinishReason::kStopText) {
    outcome.finished->text = stop_.Append(text_.Finish());
    if (!stop_.found()) outcome.finished->text += stop_.Finish();
  }
  return outcome;
}

}  // namespace weir
