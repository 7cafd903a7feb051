#include "coordinator/coordinator_server.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "monitoring/metrics.h"
#include "tests/coordinator/fake_worker.h"
#include "weir/v1/generation.grpc.pb.h"
#include "weir/v1/model.grpc.pb.h"
#include "weir/v1/session.grpc.pb.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kUnknownId[] = "0123456789abcdef0123456789abcdef";

// Nothing in these tests takes this long unless it hangs.
constexpr absl::Duration kLong = absl::Seconds(20);

// A coordinator on loopback ports, and clients of it.
class CoordinatorServerTest : public testing::Test {
 protected:
  static constexpr int kMaxCalls = 20;

  CoordinatorServerTest() {
    auto coordinator = CoordinatorServer::Start({.listen_address = "127.0.0.1:0",
                                                 .group_listen_address = "127.0.0.1:0",
                                                 .version = "1.0",
                                                 .stall_timeout = absl::Seconds(2),
                                                 .max_calls = kMaxCalls},
                                                &metrics_);
    EXPECT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = *std::move(coordinator);
    channel_ = Channel(coordinator_->port());
    group_channel_ = Channel(coordinator_->group_port());
    sessions_ = v1::SessionService::NewStub(channel_);
    generation_ = v1::GenerationService::NewStub(channel_);
    models_ = v1::ModelService::NewStub(channel_);
  }

