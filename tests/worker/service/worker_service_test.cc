#include "worker/service/worker_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/worker/service/test_leader.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WorkerServiceTest : public ::testing::Test {
 protected:
  WorkerServiceTest() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = worker::v1::WorkerService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
    service_.Lead(&*leader_);
  }
  ~WorkerServiceTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status Open(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::OpenSessionRequest request;
    request.set_session_id(id);
    worker::v1::OpenSessionResponse response;
    return stub_->OpenSession(&context, request, &response);
  }

  v1::Session Describe(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::DescribeSessionRequest request;
    request.set_session_id(id);
    worker::v1::DescribeSessionResponse response;
    EXPECT_TRUE(stub_->DescribeSession(&context, request, &response).ok());
    return response.session();
  }

  grpc::Status Close(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::CloseSessionRequest request;
    request.set_session_id(id);
    worker::v1::CloseSessionResponse response;
    return stub_->CloseSession(&context, request, &response);
  }

  static worker::v1::GenerateRequest GenerateText(const std::string& id) {
    worker::v1::GenerateRequest request;
    request.mutable_request()->set_session_id(id);
    request.mutable_request()->set_text("abcdef");
    return request;
  }

  // Generates until the end; the stream's status.
  grpc::Status Generate(grpc::ClientContext& context, const std::string& id) {
    auto reader = stub_->Generate(&context, GenerateText(id));
    worker::v1::GenerateResponse response;
    text_.clear();
    while (reader->Read(&response)) text_ += response.response().text();
    return reader->Finish();
  }

  void WaitUntilRunning(const std::string& id) {
    while (!leader_.engine().Get(id).status.running) absl::SleepFor(absl::Milliseconds(1));
  }
  void WaitUntilFree(const std::string& id) {
    while (Describe(id).running()) absl::SleepFor(absl::Milliseconds(1));
  }

  TestLeader leader_;
  WorkerService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<worker::v1::WorkerService::Stub> stub_;
  std::string text_;
};

