// Calls of a session, from gRPC to the engine and back.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "tests/worker/service/worker_server_fixture.h"
#include "weir/worker/v1/worker.grpc.pb.h"
#include "worker/service/worker_server.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

using WorkerCallsTest = WorkerServerTest;

TEST_F(WorkerCallsTest, BrokenAppendsGiveTheSessionOfAnUnbrokenOne) {
  StartGroup(1);
  const std::string text = LongText();
  Open("whole");
  ASSERT_TRUE(Append("whole", text, 0, text.size(), true).ok());
  Open("broken");
  for (const size_t to : {101, 400, 401, 777}) {
    const size_t from = Describe("broken").appended_bytes();
    EXPECT_EQ(Append("broken", text, from / 2, to, false).error_code(),
              grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(Describe("broken").append_open());
  }
  const size_t from = Describe("broken").appended_bytes();
  ASSERT_TRUE(Append("broken", text, from, text.size(), true).ok());
  EXPECT_EQ(Describe("broken").tokens_seen(), Describe("whole").tokens_seen());
  EXPECT_GT(Describe("whole").tokens_seen(), 4 * Describe("whole").tokens_cached());
  EXPECT_EQ(InspectAll("broken"), InspectAll("whole"));
  EXPECT_EQ(Generate(Twenty("broken")).tokens, Generate(Twenty("whole")).tokens);
}

TEST_F(WorkerCallsTest, ACallOfItsOwnEqualsASession) {
  StartGroup(1);
  v1::GenerateRequest request = Twenty("");
  request.set_text(LongText());
  const Generated own = Generate(request);
  ASSERT_TRUE(own.status.ok()) << own.status.error_message();
  EXPECT_EQ(own.tokens.size(), 20u);
  EXPECT_EQ(own.reason, v1::FINISH_REASON_MAX_TOKENS);
  Open("s");
  request.set_session_id("s");
  EXPECT_EQ(Generate(request).tokens, own.tokens);
  // Every slot is free again, many times over.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Generate(Twenty("s")).tokens.size(), 20u);
}

TEST_F(WorkerCallsTest, AnEmptySessionHasNothingToGenerateFrom) {
  StartGroup(1);
  Open("s");
  EXPECT_EQ(Generate(Twenty("s")).status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  v1::GenerateRequest chat = Twenty("s");
  v1::ChatMessage* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello");
  EXPECT_TRUE(Generate(chat).status.ok());
  EXPECT_EQ(Generate(chat).tokens.size(), 20u);
}

TEST_F(WorkerCallsTest, ALongGenerationEndsWhenItsSessionIsDeleted) {
  StartGroup(1);
  Open("s");
  v1::GenerateRequest request = Twenty("s");
  request.set_text("the hen");
  request.set_max_tokens(0);
  Generated generated;
  std::thread caller([&] { generated = Generate(request); });
  while (Describe("s").tokens_seen() < 50) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext context;
  worker::v1::CloseSessionRequest close;
  close.set_session_id("s");
  worker::v1::CloseSessionResponse closed;
  EXPECT_TRUE(stub_->CloseSession(&context, close, &closed).ok());
  caller.join();
  EXPECT_EQ(generated.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_GE(generated.tokens.size(), 20u);
}

TEST_F(WorkerCallsTest, ThreeRanksGenerateWhatOneDoes) {
  v1::GenerateRequest request = Twenty("");
  request.set_text(LongText());
  StartGroup(1);
  const Generated one = Generate(request);
  workers_.clear();
  ASSERT_TRUE(coordinator_.WaitForNobody());

  StartGroup(3);
  const Generated three = Generate(request);
  ASSERT_TRUE(three.status.ok()) << three.status.error_message();
  EXPECT_EQ(three.tokens, one.tokens);

  // Others than the leader take no calls and say who does.
  auto follower = worker::v1::WorkerService::NewStub(Channel(1));
  grpc::ClientContext context;
  worker::v1::DescribeModelResponse response;
  const grpc::Status status = follower->DescribeModel(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("rank 0 takes the calls"));
}

TEST_F(WorkerCallsTest, ARequestThatIsTooLongIsRefused) {
  StartGroup(1);
  v1::GenerateRequest request = Twenty("");
  request.set_text(std::string(WorkerServer::kMaxRequestBytes + 1, 'x'));
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace weir
