#include "worker/service/append.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "worker/service/sessions.h"

namespace weir {
namespace {

// Tokens given to the engine at once: keeps a large piece from lying in its queue as a whole.
constexpr size_t kFeedTokens = 4096;

absl::StatusOr<std::unique_ptr<Run>> StartAppendRun(LeaderState& leader,
                                                    const HostedSession& session,
                                                    const std::function<bool()>& cancelled) {
  return leader.engine.StartRun(session.id,
                                {.kind = RunKind::kAppend, .generate = {}, .cancelled = cancelled});
}

absl::Status FeedPending(HostedSession& session, Run& run) {
  std::vector<int32_t>& pending = session.text.pending();
  absl::Status status;
  size_t fed = 0;
  while (status.ok() && fed < pending.size()) {
    const auto next = absl::MakeConstSpan(pending).subspan(fed, kFeedTokens);
    status = run.Feed(next);
    if (status.ok()) fed += next.size();
  }
  if (fed > 0) session.AddedTokens();
  pending.erase(pending.begin(), pending.begin() + static_cast<int64_t>(fed));
  return status;
}

// Reads the text, which is kEnding, to its end. Returns the tokens that the run read.
absl::StatusOr<int64_t> ReadToEnd(HostedSession& session, Run& run) {
  absl::Status status = FeedPending(session, run);
  if (status.ok()) status = run.CloseInput();
  if (!status.ok()) return status;
  while (true) {
    const absl::StatusOr<RunEvent> event = run.Next();
    if (!event.ok()) return event.status();
    if (event->kind == RunEvent::Kind::kFinished) {
      session.text.Ended();
      return event->tokens_read;
    }
  }
}

// Receives one message.
absl::Status Receive(HostedSession& session, const v1::AppendRequest& request) {
  if (!request.session_id().empty() && request.session_id() != session.id) {
    return absl::InvalidArgumentError(absl::StrCat("session_id is \"", request.session_id(),
                                                   "\" in a stream that began with \"", session.id,
                                                   "\"; a stream appends to one session"));
  }
  return session.text.Receive(request.offset(), request.text(), !session.has_tokens);
}

absl::Status Broken() {
  return absl::CancelledError("the stream broke; what was received of the text stays");
}

// Receives all messages, `request` being the first, and gives their tokens to the run. OK when the
// client closed the stream; the text is kEnding if a message said so.
absl::Status ReceiveAll(HostedSession& session, AppendStream& stream, v1::AppendRequest& request,
                        Run& run) {
  bool ended = false;
  do {
    if (ended) {
      return absl::InvalidArgumentError(absl::StrCat("the piece at offset ", request.offset(),
                                                     " follows the one with end_of_text"));
    }
    absl::Status received = Receive(session, request);
    ended = request.end_of_text();
    if (ended && received.ok()) received = session.text.End();
    // What came before a fault belongs to the session all the same.
    const absl::Status fed = FeedPending(session, run);
    if (!received.ok()) return received;
    if (!fed.ok()) return fed;
  } while (stream.Read(&request));
  return stream.cancelled()() ? Broken() : absl::OkStatus();
}

}  // namespace

absl::Status Append(LeaderState& leader, AppendStream& stream, v1::AppendResponse* response) {
  v1::AppendRequest request;
  if (!stream.Read(&request)) {
    if (stream.cancelled()()) return Broken();
    return absl::InvalidArgumentError(
        "the stream has no message; the first one must name the session");
  }
  absl::StatusOr<SessionLease> lease = leader.sessions.Acquire(request.session_id());
  if (!lease.ok()) return lease.status();
  lease->OnRemoved([&stream] { stream.Cancel(); });
  HostedSession& session = **lease;
  const std::function<bool()> cancelled = stream.cancelled();

  int64_t tokens_read = 0;
  if (session.text.state() == AppendedText::State::kEnding) {
    // The last text was whole, but its call broke before it was read. New bytes are another text.
    const absl::StatusOr<int64_t> read = EndAppendedText(leader, session, cancelled);
    if (!read.ok()) return read.status();
    tokens_read += *read;
  }
  absl::StatusOr<std::unique_ptr<Run>> run = StartAppendRun(leader, session, cancelled);
  if (!run.ok()) return run.status();
  const absl::Status status = ReceiveAll(session, stream, request, **run);
  session.text.Break();
  if (!status.ok()) return status;

  if (session.text.state() == AppendedText::State::kEnding) {
    const absl::StatusOr<int64_t> read = ReadToEnd(session, **run);
    if (!read.ok()) return read.status();
    tokens_read += *read;
  }
  run->reset();

  absl::StatusOr<v1::Session> described = DescribeSession(leader, session.id);
  if (!described.ok()) return described.status();
  *response->mutable_session() = *std::move(described);
  // The session is free again when the caller has the answer.
  response->mutable_session()->set_running(false);
  response->set_tokens_read(tokens_read);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> EndAppendedText(LeaderState& leader, HostedSession& session,
                                        const std::function<bool()>& cancelled) {
  const absl::Status ended = session.text.End();
  if (!ended.ok()) return ended;
  if (session.text.state() == AppendedText::State::kNone) return 0;
  const absl::StatusOr<std::unique_ptr<Run>> run = StartAppendRun(leader, session, cancelled);
  if (!run.ok()) return run.status();
  return ReadToEnd(session, **run);
}

}  // namespace weir
