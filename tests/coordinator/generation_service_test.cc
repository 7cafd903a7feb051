#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/coordinator/coordinator_fixture.h"
#include "tests/coordinator/fake_worker.h"
#include "tests/monitoring/promtool.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using GenerationServiceTest = CoordinatorFixture;

TEST_F(GenerationServiceTest, TokensPassThrough) {
  AddGroup(1);
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_max_tokens(5);
  std::string text;
  EXPECT_TRUE(Generate(&context, request, &text).ok());
  EXPECT_EQ(text, "0 1 2 3 4 ");
  const std::string scrape = metrics_.Serialize();
  EXPECT_THAT(scrape, HasSubstr("weir_streamed_tokens_total 5\n"));
  EXPECT_THAT(scrape, HasSubstr("weir_time_to_first_token_seconds_count 1\n"));
  EXPECT_THAT(scrape, HasSubstr("weir_inter_token_seconds_count 4\n"));
  EXPECT_THAT(scrape, HasSubstr("weir_coordinator_token_overhead_seconds_count 5\n"));
}

TEST_F(GenerationServiceTest, ErrorsOfTheLeaderPassThrough) {
  AddGroup(1);
  const grpc::Status status = Generate(NewSession(), "fail");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "the session has a running call");
  // The record of a call is made as its thread ends, a moment after the caller has the status.
  const std::string line =
      "weir_requests_total{code=\"FAILED_PRECONDITION\",method=\"Generate\"} 1\n";
  const absl::Time end = absl::Now() + kLong;
  while (metrics_.Serialize().find(line) == std::string::npos && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(2));
  }
  EXPECT_THAT(metrics_.Serialize(), HasSubstr(line));
}

TEST_F(GenerationServiceTest, DeadlinesAndCancellationsReachTheLeader) {
  AddGroup(1);
  v1::GenerateRequest request;
  request.set_text("wait");
  request.set_max_tokens(1);
  grpc::ClientContext late;
  late.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(Generate(&late, request).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(workers_[0]->service().WaitForCancelled(1));

  grpc::ClientContext cancelled;
  const auto reader = generation_->Generate(&cancelled, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  cancelled.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(workers_[0]->service().WaitForCancelled(2));
}

TEST_F(GenerationServiceTest, AppendSendsItsPiecesOn) {
  AddGroup(1);
  const std::string id = NewSession();
  grpc::ClientContext context;
  v1::AppendResponse response;
  const auto writer = generation_->Append(&context, &response);
  v1::AppendRequest piece;
  piece.set_session_id(id);
  for (int i = 0; i < 100; ++i) {
    piece.set_text(std::string(1000, 'x'));
    piece.set_end_of_text(i == 99);
    ASSERT_TRUE(writer->Write(piece));
    piece.clear_session_id();
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.session().appended_bytes(), 100000);
  EXPECT_EQ(workers_[0]->service().texts_ended(), 1);
}

TEST_F(GenerationServiceTest, AnAppendThatBreaksDoesNotEndTheText) {
  AddGroup(1);
  const std::string id = NewSession();
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    v1::AppendResponse response;
    const auto writer = generation_->Append(&context, &response);
    v1::AppendRequest piece;
    piece.set_session_id(id);
    piece.set_text("x");
    ASSERT_TRUE(writer->Write(piece));
    if (i % 2 == 0) absl::SleepFor(absl::Milliseconds(5));
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  const absl::Time end = absl::Now() + kLong;
  while (workers_[0]->service().texts_broken() < 10 && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(workers_[0]->service().texts_broken(), 10);  // Others never got to the leader.
  EXPECT_EQ(workers_[0]->service().texts_ended(), 0);
}

TEST_F(GenerationServiceTest, BadAppendsAreRefused) {
  AddGroup(1);
  const std::string id = NewSession();
  const auto append = [&](const std::vector<v1::AppendRequest>& pieces) {
    grpc::ClientContext context;
    v1::AppendResponse response;
    const auto writer = generation_->Append(&context, &response);
    for (const v1::AppendRequest& piece : pieces) writer->Write(piece);
    writer->WritesDone();
    return writer->Finish();
  };
  std::vector<v1::AppendRequest> pieces(2);
  EXPECT_EQ(append({}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(append(pieces).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  pieces[0].set_session_id("0123456789abcdef0123456789abcdef");
  EXPECT_EQ(append(pieces).error_code(), grpc::StatusCode::NOT_FOUND);
  pieces[0].set_session_id(id);
  pieces[1].set_offset(-1);
  const grpc::Status status = append(pieces);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(status.error_message(), "offset is -1");
}

TEST_F(GenerationServiceTest, ScoreAndTokenizePassThrough) {
  AddGroup(1);
  {
    grpc::ClientContext context;
    v1::ScoreRequest request;
    request.set_text("abc");
    const auto reader = generation_->Score(&context, request);
    v1::ScoreResponse response;
    std::string text;
    while (reader->Read(&response)) text += static_cast<char>(response.tokens(0).token());
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(text, "abc");
  }
  v1::TokenizeResponse tokenized;
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_text("abc");
    EXPECT_TRUE(generation_->Tokenize(&context, request, &tokenized).ok());
    EXPECT_THAT(tokenized.tokens(), ElementsAre('a', 'b', 'c'));
  }
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  *request.mutable_tokens() = tokenized.tokens();
  v1::DetokenizeResponse response;
  EXPECT_TRUE(generation_->Detokenize(&context, request, &response).ok());
  EXPECT_EQ(response.text(), "abc");
}

TEST_F(GenerationServiceTest, MetricsPassPromtool) {
  AddGroup(1);
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_max_tokens(3);
  grpc::ClientContext context;
  EXPECT_TRUE(Generate(&context, request).ok());
  EXPECT_EQ(CheckWithPromtool(metrics_.Serialize()), 0);
}

}  // namespace
}  // namespace weir
