#include "coordinator/group_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Workers of a table, whose clock the test moves.
class GroupTableTest : public testing::Test {
 protected:
  static WorkerInfo Worker(const std::string& address, std::optional<int> preferred_rank = {}) {
    return {.address = address,
            .version = "1.0",
            .model_fingerprint = "m1",
            .tensor_parallel = 3,
            .device = "cpu",
            .settings_fingerprint = "s1",
            .preferred_rank = preferred_rank};
  }

  absl::StatusOr<MemberId> TryJoin(const WorkerInfo& worker) {
    changes_ = {};
    return table_.Join(worker, now_, &changes_);
  }

  MemberId Join(const std::string& address, std::optional<int> preferred_rank = {}) {
    const auto member = TryJoin(Worker(address, preferred_rank));
    EXPECT_TRUE(member.ok()) << member.status();
    return member.value_or(0);
  }

  void Report(MemberId member, int64_t generation, bool ready, int64_t steps) {
    changes_ = {};
    table_.Report(member, {generation, ready, steps}, now_, &changes_);
  }

  void Leave(MemberId member) {
    changes_ = {};
    table_.Leave(member, &changes_);
  }

  void CheckProgressAfter(absl::Duration time) {
    now_ += time;
    changes_ = {};
    table_.CheckProgress(now_, &changes_);
  }

  // Joins three workers and makes them ready; returns their generation.
  int64_t FormReadyGroup() {
    for (const char* address : {"a", "b", "c"}) members_.push_back(Join(address));
    const int64_t generation = changes_.assigned.at(0).assignment.generation;
    for (const MemberId member : members_) Report(member, generation, true, 1);
    EXPECT_TRUE(table_.IsReady(generation));
    return generation;
  }

  // The rank that the last change gave to `member`; -1 for none.
  int RankOf(MemberId member) const {
    for (const auto& assigned : changes_.assigned) {
      if (assigned.member == member) return assigned.assignment.rank;
    }
    return -1;
  }

  GroupTable table_{{.version = "1.0", .first_generation = 100}};
  absl::Time now_ = absl::UnixEpoch();
  GroupChanges changes_;
  std::vector<MemberId> members_;
};

TEST_F(GroupTableTest, FormsAGroupWhenEnoughWorkersJoined) {
  EXPECT_EQ(table_.Describe(), "waiting for workers: none joined");
  const MemberId a = Join("a");
  EXPECT_THAT(changes_.assigned, IsEmpty());
  EXPECT_EQ(table_.Describe(), "waiting for workers: 1 of 3 joined");
  const MemberId b = Join("b");
  EXPECT_EQ(table_.Describe(), "waiting for workers: 2 of 3 joined");
  const MemberId c = Join("c");
  ASSERT_THAT(changes_.assigned, SizeIs(3));
  for (const auto& assigned : changes_.assigned) {
    EXPECT_EQ(assigned.assignment.generation, 100);
    EXPECT_EQ(assigned.assignment.size, 3);
  }
  EXPECT_EQ(RankOf(a), 0);
  EXPECT_EQ(RankOf(b), 1);
  EXPECT_EQ(RankOf(c), 2);

  Report(b, 100, true, 0);
  Report(c, 100, false, 0);
  Report(a, 100, true, 0);
  EXPECT_THAT(changes_.ready, IsEmpty());
  EXPECT_EQ(table_.Describe(), "waiting for workers: 3 of 3 joined, 2 of 3 ready");
  Report(c, 100, true, 0);
  ASSERT_THAT(changes_.ready, SizeIs(1));
  EXPECT_EQ(changes_.ready[0].generation, 100);
  EXPECT_EQ(changes_.ready[0].leader_address, "a");
  EXPECT_EQ(table_.Describe(), "ready: generation 100 of 3 workers");
  Report(c, 100, true, 1);
  EXPECT_THAT(changes_.ready, IsEmpty());
}

TEST_F(GroupTableTest, WorkersInExcessWaitThenFormAFurtherGroup) {
  const int64_t first = FormReadyGroup();
  Join("d");
  Join("e");
  EXPECT_THAT(changes_.assigned, IsEmpty());
  Join("f");
  ASSERT_THAT(changes_.assigned, SizeIs(3));
  EXPECT_EQ(changes_.assigned[0].assignment.generation, first + 1);
  EXPECT_TRUE(table_.IsReady(first));
}

