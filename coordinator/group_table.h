#ifndef WEIR_COORDINATOR_GROUP_TABLE_H_
#define WEIR_COORDINATOR_GROUP_TABLE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir {

// Who a worker says it is; the fields of worker.v1.Registration.
struct WorkerInfo {
  std::string address;  // of its WorkerService; no two members share one
  std::string version;
  std::string model_fingerprint;
  int tensor_parallel = 0;
  std::string device;
  std::string settings_fingerprint;
  std::optional<int> preferred_rank;
};

// A worker's state; the fields of worker.v1.Report.
struct WorkerReport {
  int64_t generation = 0;
  bool ready = false;
  int64_t steps = 0;
};

// A worker's place in a group.
struct RankAssignment {
  int64_t generation = 0;
  int rank = 0;
  int size = 0;
};

// Names one membership, from Join to its end; never used again.
using MemberId = int64_t;

// What a call of GroupTable has changed and others must be told.
struct GroupChanges {
  struct Assigned {
    MemberId member = 0;
    RankAssignment assignment;
  };
  // A membership that ended for a reason that is not its own.
  struct Released {
    MemberId member = 0;
    absl::Status status;  // UNAVAILABLE
  };
  struct Ready {
    int64_t generation = 0;
    std::string leader_address;
  };
  struct Ended {
    int64_t generation = 0;
    std::string reason;  // a clause, such as "the worker at 10.0.0.3:9000 left"
  };
  std::vector<Assigned> assigned;
  std::vector<Released> released;
  std::vector<Ready> ready;
  std::vector<Ended> ended;
};

struct GroupTableOptions {
  std::string version;      // of the coordinator; workers must have the same
  int tensor_parallel = 0;  // that workers must have; 0: what the first one has
  // A member of a group whose step counter stands still for this long is lost; one that is not
  // ready yet, when it does not report for this long.
  absl::Duration stall_timeout = absl::Seconds(10);
  int64_t first_generation = 1;
};

// Forms groups of the workers that join, and ends them: the state of the protocol that
// proto/weir/worker/v1/group.proto tells, steps 1, 2, 4 and 5, without threads, clocks or RPCs.
// Workers in excess wait; as many as make a group form a further one. Not thread-safe.
class GroupTable {
 public:
  static constexpr int kMaxTensorParallel = 1024;

  explicit GroupTable(const GroupTableOptions& options);

  // Admits a worker. INVALID_ARGUMENT: a field is missing or out of range. FAILED_PRECONDITION: it
  // does not fit the coordinator or the members there are; names both values. UNAVAILABLE: a member
  // has the same address, perhaps the same worker before it broke; try again.
  absl::StatusOr<MemberId> Join(const WorkerInfo& worker, absl::Time now, GroupChanges* changes);

  // A report of another generation than the member's says nothing and is ignored.
  void Report(MemberId member, const WorkerReport& report, absl::Time now, GroupChanges* changes);

  // The member's stream ended. Its group ends too. Unknown members are ignored.
  void Leave(MemberId member, GroupChanges* changes);

  // Ends a group; all its members are released. Unknown generations are ignored.
  void End(int64_t generation, const std::string& reason, GroupChanges* changes);

  // Ends the groups with a member that makes no progress.
  void CheckProgress(absl::Time now, GroupChanges* changes);

  // Releases all members.
  void ReleaseAll(const std::string& reason, GroupChanges* changes);

  bool IsReady(int64_t generation) const;
  int members() const { return static_cast<int>(members_.size()); }

  // What is still missing: "waiting for workers: 2 of 3 joined". Once a group is ready, which.
  std::string Describe() const;

 private:
  struct Member {
    WorkerInfo worker;
    RankAssignment assignment;  // generation 0: waits
    bool ready = false;
    int64_t steps = 0;
    absl::Time last_progress;
  };
  struct Group {
    std::vector<MemberId> members;  // by rank
    bool ready = false;
  };

  absl::Status CheckFields(const WorkerInfo& worker) const;
  absl::Status CheckAgreement(const WorkerInfo& worker) const;
  std::vector<MemberId> Waiting() const;
  void FormGroup(const std::vector<MemberId>& waiting, absl::Time now, GroupChanges* changes);

  const GroupTableOptions options_;
  int group_size_;  // workers that make a group, as far as is known; 0: it is not
  MemberId next_member_ = 1;
  int64_t next_generation_;
  std::map<MemberId, Member> members_;  // in the order of joining
  std::map<int64_t, Group> groups_;     // by generation
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_GROUP_TABLE_H_
