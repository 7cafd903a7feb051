#include "worker/service/generate.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "worker/model/chat_template.h"
#include "worker/model/tokenizer.h"
#include "worker/service/append.h"
#include "worker/service/call_session.h"
#include "worker/service/generate_options.h"
#include "worker/service/token_logprob.h"

namespace weir {
namespace {

absl::Status CheckInput(const v1::GenerateRequest& request) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      if (!request.text().empty()) return absl::OkStatus();
      return absl::InvalidArgumentError(
          "text is empty; leave it out to go on from what the session has read");
    case v1::GenerateRequest::kChat:
      if (request.chat().messages_size() > 0) return absl::OkStatus();
      return absl::InvalidArgumentError("chat.messages is empty; it needs at least one message");
    case v1::GenerateRequest::INPUT_NOT_SET:
      if (!request.session_id().empty()) return absl::OkStatus();
      return absl::InvalidArgumentError(
          "neither text nor chat is set; a call without a session needs one to begin with");
  }
  return absl::InvalidArgumentError("the input is of an unknown kind");
}

absl::StatusOr<std::vector<int32_t>> ChatTokens(const LeaderState& leader, ChatPlace place,
                                                const v1::ChatMessages& chat) {
  if (!leader.chat_template.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model cannot chat: ", leader.chat_template.status().message()));
  }
  std::vector<ChatSegment> segments;
  if (place != ChatPlace::kBegin) {
    segments = leader.chat_template->AnswerEnd();
    // Its first segment is the end token, which the session has after a whole answer.
    if (place == ChatPlace::kAfterAnswer) segments.erase(segments.begin());
  }
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({.role = message.role(), .content = message.content()});
  }
  for (ChatSegment& segment :
       leader.chat_template->Render(messages, /*first_in_session=*/place == ChatPlace::kBegin,
                                    /*add_generation_prompt=*/true)) {
    segments.push_back(std::move(segment));
  }
  return EncodeSegments(leader.tokenizer, segments);
}

absl::StatusOr<std::vector<int32_t>> InputTokens(const LeaderState& leader,
                                                 const HostedSession& session,
                                                 const v1::GenerateRequest& request) {
  if (request.has_text()) {
    return leader.tokenizer.Encode(request.text(),
                                   {.add_bos = !session.has_tokens && leader.tokenizer.adds_bos()});
  }
  if (request.has_chat()) return ChatTokens(leader, session.chat, request.chat());
  return std::vector<int32_t>();
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kMaxTokens:
      return v1::FINISH_REASON_MAX_TOKENS;
    case FinishReason::kEndToken:
      return v1::FINISH_REASON_END_TOKEN;
    case FinishReason::kStopText:
      return v1::FINISH_REASON_STOP_TEXT;
    case FinishReason::kInputRead:
      break;  // no way for a generation to end
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void AddToken(const Tokenizer& tokenizer, const RunEvent& event, bool with_logprobs,
              v1::GenerateResponse& response) {
  v1::GeneratedToken* generated = response.add_tokens();
  v1::TokenLogprob* token = generated->mutable_token();
  if (!with_logprobs) {
    SetToken(tokenizer, event.token, token);
    return;
  }
  SetTokenLogprob(tokenizer, {.token = event.token, .logprob = event.logprob}, token);
  for (const TokenLogprob& top : event.top_logprobs) {
    SetTokenLogprob(tokenizer, top, generated->add_top());
  }
}

v1::GenerateResponse ToProto(const LeaderState& leader, const RunEvent& event, int64_t input_tokens,
                             bool with_logprobs) {
  v1::GenerateResponse response;
  response.set_input_tokens(input_tokens);
  switch (event.kind) {
    case RunEvent::Kind::kProgress:
      response.set_input_tokens_read(event.tokens_read);
      break;
    case RunEvent::Kind::kToken:
      response.set_input_tokens_read(input_tokens);
      response.set_text(event.text);
      AddToken(leader.tokenizer, event, with_logprobs, response);
      break;
    case RunEvent::Kind::kFinished:
      response.set_input_tokens_read(input_tokens);
      response.set_text(event.text);
      response.set_finish_reason(ToProto(event.reason));
      response.set_tokens_generated(event.tokens_generated);
      break;
    case RunEvent::Kind::kScores:
      break;  // only runs that score have them
  }
  return response;
}

}  // namespace

absl::Status Generate(LeaderState& leader, const v1::GenerateRequest& request,
                      const std::function<bool()>& cancelled,
                      const std::function<bool(const v1::GenerateResponse&)>& write) {
  const absl::StatusOr<GenerateOptions> options = GenerateOptionsFromProto(request);
  if (!options.ok()) return options.status();
  if (const absl::Status input = CheckInput(request); !input.ok()) return input;
  const absl::StatusOr<CallSession> session = CallSession::Open(
      leader, request.session_id(), request.has_cascade() ? &request.cascade() : nullptr);
  if (!session.ok()) return session.status();

  HostedSession& hosted = **session;
  const absl::StatusOr<int64_t> ended = EndAppendedText(leader, hosted, cancelled);
  if (!ended.ok()) return ended.status();
  const absl::StatusOr<std::vector<int32_t>> input = InputTokens(leader, hosted, request);
  if (!input.ok()) return input.status();
  const absl::StatusOr<std::unique_ptr<Run>> run = leader.engine.StartRun(
      hosted.id, {.kind = RunKind::kGenerate, .generate = *options, .cancelled = cancelled});
  if (!run.ok()) return run.status();

  absl::Status status;
  if (!input->empty()) status = (*run)->Feed(*input);
  if (status.ok()) status = (*run)->CloseInput();
  if (!status.ok()) return status;

  while (true) {
    const absl::StatusOr<RunEvent> event = (*run)->Next();
    if (!event.ok()) return event.status();
    // Not before: of a run that ends without an event, nothing was read.
    if (request.has_chat()) hosted.chat = ChatPlace::kAfterCutAnswer;
    hosted.AddedTokens();
    const bool finished = event->kind == RunEvent::Kind::kFinished;
    if (finished && event->reason == FinishReason::kEndToken && hosted.chat != ChatPlace::kBegin) {
      hosted.chat = ChatPlace::kAfterAnswer;
    }
    const bool with_logprobs = options->top_logprobs.has_value();
    if (!write(ToProto(leader, *event, static_cast<int64_t>(input->size()), with_logprobs))) {
      return absl::CancelledError("the caller went away");
    }
    if (finished) return absl::OkStatus();
  }
}

}  // namespace weir
