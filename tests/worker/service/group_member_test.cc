#include "worker/service/group_member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tests/worker/service/fake_coordinator.h"
#include "tests/worker/service/fake_engine.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Starts fake engines that make a step whenever they are looked at.
class FakeHost : public RankHost {
 public:
  std::optional<int> held_rank() const override { return held_rank_; }

  absl::StatusOr<Engine*> Start(const GroupPlace& place, Rendezvous& rendezvous) override {
    absl::MutexLock lock(&mutex_);
    places_.push_back(place);
    if (wants_value_) {
      const absl::StatusOr<std::string> value = rendezvous.Get("value", absl::Minutes(5));
      if (!value.ok()) return value.status();
    }
    if (!start_error_.ok()) return start_error_;
    held_rank_ = place.rank;
    engine_ = std::make_unique<FakeEngine>(EngineOptions());
    return engine_.get();
  }

  void OnRunning() override {
    absl::MutexLock lock(&mutex_);
    if (moving_) engine_->SetSteps(++steps_);
  }

  void Stop(const absl::Status& reason) override {
    absl::MutexLock lock(&mutex_);
    stop_reasons_.push_back(reason);
    engine_.reset();
  }

  void EndEngine(const std::string& reason) {
    absl::MutexLock lock(&mutex_);
    engine_->Abort(reason);
  }
  void StandStill() {
    absl::MutexLock lock(&mutex_);
    moving_ = false;
  }
  void FailStart(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    start_error_ = status;
  }
  void WaitForValueAtStart() {
    absl::MutexLock lock(&mutex_);
    wants_value_ = true;
  }
  std::vector<GroupPlace> places() const {
    absl::MutexLock lock(&mutex_);
    return places_;
  }
  std::vector<absl::Status> stop_reasons() const {
    absl::MutexLock lock(&mutex_);
    return stop_reasons_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::optional<int> held_rank_;  // the member's thread alone
  bool moving_ = true;
  bool wants_value_ = false;
  int64_t steps_ = 0;
  absl::Status start_error_;
  std::unique_ptr<FakeEngine> engine_;
  std::vector<GroupPlace> places_;
  std::vector<absl::Status> stop_reasons_;
};

class GroupMemberTest : public ::testing::Test {
 protected:
  void StartMember() {
    GroupMemberOptions options;
    options.registration.set_address("127.0.0.1:1");
    options.registration.set_tensor_parallel(1);
    options.registration.set_version("test");
    options.coordinator = coordinator_.address();
    options.report_interval = absl::Milliseconds(5);
    options.stall_timeout = stall_timeout_;
    options.least_backoff = absl::Milliseconds(1);
    options.most_backoff = absl::Milliseconds(20);
    options.on_serving = [this](bool serving) { serving_ = serving; };
    options.log = [this](const std::string& sentence) {
      absl::MutexLock lock(&mutex_);
      log_.push_back(sentence);
    };
    member_ = std::make_unique<GroupMember>(options, coordinator_.Channel(), &host_);
  }

  std::string Logged() {
    absl::MutexLock lock(&mutex_);
    return absl::StrJoin(log_, "\n");
  }
  int LinesLogged() {
    absl::MutexLock lock(&mutex_);
    return static_cast<int>(log_.size());
  }