TEST_F(GroupTableTest, AWaitingWorkerThatLeavesMakesRoom) {
  const MemberId a = Join("a");
  const MemberId b = Join("b");
  Leave(a);
  EXPECT_THAT(changes_.ended, IsEmpty());
  const MemberId c = Join("c");
  EXPECT_THAT(changes_.assigned, IsEmpty());
  const MemberId d = Join("d");
  EXPECT_EQ(RankOf(b), 0);
  EXPECT_EQ(RankOf(c), 1);
  EXPECT_EQ(RankOf(d), 2);
}

TEST_F(GroupTableTest, WorkersKeepTheRankWhoseWeightsTheyHold) {
  const MemberId fresh = Join("d");
  const MemberId two = Join("c", 2);
  const MemberId zero = Join("a", 0);
  EXPECT_EQ(RankOf(zero), 0);
  EXPECT_EQ(RankOf(two), 2);
  EXPECT_EQ(RankOf(fresh), 1);
}

TEST_F(GroupTableTest, OfTwoWhoWantARankTheFirstGetsIt) {
  const MemberId first = Join("a", 1);
  const MemberId second = Join("b", 1);
  const MemberId third = Join("c", 1);
  EXPECT_EQ(RankOf(first), 1);
  EXPECT_EQ(RankOf(second), 0);
  EXPECT_EQ(RankOf(third), 2);
}

TEST_F(GroupTableTest, WhoeverDisagreesIsRefusedWithBothValues) {
  Join("a");
  struct Case {
    std::string what;
    WorkerInfo worker;
    std::string value;
    std::string other;
  };
  std::vector<Case> cases(5, {.worker = Worker("b")});
  cases[0] = {"version", Worker("b"), "0.9", "1.0"};
  cases[0].worker.version = "0.9";
  cases[1] = {"model", Worker("b"), "m2", "m1"};
  cases[1].worker.model_fingerprint = "m2";
  cases[2] = {"tensor-parallel size", Worker("b"), "2", "3"};
  cases[2].worker.tensor_parallel = 2;
  cases[3] = {"device", Worker("b"), "cuda", "cpu"};
  cases[3].worker.device = "cuda";
  cases[4] = {"settings", Worker("b"), "s2", "s1"};
  cases[4].worker.settings_fingerprint = "s2";
  for (const Case& c : cases) {
    const absl::Status status = TryJoin(c.worker).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << c.what;
    const std::string other = c.what == "version" ? "the coordinator" : "the worker at a";
    EXPECT_EQ(status.message(), absl::StrCat("the worker at b has ", c.what, " ", c.value, ", but ",
                                             other, " has ", c.other));
  }
  EXPECT_EQ(table_.members(), 1);
}

TEST_F(GroupTableTest, AnotherModelMayFollowWhenAllHaveLeft) {
  const MemberId a = Join("a");
  Leave(a);
  WorkerInfo other = Worker("a");
  other.model_fingerprint = "m2";
  EXPECT_TRUE(TryJoin(other).ok());
}

TEST_F(GroupTableTest, TheCoordinatorMayFixTheSize) {
  GroupTable table({.version = "1.0", .tensor_parallel = 2});
  EXPECT_EQ(table.Describe(), "waiting for workers: 0 of 2 joined");
  const absl::Status status = table.Join(Worker("a"), now_, &changes_).status();
  EXPECT_EQ(status.message(),
            "the worker at a has tensor-parallel size 3, but the coordinator has 2");
}

TEST_F(GroupTableTest, FieldsHaveBounds) {
  std::vector<WorkerInfo> workers(5, Worker("a"));
  workers[0].address = "";
  workers[1].tensor_parallel = 0;
  workers[2].tensor_parallel = GroupTable::kMaxTensorParallel + 1;
  workers[3].preferred_rank = -1;
  workers[4].preferred_rank = 3;
  for (const WorkerInfo& worker : workers) {
    const absl::Status status = TryJoin(worker).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("registration."));
  }
  EXPECT_EQ(table_.members(), 0);
}