  static std::shared_ptr<grpc::Channel> Channel(int port) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                               grpc::InsecureChannelCredentials());
  }

  // Starts `size` workers that form a ready group, after those that exist.
  void AddGroup(int size) {
    const size_t first = workers_.size();
    for (int i = 0; i < size; ++i) {
      workers_.push_back(std::make_unique<FakeWorker>());
      worker::v1::Registration registration = workers_.back()->Registration(size);
      registration.set_preferred_rank(i);
      workers_.back()->Join(group_channel_, registration);
    }
    for (size_t i = first; i < workers_.size(); ++i) {
      ASSERT_TRUE(workers_[i]->WaitForAssignment().has_value());
      workers_[i]->Run();
    }
    WaitForModels(1);
  }

  // Blocks until calls are served (1) or not (0).
  void WaitForModels(int models) {
    const absl::Time end = absl::Now() + kLong;
    while (ListModels().models_size() != models) {
      ASSERT_LT(absl::Now(), end) << coordinator_->Describe();
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  v1::ListModelsResponse ListModels() {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    EXPECT_TRUE(models_->ListModels(&context, v1::ListModelsRequest(), &response).ok());
    return response;
  }

  grpc::Status CreateSession(std::string* id) {
    grpc::ClientContext context;
    v1::CreateSessionResponse response;
    const grpc::Status status =
        sessions_->CreateSession(&context, v1::CreateSessionRequest(), &response);
    *id = response.session().id();
    return status;
  }

  std::string NewSession() {
    std::string id;
    const grpc::Status status = CreateSession(&id);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return id;
  }

  grpc::Status GetSession(const std::string& id) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_session_id(id);
    v1::GetSessionResponse response;
    return sessions_->GetSession(&context, request, &response);
  }

  grpc::Status DeleteSession(const std::string& id) {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_session_id(id);
    v1::DeleteSessionResponse response;
    return sessions_->DeleteSession(&context, request, &response);
  }

  // The ids on all pages.
  std::vector<std::string> ListSessions(int page_size) {
    std::vector<std::string> ids;
    v1::ListSessionsRequest request;
    request.set_page_size(page_size);
    do {
      grpc::ClientContext context;
      v1::ListSessionsResponse response;
      const grpc::Status status = sessions_->ListSessions(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      for (const v1::Session& session : response.sessions()) ids.push_back(session.id());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return ids;
  }

  grpc::Status Generate(grpc::ClientContext* context, const v1::GenerateRequest& request,
                        std::string* text = nullptr) {
    const auto reader = generation_->Generate(context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (text != nullptr) *text += response.text();
    }
    return reader->Finish();
  }

  grpc::Status Generate(const std::string& session, const std::string& text) {
    grpc::ClientContext context;
    v1::GenerateRequest request;
    request.set_session_id(session);
    request.set_text(text);
    return Generate(&context, request);
  }

  // The answer of grpc.health.v1 for `service`: whether it is SERVING; nothing if it is not known.
  // Its messages are a string in field 1, and an enum in field 1 of which 1 is SERVING.
  std::optional<bool> Health(const std::string& service) {
    std::string request;
    if (!service.empty()) {
      request = absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
    }
    const grpc::Slice slice(request);
    const grpc::ByteBuffer buffer(&slice, 1);
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call =
        stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", buffer, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return std::nullopt;
    EXPECT_TRUE(status.ok()) << status.error_message();
    grpc::Slice answer;
    EXPECT_TRUE(response.DumpToSingleSlice(&answer).ok());
    return std::string(answer.begin(), answer.end()) == "\x08\x01";
  }

  Metrics metrics_{"1.0"};
  std::unique_ptr<CoordinatorServer> coordinator_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> group_channel_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
};

// ---- Groups ----

TEST_F(CoordinatorServerTest, CallsSayWhoIsMissingUntilTheGroupIsReady) {
  std::string id;
  EXPECT_EQ(ListModels().version(), "1.0");
  EXPECT_EQ(CreateSession(&id).error_code(), grpc::StatusCode::UNAVAILABLE);
  for (int i = 0; i < 2; ++i) {
    workers_.push_back(std::make_unique<FakeWorker>());
    workers_.back()->Join(group_channel_, workers_.back()->Registration(3));
  }
  while (coordinator_->Describe() != "waiting for workers: 2 of 3 joined") {
    absl::SleepFor(absl::Milliseconds(2));
  }
  const grpc::Status create = CreateSession(&id);
  EXPECT_EQ(create.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(create.error_message(), "waiting for workers: 2 of 3 joined");
  EXPECT_EQ(Generate("", "x").error_message(), create.error_message());
  EXPECT_THAT(ListModels().models(), IsEmpty());

  workers_.push_back(std::make_unique<FakeWorker>());
  workers_.back()->Join(group_channel_, workers_.back()->Registration(3));
  for (const auto& worker : workers_) {
    ASSERT_TRUE(worker->WaitForAssignment().has_value());
    worker->Run();
  }
  WaitForModels(1);
  EXPECT_TRUE(CreateSession(&id).ok());
  EXPECT_THAT(coordinator_->Describe(), HasSubstr("of 3 workers"));
}

TEST_F(CoordinatorServerTest, AWorkerThatDoesNotFitIsTurnedAway) {
  AddGroup(1);
  FakeWorker worker;
  worker::v1::Registration registration = worker.Registration(1);
  registration.set_model_fingerprint("m2");
  worker.Join(group_channel_, registration);
  const grpc::Status status = worker.WaitForEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(),
            absl::StrCat("the worker at ", worker.address(), " has model m2, but the worker at ",
                         workers_[0]->address(), " has m1"));
  EXPECT_TRUE(Generate("", "x").ok());
}

TEST_F(CoordinatorServerTest, JoinFollowsItsProtocol) {
  const auto stub = worker::v1::GroupService::NewStub(group_channel_);
  grpc::ClientContext context;
  const auto stream = stub->Join(&context);
  worker::v1::JoinRequest report;
  report.mutable_report()->set_ready(true);
  stream->Write(report);
  worker::v1::JoinResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(CoordinatorServerTest, TheLossOfAWorkerEndsCallsAndSessionsAndANewGroupForms) {
  AddGroup(3);
  const int64_t first = workers_[0]->WaitForAssignment()->generation();
  const std::string id = NewSession();

  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_session_id(id);
  request.set_text("wait");
  request.set_max_tokens(1);
  const auto reader = generation_->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  workers_[1]->Break();
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status lost = reader->Finish();
  EXPECT_EQ(lost.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(lost.error_message(), absl::StrCat("the workers were lost: rank 1, the worker at ",
                                               workers_[1]->address(), ", left"));
  EXPECT_TRUE(workers_[0]->service().WaitForCancelled(1));

  for (const int survivor : {0, 2}) {
    const grpc::Status end = workers_[survivor]->WaitForEnd();
    EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(end.error_message(), HasSubstr(workers_[1]->address()));
  }
  EXPECT_EQ(GetSession(id).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(GetSession(id).error_message(), HasSubstr("was lost"));
  EXPECT_EQ(Generate("", "x").error_code(), grpc::StatusCode::UNAVAILABLE);

  // The old generation can publish nothing any more.
  const auto stub = worker::v1::GroupService::NewStub(group_channel_);
  grpc::ClientContext put_context;
  worker::v1::PutRendezvousRequest put;
  put.set_generation(first);
  put.set_key("key");
  worker::v1::PutRendezvousResponse done;
  EXPECT_EQ(stub->PutRendezvous(&put_context, put, &done).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);

  workers_.clear();
  AddGroup(3);
  EXPECT_EQ(workers_[0]->WaitForAssignment()->generation(), first + 1);
  EXPECT_TRUE(Generate("", "x").ok());
  // The session does not come back, but it can be deleted.
  EXPECT_EQ(Generate(id, "x").error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(DeleteSession(id).ok());
  EXPECT_EQ(GetSession(id).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(CoordinatorServerTest, AStepCounterThatStandsStillIsALoss) {
  AddGroup(2);
  workers_[1]->Stall();
  // Blocks until the coordinator ends the call: the leader itself would wait for ever.
  const grpc::Status status = Generate("", "wait");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("made no step for 2s"));
  EXPECT_THAT(workers_[0]->WaitForEnd().error_message(), HasSubstr("made no step"));
  EXPECT_EQ(Health(""), false);
}

TEST_F(CoordinatorServerTest, ALeaderThatCannotBeReachedEndsItsGroup) {
  FakeWorker worker;
  worker.StopServing();
  worker.Join(group_channel_, worker.Registration(1));
  ASSERT_TRUE(worker.WaitForAssignment().has_value());
  worker.Run();
  const grpc::Status end = worker.WaitForEnd();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(end.error_message(),
              HasSubstr(absl::StrCat("cannot reach rank 0 at ", worker.address())));
}

TEST_F(CoordinatorServerTest, RanksMeetThroughTheCoordinator) {
  AddGroup(2);
  const auto stub = worker::v1::GroupService::NewStub(group_channel_);
  const int64_t generation = workers_[0]->WaitForAssignment()->generation();
  std::thread rank1([&] {
    absl::SleepFor(absl::Milliseconds(20));
    grpc::ClientContext context;
    worker::v1::PutRendezvousRequest put;
    put.set_generation(generation);
    put.set_key("address/1");
    put.set_value("10.0.0.1:9");
    worker::v1::PutRendezvousResponse response;
    EXPECT_TRUE(stub->PutRendezvous(&context, put, &response).ok());
  });
  worker::v1::GetRendezvousRequest get;
  get.set_generation(generation);
  get.set_key("address/1");
  worker::v1::GetRendezvousResponse response;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub->GetRendezvous(&context, get, &response).ok());
  }
  EXPECT_EQ(response.value(), "10.0.0.1:9");
  rank1.join();

  get.set_key("address/2");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(stub->GetRendezvous(&context, get, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
}

// ---- Health ----

TEST_F(CoordinatorServerTest, HealthFollowsTheGroup) {
  const std::vector<std::string> services = {"", "weir.v1.SessionService",
                                             "weir.v1.GenerationService", "weir.v1.ModelService"};
  for (const std::string& service : services) EXPECT_EQ(Health(service), false) << service;
  EXPECT_EQ(Health("weir.v1.NoService"), std::nullopt);
  AddGroup(2);
  for (const std::string& service : services) EXPECT_EQ(Health(service), true) << service;
  workers_[0]->Break();
  WaitForModels(0);
  for (const std::string& service : services) EXPECT_EQ(Health(service), false) << service;
}

// ---- Sessions ----

TEST_F(CoordinatorServerTest, SessionsComeAndGo) {
  AddGroup(1);
  std::vector<std::string> ids;
  for (int i = 0; i < FakeWorkerService::kSessionSlots; ++i) ids.push_back(NewSession());
  std::string id;
  const grpc::Status full = CreateSession(&id);
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(full.error_message(), "all 3 session slots are taken");

  EXPECT_EQ(ListSessions(/*page_size=*/2), ids);

  EXPECT_TRUE(DeleteSession(ids[1]).ok());
  EXPECT_EQ(DeleteSession(ids[1]).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(workers_[0]->service().sessions_open(), 2);
  EXPECT_TRUE(CreateSession(&id).ok());
  EXPECT_EQ(ListModels().models(0).sessions_open(), 3);
}

TEST_F(CoordinatorServerTest, UnknownSessionsAreNotFoundAndNoIdsAreInvalid) {
  AddGroup(1);
  for (const std::string bad : {"", "abc", "0123456789abcdef0123456789abcdeg"}) {
    EXPECT_EQ(GetSession(bad).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(DeleteSession(bad).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    if (!bad.empty()) {
      EXPECT_EQ(Generate(bad, "x").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    }
  }
  const grpc::Status status = GetSession(kUnknownId);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), absl::StrCat("there is no session ", kUnknownId));
  EXPECT_EQ(DeleteSession(kUnknownId).error_message(), status.error_message());
  EXPECT_EQ(Generate(kUnknownId, "x").error_message(), status.error_message());
}

TEST_F(CoordinatorServerTest, NoSlotIsTakenThatIsNotListed) {
  AddGroup(1);
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::microseconds(100 * i));
    v1::CreateSessionResponse response;
    sessions_->CreateSession(&context, v1::CreateSessionRequest(), &response);
    // Where the deadline passed while the answer was on its way, the session is there all the same.
    for (const std::string& id : ListSessions(0)) EXPECT_TRUE(DeleteSession(id).ok());
  }
  const absl::Time end = absl::Now() + kLong;
  while (workers_[0]->service().sessions_open() > 0 && absl::Now() < end) {
    for (const std::string& id : ListSessions(0)) DeleteSession(id);
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(workers_[0]->service().sessions_open(), 0);
}

TEST_F(CoordinatorServerTest, InspectStreamsLayers) {
  AddGroup(1);
  grpc::ClientContext context;
  v1::InspectSessionRequest request;
  request.set_session_id(NewSession());
  const auto reader = sessions_->InspectSession(&context, request);
  v1::InspectSessionResponse response;
  std::vector<int> layers;
  while (reader->Read(&response)) layers.push_back(response.layer());
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(layers, ElementsAre(0, 1));
}

// ---- Texts ----

TEST_F(CoordinatorServerTest, TokensPassThrough) {
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

TEST_F(CoordinatorServerTest, ErrorsOfTheLeaderPassThrough) {
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

TEST_F(CoordinatorServerTest, DeadlinesAndCancellationsReachTheLeader) {
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

TEST_F(CoordinatorServerTest, AppendSendsItsPiecesOn) {
  AddGroup(1);
  const std::string id = NewSession();
  grpc::ClientContext context;
  v1::AppendResponse response;
  const auto writer = generation_->Append(&context, &response);
  v1::AppendRequest piece;
  piece.set_session_id(id);
  for (int i = 0; i < 100; ++i) {
    piece.set_text(std::string(1000, 'x'));
    ASSERT_TRUE(writer->Write(piece));
    piece.clear_session_id();
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.session().appended_bytes(), 100000);
  EXPECT_EQ(workers_[0]->service().texts_ended(), 1);
}

TEST_F(CoordinatorServerTest, AnAppendThatBreaksDoesNotEndTheText) {
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

TEST_F(CoordinatorServerTest, BadAppendsAreRefused) {
  AddGroup(1);
  const std::string id = NewSession();
  const std::string other = NewSession();
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
  pieces[0].set_session_id(kUnknownId);
  EXPECT_EQ(append(pieces).error_code(), grpc::StatusCode::NOT_FOUND);
  pieces[0].set_session_id(id);
  pieces[1].set_session_id(other);
  EXPECT_EQ(append(pieces).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  pieces[1].set_session_id(id);
  pieces[1].set_offset(-1);
  const grpc::Status status = append(pieces);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(status.error_message(), "offset is -1");
}

TEST_F(CoordinatorServerTest, ScoreAndTokenizePassThrough) {
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

// ---- The server ----

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
  coordinator_->Stop(absl::Milliseconds(50));
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_FALSE(reader->Finish().ok());
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