  FakeCoordinator coordinator_;
  FakeHost host_;
  absl::Duration stall_timeout_ = absl::Minutes(5);
  std::atomic<bool> serving_{false};
  absl::Mutex mutex_;
  std::vector<std::string> log_;
  std::unique_ptr<GroupMember> member_;
};

TEST_F(GroupMemberTest, RegistersAndReportsItsSteps) {
  StartMember();
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  EXPECT_EQ(coordinator_.WaitForRegistrations(1)[0].version(), "test");
  EXPECT_FALSE(coordinator_.WaitForRegistrations(1)[0].has_preferred_rank());
  ASSERT_EQ(host_.places().size(), 1u);
  EXPECT_EQ(host_.places()[0].generation, coordinator_.generation());
  EXPECT_EQ(host_.places()[0].size, 1);
  EXPECT_TRUE(serving_);
  const int64_t steps = coordinator_.LastReport(0)->steps();
  while (coordinator_.LastReport(0)->steps() <= steps + 1) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(member_->status(), absl::OkStatus());
}

TEST_F(GroupMemberTest, LeavesWhenStopped) {
  StartMember();
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  member_->Stop();
  EXPECT_TRUE(coordinator_.WaitForNobody());
  EXPECT_EQ(host_.stop_reasons().size(), 1u);
  EXPECT_FALSE(serving_);
}

TEST_F(GroupMemberTest, StopsWhileItWaitsForOthers) {
  coordinator_.Refuse(grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now"));
  StartMember();
  coordinator_.WaitForRegistrations(2);
  member_->Stop();
  EXPECT_THAT(host_.places(), IsEmpty());
}

TEST_F(GroupMemberTest, JoinsAgainWithItsRankWhenTheCoordinatorEndsTheGroup) {
  StartMember();
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  coordinator_.EndAll(grpc::Status(grpc::StatusCode::UNAVAILABLE, "rank 2 was lost"));
  const auto registrations = coordinator_.WaitForRegistrations(2);
  ASSERT_GE(registrations.size(), 2u);
  ASSERT_TRUE(registrations[1].has_preferred_rank());
  EXPECT_EQ(registrations[1].preferred_rank(), 0);
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  EXPECT_EQ(coordinator_.generation(), 2);
  ASSERT_EQ(host_.stop_reasons().size(), 1u);
  EXPECT_EQ(host_.stop_reasons()[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(host_.stop_reasons()[0].message()), HasSubstr("rank 2 was lost"));
  EXPECT_TRUE(serving_);
}

TEST_F(GroupMemberTest, LeavesAndJoinsAgainWhenTheEngineEnds) {
  StartMember();
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  host_.EndEngine("the connection to rank 1 broke");
  EXPECT_GE(coordinator_.WaitForRegistrations(2).size(), 2u);
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  EXPECT_THAT(std::string(host_.stop_reasons()[0].message()),
              HasSubstr("the connection to rank 1 broke"));
  EXPECT_THAT(Logged(), HasSubstr("the connection to rank 1 broke"));
}

TEST_F(GroupMemberTest, LeavesWhenTheEngineStandsStill) {
  stall_timeout_ = absl::Milliseconds(200);
  host_.StandStill();
  StartMember();
  EXPECT_GE(coordinator_.WaitForRegistrations(2).size(), 2u);
  EXPECT_THAT(std::string(host_.stop_reasons()[0].message()), HasSubstr("made no step"));
}

TEST_F(GroupMemberTest, ARefusalIsToldOnceAndTriedAgain) {
  coordinator_.Refuse(
      grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "the worker has version test"));
  StartMember();
  EXPECT_GE(coordinator_.WaitForRegistrations(4).size(), 4u);
  EXPECT_EQ(Logged(), "cannot join the coordinator at " + coordinator_.address() +
                          ": the worker has version test");
  EXPECT_EQ(member_->status(), absl::OkStatus());
  coordinator_.Refuse(grpc::Status::OK);
  EXPECT_TRUE(coordinator_.WaitForReady(1));
}

TEST_F(GroupMemberTest, AStartThatMayPassIsTriedAgain) {
  host_.FailStart(absl::UnavailableError("rank 1 did not come"));
  StartMember();
  EXPECT_GE(coordinator_.WaitForRegistrations(2).size(), 2u);
  host_.FailStart(absl::OkStatus());
  EXPECT_TRUE(coordinator_.WaitForReady(1));
  EXPECT_THAT(host_.stop_reasons(), IsEmpty());
}

TEST_F(GroupMemberTest, AStartThatCannotPassIsTheEnd) {
  host_.FailStart(absl::InvalidArgumentError("tensor blk.0.attn_q.weight is missing"));
  StartMember();
  while (member_->status().ok()) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_THAT(std::string(member_->status().message()), HasSubstr("attn_q"));
  EXPECT_TRUE(coordinator_.WaitForNobody());
  EXPECT_EQ(coordinator_.WaitForRegistrations(1).size(), 1u);
}

TEST_F(GroupMemberTest, TheEndOfTheGroupEndsAStartThatWaitsForItsPeers) {
  host_.WaitForValueAtStart();
  StartMember();
  coordinator_.WaitForRegistrations(1);
  coordinator_.EndAll(grpc::Status(grpc::StatusCode::UNAVAILABLE, "rank 1 was lost"));
  EXPECT_GE(coordinator_.WaitForRegistrations(2).size(), 2u);
}

TEST_F(GroupMemberTest, APlaceOutsideTheGroupIsRefused) {
  worker::v1::Assignment assignment;
  assignment.set_rank(1);
  assignment.set_size(1);
  coordinator_.AssignAlways(assignment);
  StartMember();
  EXPECT_GE(coordinator_.WaitForRegistrations(2).size(), 2u);
  EXPECT_THAT(Logged(), HasSubstr("rank 1 of 1"));
  EXPECT_THAT(host_.places(), IsEmpty());
}

TEST_F(GroupMemberTest, ACoordinatorThatIsNotThereIsOneLine) {
  GroupMemberOptions options;
  options.registration.set_tensor_parallel(1);
  options.coordinator = "127.0.0.1:1";
  options.least_backoff = absl::Milliseconds(1);
  options.most_backoff = absl::Milliseconds(2);
  std::atomic<int> lines{0};
  options.log = [&lines](const std::string& sentence) {
    EXPECT_THAT(sentence, HasSubstr("cannot join the coordinator at 127.0.0.1:1"));
    ++lines;
  };
  GroupMember member(
      options, grpc::CreateChannel("127.0.0.1:1", grpc::InsecureChannelCredentials()), &host_);
  while (lines == 0) absl::SleepFor(absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_LE(lines, 2);
  EXPECT_EQ(member.status(), absl::OkStatus());
}

}  // namespace
}  // namespace weir
