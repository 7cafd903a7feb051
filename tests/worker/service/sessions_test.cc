#include "worker/service/sessions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/worker/service/test_leader.h"
#include "worker/service/tokenize.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SessionsTest : public ::testing::Test {
 protected:
  absl::Status Inspect(const std::string& id, std::vector<int> layers) {
    v1::InspectSessionRequest request;
    request.set_session_id(id);
    for (const int layer : layers) request.add_layers(layer);
    inspected_.clear();
    return InspectSession(*leader_, request, [this](const v1::InspectSessionResponse& response) {
      inspected_.push_back(response);
      return true;
    });
  }

  TestLeader leader_;
  std::vector<v1::InspectSessionResponse> inspected_;
};

TEST_F(SessionsTest, ANewSessionHasTheDefaultsAndWhatItAskedFor) {
  v1::CascadeSettings settings;
  settings.set_slots(8);
  settings.set_beta(0.5);
  settings.set_head_reduction(v1::HEAD_REDUCTION_MEAN);
  const int64_t before = absl::ToUnixSeconds(absl::Now());
  const absl::StatusOr<v1::Session> session = OpenSession(*leader_, "s", settings);
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->id(), "s");
  EXPECT_EQ(session->model(), "test-model");
  EXPECT_EQ(session->cascade().sinks(), 2);
  EXPECT_EQ(session->cascade().slots(), 8);
  EXPECT_EQ(session->cascade().sub_caches(), 2);
  EXPECT_EQ(session->cascade().stride(), 4);
  EXPECT_EQ(session->cascade().beta(), 0.5);
  EXPECT_EQ(session->cascade().head_reduction(), v1::HEAD_REDUCTION_MEAN);
  EXPECT_EQ(session->cache_bytes(), 3000);
  EXPECT_GE(session->create_time().seconds(), before);
  EXPECT_LE(session->create_time().seconds(), before + 60);
  EXPECT_FALSE(session->running());
}

TEST_F(SessionsTest, RefusedSessionsLeaveNothingBehind) {
  EXPECT_EQ(OpenSession(*leader_, "", {}).status().code(), absl::StatusCode::kInvalidArgument);
  v1::CascadeSettings settings;
  settings.set_slots(1000);
  EXPECT_EQ(OpenSession(*leader_, "s", settings).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DescribeSession(*leader_, "s").status().code(), absl::StatusCode::kNotFound);
  leader_.Open("s");
  EXPECT_EQ(OpenSession(*leader_, "s", {}).status().code(), absl::StatusCode::kAlreadyExists);
  leader_.Open("t");
  EXPECT_EQ(OpenSession(*leader_, "u", {}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(leader_.engine().OpenIds(), ElementsAre("s", "t"));
  EXPECT_EQ(DescribeModel(*leader_).sessions_open(), 2);
}

TEST_F(SessionsTest, ADeletedSessionIsGone) {
  leader_.Open("s");
  ASSERT_EQ(CloseSession(*leader_, "s"), absl::OkStatus());
  EXPECT_EQ(CloseSession(*leader_, "s").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
  leader_.Open("s");  // the id is free again
}

TEST_F(SessionsTest, InspectTellsEveryLayerOrTheOnesAskedFor) {
  leader_.Open("s");
  ASSERT_EQ(Inspect("s", {}), absl::OkStatus());
  ASSERT_EQ(inspected_.size(), 5u);
  for (int layer = 0; layer < 5; ++layer) EXPECT_EQ(inspected_[layer].layer(), layer);
  ASSERT_EQ(Inspect("s", {3, 1}), absl::OkStatus());
  ASSERT_EQ(inspected_.size(), 2u);
  EXPECT_EQ(inspected_[0].layer(), 3);
  const v1::HeadMemory& head = inspected_[0].heads(0);
  EXPECT_THAT(head.tokens(), ElementsAre(0, 3));
  EXPECT_THAT(head.scores(), ElementsAre(1.0f, 0.5f));
  EXPECT_THAT(head.sub_caches(), ElementsAre(-1, 2));
}

TEST_F(SessionsTest, InspectRefusesUnknownLayersAndBusySessions) {
  leader_.Open("s");
  for (const int layer : {-1, 5}) {
    const absl::Status status = Inspect("s", {0, layer});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("layers[1]"));
  }
  EXPECT_EQ(Inspect("other", {}).code(), absl::StatusCode::kNotFound);
  const absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
  EXPECT_EQ(Inspect("s", {}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SessionsTest, ALeaseIsGivenBack) {
  leader_.Open("s");
  {
    const absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
    EXPECT_TRUE(DescribeSession(*leader_, "s")->running());
  }
  EXPECT_FALSE(DescribeSession(*leader_, "s")->running());
}

TEST_F(SessionsTest, ALeaseOfADeletedSessionDoesNotFreeItsSuccessor) {
  leader_.Open("s");
  absl::StatusOr<SessionLease> old = (*leader_).sessions.Acquire("s");
  ASSERT_EQ(CloseSession(*leader_, "s"), absl::OkStatus());
  bool interrupted = false;
  old->OnRemoved([&interrupted] { interrupted = true; });
  EXPECT_TRUE(interrupted);
  leader_.Open("s");
  const absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
  ASSERT_TRUE(lease.ok());
  old = absl::CancelledError("given back");
  EXPECT_TRUE(DescribeSession(*leader_, "s")->running());
}

TEST_F(SessionsTest, TokenizeGoesThereAndBack) {
  v1::TokenizeRequest request;
  request.set_text("the hen<|im_end|>");
  const absl::StatusOr<v1::TokenizeResponse> plain = Tokenize(leader_.tokenizer(), request);
  ASSERT_TRUE(plain.ok());
  request.set_parse_special(true);
  const absl::StatusOr<v1::TokenizeResponse> special = Tokenize(leader_.tokenizer(), request);
  ASSERT_TRUE(special.ok());
  EXPECT_LT(special->tokens_size(), plain->tokens_size());
  EXPECT_EQ(special->tokens(special->tokens_size() - 1), 2);
  for (const auto& tokenized : {*plain, *special}) {
    std::string joined;
    for (const std::string& bytes : tokenized.token_bytes()) joined += bytes;
    EXPECT_EQ(joined, "the hen<|im_end|>");
    v1::DetokenizeRequest back;
    *back.mutable_tokens() = tokenized.tokens();
    EXPECT_EQ(Detokenize(leader_.tokenizer(), back)->text(), "the hen<|im_end|>");
  }
}

TEST_F(SessionsTest, DetokenizeNamesWhatIsNoToken) {
  v1::DetokenizeRequest request;
  request.add_tokens(5);
  request.add_tokens(267);
  const absl::Status status = Detokenize(leader_.tokenizer(), request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokens[1] is 267"));
}

}  // namespace
}  // namespace weir
