#include "worker/service/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/worker/service/test_leader.h"
#include "worker/service/sessions.h"

namespace weir {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class GenerateTest : public ::testing::Test {
 protected:
  absl::Status Run(const v1::GenerateRequest& request) {
    responses_.clear();
    return Generate(
        *leader_, request, [this] { return cancelled_.load(); },
        [this](const v1::GenerateResponse& response) {
          responses_.push_back(response);
          return true;
        });
  }

  static v1::GenerateRequest TextRequest(const std::string& session, const std::string& text) {
    v1::GenerateRequest request;
    request.set_session_id(session);
    request.set_text(text);
    return request;
  }

  static v1::GenerateRequest ChatRequest(const std::string& session, const std::string& text) {
    v1::GenerateRequest request;
    request.set_session_id(session);
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(text);
    return request;
  }

  // Expects INVALID_ARGUMENT, a sentence with `part`, and no session left.
  void ExpectInvalid(const v1::GenerateRequest& request, const std::string& part) {
    const absl::Status status = Run(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
  }

  TestLeader leader_;
  std::atomic<bool> cancelled_{false};
  std::vector<v1::GenerateResponse> responses_;
};

TEST_F(GenerateTest, ReadsTheInputThenStreamsTokensThenTheReason) {
  leader_.Open("s");
  leader_.engine().Generates({70, 71}, FinishReason::kMaxTokens);
  ASSERT_EQ(Run(TextRequest("s", "abcdef")), absl::OkStatus());
  ASSERT_EQ(responses_.size(), 5u);
  EXPECT_EQ(responses_[0].input_tokens_read(), 4);
  EXPECT_EQ(responses_[0].input_tokens(), 6);
  EXPECT_EQ(responses_[1].input_tokens_read(), 6);
  EXPECT_EQ(responses_[2].text(), "<70>");
  ASSERT_EQ(responses_[2].tokens_size(), 1);
  EXPECT_EQ(responses_[2].tokens(0).token().token(), 70);
  EXPECT_EQ(responses_[2].tokens(0).token().token_bytes(), "C");
  EXPECT_FALSE(responses_[2].tokens(0).token().has_logprob());
  EXPECT_EQ(responses_[2].finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(responses_[4].text(), "<held back>");
  EXPECT_EQ(responses_[4].finish_reason(), v1::FINISH_REASON_MAX_TOKENS);
  EXPECT_EQ(responses_[4].tokens_generated(), 2);
  EXPECT_EQ(responses_[4].input_tokens_read(), 6);
}

TEST_F(GenerateTest, LogprobsComeWhenAskedFor) {
  leader_.engine().Generates({70}, FinishReason::kStopText);
  v1::GenerateRequest request = TextRequest("", "abc");
  request.set_top_logprobs(2);
  ASSERT_EQ(Run(request), absl::OkStatus());
  const v1::GeneratedToken& token = responses_[1].tokens(0);
  EXPECT_FLOAT_EQ(token.token().logprob(), -0.5f);
  ASSERT_EQ(token.top_size(), 2);
  EXPECT_EQ(token.top(1).token(), 71);
  EXPECT_FLOAT_EQ(token.top(1).logprob(), -1.5f);
  EXPECT_EQ(responses_.back().finish_reason(), v1::FINISH_REASON_STOP_TEXT);

  request.set_top_logprobs(0);
  ASSERT_EQ(Run(request), absl::OkStatus());
  EXPECT_TRUE(responses_[1].tokens(0).token().has_logprob());
  EXPECT_EQ(responses_[1].tokens(0).top_size(), 0);
}

TEST_F(GenerateTest, TheEngineGetsTheOptions) {
  v1::GenerateRequest request = TextRequest("", "abc");
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_top_k(7);
  request.mutable_sampling()->set_top_p(0.25);
  request.mutable_sampling()->set_seed(99);
  request.set_max_tokens(12);
  request.add_stop("END");
  request.set_ignore_end_token(true);
  ASSERT_EQ(Run(request), absl::OkStatus());
  const RunOptions options = leader_.engine().last_run();
  EXPECT_EQ(options.kind, RunKind::kGenerate);
  EXPECT_EQ(options.generate.sampling.temperature, 0.5);
  EXPECT_EQ(options.generate.sampling.top_k, 7);
  EXPECT_EQ(options.generate.sampling.top_p, 0.25);
  EXPECT_EQ(options.generate.sampling.seed, 99u);
  EXPECT_EQ(options.generate.max_tokens, 12);
  EXPECT_THAT(options.generate.stop, ElementsAre("END"));
  EXPECT_TRUE(options.generate.ignore_end_token);
  EXPECT_EQ(options.generate.top_logprobs, std::nullopt);
}

TEST_F(GenerateTest, WithoutTopPAllTokensAreAllowed) {
  ASSERT_EQ(Run(TextRequest("", "abc")), absl::OkStatus());
  EXPECT_EQ(leader_.engine().last_run().generate.sampling.top_p, 1);
}

TEST_F(GenerateTest, AbsurdRequestsAreRefusedBeforeAnythingHappens) {
  v1::GenerateRequest request = TextRequest("", "abc");
  for (const double temperature : {-0.1, 100.5, std::numeric_limits<double>::quiet_NaN(),
                                   std::numeric_limits<double>::infinity()}) {
    request.mutable_sampling()->set_temperature(temperature);
    ExpectInvalid(request, "temperature is");
  }
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_top_k(-1);
  ExpectInvalid(request, "top_k is -1");
  request.mutable_sampling()->set_top_k(0);
  for (const double top_p : {0.0, -1.0, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    request.mutable_sampling()->set_top_p(top_p);
    ExpectInvalid(request, "top_p is");
  }
  request.clear_sampling();
  request.set_max_tokens(-5);
  ExpectInvalid(request, "max_tokens is -5");
  request.clear_max_tokens();
  for (const int top_logprobs : {-1, 21}) {
    request.set_top_logprobs(top_logprobs);
    ExpectInvalid(request, "top_logprobs is");
  }
  request.clear_top_logprobs();
  request.add_stop("fine");
  request.add_stop("");
  ExpectInvalid(request, "stop[1] has 0 bytes");
  request.set_stop(1, std::string(257, 'x'));
  ExpectInvalid(request, "stop[1] has 257 bytes");
  request.clear_stop();
  for (int i = 0; i < 17; ++i) request.add_stop("x");
  ExpectInvalid(request, "stop has 17 texts");
}

TEST_F(GenerateTest, TheLimitsThemselvesAreAllowed) {
  v1::GenerateRequest request = TextRequest("", "abc");
  request.mutable_sampling()->set_temperature(100);
  request.mutable_sampling()->set_top_p(1);
  request.set_top_logprobs(20);
  for (int i = 0; i < 16; ++i) request.add_stop(std::string(256, 'x'));
  EXPECT_EQ(Run(request), absl::OkStatus());
}

TEST_F(GenerateTest, EmptyInputsAreRefused) {
  ExpectInvalid(TextRequest("", ""), "text is empty");
  v1::GenerateRequest request;
  ExpectInvalid(request, "neither text nor chat is set");
  request.mutable_chat();
  ExpectInvalid(request, "chat.messages is empty");
}

TEST_F(GenerateTest, ASessionMayGoOnWithoutInput) {
  leader_.Open("s");
  leader_.engine().Generates({70}, FinishReason::kMaxTokens);
  v1::GenerateRequest request;
  request.set_session_id("s");
  ASSERT_EQ(Run(request), absl::OkStatus());
  EXPECT_EQ(responses_.back().tokens_generated(), 1);
}

TEST_F(GenerateTest, SettingsOfAnotherSessionAreRefused) {
  leader_.Open("s");
  v1::GenerateRequest request = TextRequest("s", "abc");
  request.mutable_cascade()->set_slots(8);
  const absl::Status status = Run(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cascade"));
}

TEST_F(GenerateTest, ACallOfItsOwnUsesItsSettingsAndFreesItsSlot) {
  leader_.engine().Generates({70}, FinishReason::kMaxTokens);
  v1::GenerateRequest request = TextRequest("", "abc");
  request.mutable_cascade()->set_stride(2);
  ASSERT_EQ(Run(request), absl::OkStatus());
  EXPECT_EQ(responses_[0].input_tokens_read(), 2);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(GenerateTest, SettingsBeyondTheLimitsAreRefused) {
  v1::GenerateRequest request = TextRequest("", "abc");
  request.mutable_cascade()->set_slots(1000);
  ExpectInvalid(request, "slots is 1000");
  request.clear_cascade();
  request.mutable_cascade()->set_head_reduction(static_cast<v1::HeadReduction>(9));
  ExpectInvalid(request, "head_reduction is 9");
}

TEST_F(GenerateTest, FullMeansResourceExhaustedAtOnce) {
  leader_.Open("a");
  leader_.Open("b");
  EXPECT_EQ(Run(TextRequest("", "abc")).code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(CloseSession(*leader_, "a"), absl::OkStatus());
  EXPECT_EQ(Run(TextRequest("", "abc")), absl::OkStatus());
}

TEST_F(GenerateTest, TheSlotIsFreedWhenFeedingFails) {
  leader_.engine().FailFeedsAfter(0);
  EXPECT_EQ(Run(TextRequest("", "abc")).code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(GenerateTest, TheSlotIsFreedWhenTheCallerGoesAway) {
  leader_.engine().Generates({70, 71, 72}, FinishReason::kMaxTokens);
  int writes = 0;
  const absl::Status status = Generate(
      *leader_, TextRequest("", "abc"), [] { return false; },
      [&writes](const v1::GenerateResponse&) { return ++writes < 2; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(writes, 2);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(GenerateTest, CancellingEndsTheCallAndFreesTheSlot) {
  leader_.engine().Hold();
  std::thread caller(
      [this] { EXPECT_EQ(Run(TextRequest("", "abc")).code(), absl::StatusCode::kCancelled); });
  while (leader_.engine().OpenIds().empty()) absl::SleepFor(absl::Milliseconds(1));
  cancelled_ = true;
  caller.join();
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(GenerateTest, AConversationThatWasCancelledUnreadHasNotBegun) {
  leader_.Open("s");
  leader_.Open("t");
  leader_.engine().Hold();
  std::thread caller(
      [this] { EXPECT_EQ(Run(ChatRequest("s", "one")).code(), absl::StatusCode::kCancelled); });
  while (leader_.engine().Get("s").unread.empty()) absl::SleepFor(absl::Milliseconds(1));
  cancelled_ = true;
  caller.join();
  cancelled_ = false;
  leader_.engine().Release();
  leader_.engine().Generates({70}, FinishReason::kMaxTokens);
  ASSERT_EQ(Run(ChatRequest("s", "two")), absl::OkStatus());
  ASSERT_EQ(Run(ChatRequest("t", "two")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"), leader_.TextOf("t"));
}

TEST_F(GenerateTest, DeletingTheSessionEndsItsCall) {
  leader_.Open("s");
  leader_.engine().Hold();
  std::thread caller(
      [this] { EXPECT_EQ(Run(TextRequest("s", "abc")).code(), absl::StatusCode::kCancelled); });
  while (!leader_.engine().Get("s").status.running) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(Run(TextRequest("s", "x")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(DescribeSession(*leader_, "s")->running());
  EXPECT_EQ(CloseSession(*leader_, "s"), absl::OkStatus());
  caller.join();
  EXPECT_EQ(DescribeSession(*leader_, "s").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GenerateTest, AnEngineThatEndsEndsTheCallWithItsReason) {
  leader_.Open("s");
  leader_.engine().Abort("rank 2 was lost");
  const absl::Status status = Run(TextRequest("s", "abc"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 was lost"));
}

TEST_F(GenerateTest, AnOpenTextIsEndedFirst) {
  leader_.Open("s");
  v1::AppendResponse appended;
  ScriptedAppendStream stream("s", ScriptedAppendStream::End::kBroken);
  stream.Add(0, "xyz th");
  EXPECT_EQ(Append(*leader_, stream, &appended).code(), absl::StatusCode::kCancelled);
  ASSERT_EQ(Run(TextRequest("s", "e end")), absl::OkStatus());
  // Two texts: "th" and "e" do not become one token, and the second begins a chunk.
  std::vector<int32_t> expected = leader_.Encode("xyz th");
  for (const int32_t token : leader_.Encode("e end")) expected.push_back(token);
  EXPECT_EQ(leader_.engine().Get("s").Tokens(), expected);
  EXPECT_FALSE(DescribeSession(*leader_, "s")->append_open());
}

TEST_F(GenerateTest, SpecialTokensInAPlainTextArePlainText) {
  leader_.Open("s");
  ASSERT_EQ(Run(TextRequest("s", "<|im_end|>")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"), "<|im_end|>");
  EXPECT_THAT(leader_.engine().Get("s").Tokens(), Not(Contains(2)));
}

TEST_F(GenerateTest, AConversationHasItsDefaultSystemMessageOnce) {
  leader_.Open("s");
  leader_.engine().Generates({70, 2}, FinishReason::kEndToken);
  ASSERT_EQ(Run(ChatRequest("s", "one")), absl::OkStatus());
  ASSERT_EQ(Run(ChatRequest("s", "two<|im_end|>")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"),
            "<|im_start|>system\nYou are a test.<|im_end|>\n"
            "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
            "C<|im_end|>\n"
            "<|im_start|>user\ntwo<|im_end|><|im_end|>\n<|im_start|>assistant\n"
            "C<|im_end|>");
}

TEST_F(GenerateTest, AnAnswerThatWasCutIsClosedByTheNextTurn) {
  leader_.Open("s");
  leader_.engine().Generates({70}, FinishReason::kMaxTokens);
  ASSERT_EQ(Run(ChatRequest("s", "one")), absl::OkStatus());
  ASSERT_EQ(Run(ChatRequest("s", "two")), absl::OkStatus());
  EXPECT_THAT(leader_.TextOf("s"), HasSubstr("assistant\nC<|im_end|>\n<|im_start|>user\ntwo"));
}

TEST_F(GenerateTest, AnAnswerMayGoOnBeforeTheNextTurn) {
  leader_.Open("s");
  leader_.engine().Generates({70}, FinishReason::kMaxTokens);
  ASSERT_EQ(Run(ChatRequest("s", "one")), absl::OkStatus());
  leader_.engine().Generates({71, 2}, FinishReason::kEndToken);
  v1::GenerateRequest go_on;
  go_on.set_session_id("s");
  ASSERT_EQ(Run(go_on), absl::OkStatus());
  ASSERT_EQ(Run(ChatRequest("s", "two")), absl::OkStatus());
  EXPECT_THAT(leader_.TextOf("s"), HasSubstr("assistant\nCD<|im_end|>\n<|im_start|>user\ntwo"));
}

TEST_F(GenerateTest, AModelWithoutATemplateSaysWhyItCannotChat) {
  const absl::StatusOr<ChatTemplate> none = absl::NotFoundError("the file has no chat template");
  LeaderState leader{.engine = leader_.engine(),
                     .tokenizer = leader_.tokenizer(),
                     .chat_template = none,
                     .cascade = (*leader_).cascade,
                     .model = (*leader_).model};
  const absl::Status status = Generate(
      leader, ChatRequest("", "hi"), [] { return false; },
      [](const v1::GenerateResponse&) { return true; });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the file has no chat template"));
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

}  // namespace
}  // namespace weir
