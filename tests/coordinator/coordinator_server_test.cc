#include "coordinator/coordinator_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/coordinator/coordinator_fixture.h"
#include "tests/coordinator/fake_worker.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using CoordinatorServerTest = CoordinatorFixture;

TEST_F(CoordinatorServerTest, OversizeRequestsAreRefused) {
  AddGroup(1);
  const int largest = CoordinatorServer::kMaxRequestBytes - 100;
  EXPECT_TRUE(Generate("", std::string(largest, 'x')).ok());
  const grpc::Status status = Generate("", std::string(largest + 101, 'x'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat(CoordinatorServer::kMaxRequestBytes)));
  EXPECT_TRUE(Generate("", "x").ok());
}

TEST_F(CoordinatorServerTest, OneCallTooManyIsRefusedAtOnce) {
  AddGroup(1);
  v1::GenerateRequest request;
  request.set_text("wait");
  request.set_max_tokens(1);
  v1::GenerateResponse response;
  std::vector<grpc::ClientContext> contexts(kMaxCalls);
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (grpc::ClientContext& context : contexts) {
    readers.push_back(generation_->Generate(&context, request));
    ASSERT_TRUE(readers.back()->Read(&response));
  }
  EXPECT_EQ(Generate("", "x").error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Health(""), true);

  contexts[3].TryCancel();
  const absl::Time end = absl::Now() + kLong;
  while (!Generate("", "x").ok() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
  EXPECT_TRUE(Generate("", "x").ok());
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (const auto& reader : readers) {
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(CoordinatorServerTest, AnAddressInUseIsNamed) {
  for (const int port : {coordinator_->port(), coordinator_->group_port()}) {
    const std::string address = absl::StrCat("127.0.0.1:", port);
    Metrics metrics("1.0");
    const bool is_public = port == coordinator_->port();
    const auto second =
        CoordinatorServer::Start({.listen_address = is_public ? address : "127.0.0.1:0",
                                  .group_listen_address = is_public ? "" : address},
                                 &metrics);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(second.status().message(),
              absl::StrCat("cannot listen on ", address, ": Address already in use"));
  }
}

TEST_F(CoordinatorServerTest, WorkersCannotJoinOnThePublicPort) {
  FakeWorker worker;
  worker.Join(channel_, worker.Registration(1));
  EXPECT_EQ(worker.WaitForEnd().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(CoordinatorServerTest, StopWaitsForCallsForAWhile) {
  AddGroup(1);
  v1::GenerateRequest request;
  request.set_text("wait");
  request.set_max_tokens(1);
  grpc::ClientContext context;
  const auto reader = generation_->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::thread stop([&] { coordinator_->Stop(absl::Seconds(1)); });
  // Meanwhile no others are taken.
  grpc::Status refused;
  do {
    grpc::ClientContext other;
    v1::TokenizeRequest tokenize;
    tokenize.set_text("a");
    v1::TokenizeResponse tokenized;
    refused = generation_->Tokenize(&other, tokenize, &tokenized);
  } while (refused.ok());
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server stops");
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status end = reader->Finish();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(end.error_message(), "the server stops");
  stop.join();
  EXPECT_EQ(workers_[0]->WaitForEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(workers_[0]->WaitForEnd().error_message().find("generation"), 0);
}

TEST(CoordinatorServerInProcessTest, NeedsNoPorts) {
  Metrics metrics("1.0");
  FakeWorker worker;
  auto coordinator = CoordinatorServer::Start({.listen_address = "", .version = "1.0"}, &metrics);
  ASSERT_TRUE(coordinator.ok()) << coordinator.status();
  EXPECT_EQ((*coordinator)->port(), 0);
  worker.Join((*coordinator)->InProcessGroupChannel(), worker.Registration(1));
  ASSERT_TRUE(worker.WaitForAssignment().has_value());
  worker.Run();

  const auto stub = v1::GenerationService::NewStub((*coordinator)->InProcessChannel());
  v1::TokenizeRequest request;
  request.set_text("a");
  v1::TokenizeResponse response;
  grpc::Status status;
  const absl::Time end = absl::Now() + kLong;
  do {
    grpc::ClientContext context;
    status = stub->Tokenize(&context, request, &response);
  } while (!status.ok() && absl::Now() < end);
  EXPECT_THAT(response.tokens(), ElementsAre('a'));
  EXPECT_THAT(metrics.Serialize(), HasSubstr("weir_coordinator_workers_joined 1\n"));
}

}  // namespace
}  // namespace weir