TEST_F(GroupTableTest, AnAddressJoinsOnce) {
  const MemberId a = Join("a");
  const absl::Status status = TryJoin(Worker("a")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  Leave(a);
  EXPECT_TRUE(TryJoin(Worker("a")).ok());
}

TEST_F(GroupTableTest, AWorkerThatLeavesEndsItsGroup) {
  const int64_t first = FormReadyGroup();
  Leave(members_[1]);
  ASSERT_THAT(changes_.ended, SizeIs(1));
  EXPECT_EQ(changes_.ended[0].generation, first);
  EXPECT_EQ(changes_.ended[0].reason, "rank 1, the worker at b, left");
  ASSERT_THAT(changes_.released, SizeIs(2));
  for (const auto& released : changes_.released) {
    EXPECT_NE(released.member, members_[1]);
    EXPECT_EQ(released.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(released.status.message()), HasSubstr("the worker at b, left"));
  }
  EXPECT_EQ(table_.members(), 0);
  EXPECT_EQ(table_.Describe(), "waiting for workers: 0 of 3 joined");

  // The survivors and a new worker are the next generation; the survivors have their old ranks.
  const MemberId c = Join("c", 2);
  const MemberId d = Join("d");
  const MemberId a = Join("a", 0);
  EXPECT_EQ(RankOf(a), 0);
  EXPECT_EQ(RankOf(d), 1);
  EXPECT_EQ(RankOf(c), 2);
  EXPECT_EQ(changes_.assigned[0].assignment.generation, first + 1);

  // What the first generation's members still say is not heard.
  Leave(members_[0]);
  EXPECT_THAT(changes_.ended, IsEmpty());
  for (const MemberId member : {a, c, d}) Report(member, first, true, 5);
  EXPECT_FALSE(table_.IsReady(first + 1));
}

TEST_F(GroupTableTest, AStepCounterThatStandsStillEndsTheGroup) {
  const int64_t generation = FormReadyGroup();
  for (int second = 1; second <= 30; ++second) {
    now_ += absl::Seconds(1);
    // Rank 2 stops after 20 steps; it goes on to report.
    for (int rank = 0; rank < 3; ++rank) {
      Report(members_[rank], generation, true, 1 + (rank == 2 ? std::min(second, 20) : second));
    }
    CheckProgressAfter(absl::ZeroDuration());
    EXPECT_EQ(table_.IsReady(generation), second < 30) << second;
  }
  ASSERT_THAT(changes_.ended, SizeIs(1));
  EXPECT_EQ(changes_.ended[0].reason, "rank 2, the worker at c, made no step for 10s");
  EXPECT_THAT(changes_.released, SizeIs(3));
}

TEST_F(GroupTableTest, AStartingWorkerNeedOnlyReport) {
  std::vector<MemberId> members;
  for (const char* address : {"a", "b", "c"}) members.push_back(Join(address));
  const int64_t generation = changes_.assigned.at(0).assignment.generation;
  for (int second = 0; second < 100; ++second) {  // It reads a large model.
    for (const MemberId member : members) Report(member, generation, false, 0);
    CheckProgressAfter(absl::Seconds(1));
    ASSERT_THAT(changes_.ended, IsEmpty());
  }
  for (const MemberId member : {members[0], members[2]}) Report(member, generation, false, 0);
  CheckProgressAfter(absl::Seconds(9));
  ASSERT_THAT(changes_.ended, SizeIs(1));
  EXPECT_EQ(changes_.ended[0].reason, "rank 1, the worker at b, did not report for 10s");
}

TEST_F(GroupTableTest, WaitingWorkersAreNotWatched) {
  Join("a");
  CheckProgressAfter(absl::Hours(100));
  EXPECT_THAT(changes_.ended, IsEmpty());
  EXPECT_EQ(table_.members(), 1);
}

TEST_F(GroupTableTest, EverybodyCanBeReleased) {
  const int64_t generation = FormReadyGroup();
  Join("d");
  changes_ = {};
  table_.ReleaseAll("the coordinator stops", &changes_);
  EXPECT_THAT(changes_.released, SizeIs(4));
  EXPECT_THAT(changes_.ended, SizeIs(1));
  EXPECT_FALSE(table_.IsReady(generation));
  EXPECT_EQ(table_.members(), 0);
}

}  // namespace
}  // namespace weir
