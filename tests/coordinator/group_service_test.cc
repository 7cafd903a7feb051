#include <gmock/gmock.h>
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
#include "tests/coordinator/coordinator_fixture.h"
#include "tests/coordinator/fake_worker.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

using GroupServiceTest = CoordinatorFixture;

TEST_F(GroupServiceTest, CallsSayWhoIsMissingUntilTheGroupIsReady) {
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

TEST_F(GroupServiceTest, AWorkerThatDoesNotFitIsTurnedAway) {
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

TEST_F(GroupServiceTest, JoinFollowsItsProtocol) {
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

TEST_F(GroupServiceTest, TheLossOfAWorkerEndsCallsAndSessionsAndANewGroupForms) {
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

TEST_F(GroupServiceTest, AStepCounterThatStandsStillIsALoss) {
  AddGroup(2);
  workers_[1]->Stall();
  // Blocks until the coordinator ends the call: the leader itself would wait for ever.
  const grpc::Status status = Generate("", "wait");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("made no step for 2s"));
  EXPECT_THAT(workers_[0]->WaitForEnd().error_message(), HasSubstr("made no step"));
  EXPECT_EQ(Health(""), false);
}

TEST_F(GroupServiceTest, ALeaderThatCannotBeReachedEndsItsGroup) {
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

TEST_F(GroupServiceTest, RanksMeetThroughTheCoordinator) {
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

TEST_F(GroupServiceTest, HealthFollowsTheGroup) {
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

}  // namespace
}  // namespace weir