TEST_F(WorkerServiceTest, AllCallsReachTheLeader) {
  leader_.engine().Generates({70, 71}, FinishReason::kMaxTokens);
  ASSERT_TRUE(Open("s").ok());
  EXPECT_EQ(Describe("s").id(), "s");
  {
    grpc::ClientContext context;
    EXPECT_TRUE(Generate(context, "s").ok());
    EXPECT_EQ(text_, "<70><71><held back>");
  }
  {
    grpc::ClientContext context;
    worker::v1::AppendResponse response;
    auto writer = stub_->Append(&context, &response);
    worker::v1::AppendRequest request;
    request.mutable_request()->set_session_id("s");
    request.mutable_request()->set_text("xyz");
    request.mutable_request()->set_end_of_text(true);
    writer->Write(request);
    writer->WritesDone();
    ASSERT_TRUE(writer->Finish().ok());
    EXPECT_EQ(response.response().tokens_read(), 3);
  }
  {
    grpc::ClientContext context;
    worker::v1::ScoreRequest request;
    request.mutable_request()->set_text("abcdef");
    auto reader = stub_->Score(&context, request);
    worker::v1::ScoreResponse response;
    int tokens = 0;
    while (reader->Read(&response)) tokens += response.response().tokens_size();
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(tokens, 6);
  }
  {
    grpc::ClientContext context;
    worker::v1::InspectRequest request;
    request.mutable_request()->set_session_id("s");
    auto reader = stub_->Inspect(&context, request);
    worker::v1::InspectResponse response;
    int layers = 0;
    while (reader->Read(&response)) ++layers;
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(layers, 5);
  }
  {
    grpc::ClientContext context;
    worker::v1::TokenizeRequest request;
    request.mutable_request()->set_text("abc");
    worker::v1::TokenizeResponse response;
    ASSERT_TRUE(stub_->Tokenize(&context, request, &response).ok());
    EXPECT_EQ(response.response().tokens_size(), 3);
    grpc::ClientContext back_context;
    worker::v1::DetokenizeRequest back;
    *back.mutable_request()->mutable_tokens() = response.response().tokens();
    worker::v1::DetokenizeResponse text;
    ASSERT_TRUE(stub_->Detokenize(&back_context, back, &text).ok());
    EXPECT_EQ(text.response().text(), "abc");
  }
  {
    grpc::ClientContext context;
    worker::v1::DescribeModelResponse response;
    ASSERT_TRUE(stub_->DescribeModel(&context, {}, &response).ok());
    EXPECT_EQ(response.model().name(), "test-model");
    EXPECT_EQ(response.model().sessions_open(), 1);
  }
  EXPECT_TRUE(Close("s").ok());
  EXPECT_EQ(Close("s").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(WorkerServiceTest, CancellingACallFreesItsSession) {
  ASSERT_TRUE(Open("s").ok());
  leader_.engine().Hold();
  grpc::ClientContext context;
  std::thread caller(
      [&] { EXPECT_EQ(Generate(context, "s").error_code(), grpc::StatusCode::CANCELLED); });
  WaitUntilRunning("s");
  context.TryCancel();
  caller.join();
  WaitUntilFree("s");
}

TEST_F(WorkerServiceTest, ADeadlineFreesTheSlotOfACallOfItsOwn) {
  leader_.engine().Hold();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  EXPECT_EQ(Generate(context, "").error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  while (!leader_.engine().OpenIds().empty()) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(WorkerServiceTest, ASecondCallOnASessionIsRefused) {
  ASSERT_TRUE(Open("s").ok());
  grpc::ClientContext context;
  worker::v1::AppendResponse response;
  auto writer = stub_->Append(&context, &response);
  worker::v1::AppendRequest request;
  request.mutable_request()->set_session_id("s");
  request.mutable_request()->set_text("xyz");
  writer->Write(request);
  while (!Describe("s").running()) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext second;
  EXPECT_EQ(Generate(second, "s").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  writer->WritesDone();
  EXPECT_TRUE(writer->Finish().ok());
}

TEST_F(WorkerServiceTest, ABrokenAppendIsNotAClosedOne) {
  ASSERT_TRUE(Open("s").ok());
  for (int trial = 0; trial < 200; ++trial) {
    grpc::ClientContext context;
    worker::v1::AppendResponse response;
    auto writer = stub_->Append(&context, &response);
    worker::v1::AppendRequest request;
    request.mutable_request()->set_session_id("s");
    request.mutable_request()->set_offset(trial);
    request.mutable_request()->set_text("x");
    writer->Write(request);
    while (Describe("s").appended_bytes() == trial) std::this_thread::yield();
    context.TryCancel();
    writer->Finish();
    WaitUntilFree("s");
    ASSERT_TRUE(Describe("s").append_open());
  }
  EXPECT_THAT(leader_.engine().Get("s").text_ends, IsEmpty());
}

TEST_F(WorkerServiceTest, DeletingASessionBreaksAnAppendThatWaitsForItsClient) {
  ASSERT_TRUE(Open("s").ok());
  grpc::ClientContext context;
  worker::v1::AppendResponse response;
  auto writer = stub_->Append(&context, &response);
  worker::v1::AppendRequest request;
  request.mutable_request()->set_session_id("s");
  writer->Write(request);
  WaitUntilRunning("s");
  EXPECT_TRUE(Close("s").ok());
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerServiceTest, WithoutALeaderCallsAreUnavailableAndSayWhy) {
  service_.Withdraw(absl::UnavailableError("rank 2 was lost"), absl::ZeroDuration());
  const grpc::Status status = Open("s");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "rank 2 was lost");
  service_.Lead(&*leader_);
  EXPECT_TRUE(Open("s").ok());
}

TEST_F(WorkerServiceTest, WithdrawingEndsCallsThatDoNotEndByThemselves) {
  ASSERT_TRUE(Open("s").ok());
  ASSERT_TRUE(Open("t").ok());
  leader_.engine().Hold();
  grpc::ClientContext append_context;
  worker::v1::AppendResponse response;
  auto writer = stub_->Append(&append_context, &response);
  worker::v1::AppendRequest request;
  request.mutable_request()->set_session_id("s");
  writer->Write(request);
  WaitUntilRunning("s");
  grpc::ClientContext context;
  std::thread caller([&] {
    const grpc::Status status = Generate(context, "t");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), HasSubstr("rank 2 was lost"));
  });
  WaitUntilRunning("t");
  leader_.engine().Abort("rank 2 was lost");
  service_.Withdraw(absl::UnavailableError("rank 2 was lost"), absl::Milliseconds(200));
  caller.join();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace weir
