#include "worker/service/score.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/tokenizer.h"
#include "worker/service/append.h"
#include "worker/service/call_session.h"
#include "worker/service/token_logprob.h"

namespace weir {

absl::Status Score(LeaderState& leader, const v1::ScoreRequest& request,
                   const std::function<bool()>& cancelled,
                   const std::function<bool(const v1::ScoreResponse&)>& write) {
  if (request.text().empty()) {
    return absl::InvalidArgumentError("text is empty; a score needs at least one token");
  }
  const absl::StatusOr<CallSession> session = CallSession::Open(
      leader, request.session_id(), request.has_cascade() ? &request.cascade() : nullptr);
  if (!session.ok()) return session.status();
  HostedSession& hosted = **session;
  const absl::StatusOr<int64_t> ended = EndAppendedText(leader, hosted, cancelled);
  if (!ended.ok()) return ended.status();
  const absl::StatusOr<std::vector<int32_t>> tokens = leader.tokenizer.Encode(
      request.text(), {.add_bos = !hosted.has_tokens && leader.tokenizer.adds_bos()});
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty()) {
    return absl::InvalidArgumentError("the model has no token for any part of the text");
  }
  const absl::StatusOr<std::unique_ptr<Run>> run = leader.engine.StartRun(
      hosted.id, {.kind = RunKind::kScore, .generate = {}, .cancelled = cancelled});
  if (!run.ok()) return run.status();

  absl::Status status = (*run)->Feed(*tokens);
  if (status.ok()) status = (*run)->CloseInput();
  if (!status.ok()) return status;
  while (true) {
    const absl::StatusOr<RunEvent> event = (*run)->Next();
    if (!event.ok()) return event.status();
    // Not before: of a run that ends without an event, nothing was read.
    hosted.AddedTokens();
    if (event->kind == RunEvent::Kind::kFinished) return absl::OkStatus();
    if (event->kind != RunEvent::Kind::kScores) continue;
    v1::ScoreResponse response;
    response.set_tokens_total(static_cast<int64_t>(tokens->size()));
    for (const TokenLogprob& token : event->scores) {
      SetTokenLogprob(leader.tokenizer, token, response.add_tokens());
    }
    if (!write(response)) return absl::CancelledError("the caller went away");
  }
}

}  // namespace weir
