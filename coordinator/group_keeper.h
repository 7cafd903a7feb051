#ifndef WEIR_COORDINATOR_GROUP_KEEPER_H_
#define WEIR_COORDINATOR_GROUP_KEEPER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/group_table.h"
#include "coordinator/rendezvous_board.h"
#include "monitoring/metrics.h"

namespace weir {

// The other end of a membership: a worker's stream. Called on any thread, without locks held; must
// not block. After OnReleased nothing follows.
class MemberListener {
 public:
  virtual ~MemberListener() = default;
  virtual void OnAssigned(const RankAssignment& assignment) = 0;
  virtual void OnReleased(const absl::Status& status) = 0;
};

struct GroupKeeperOptions {
  GroupTableOptions table;
  absl::Duration check_interval = absl::Milliseconds(250);  // between looks for stalled members

  // Makes a group that is ready reachable for calls; may block for seconds, on the keeper's own
  // thread. An error ends the group; its message says why.
  std::function<absl::Status(int64_t generation, const std::string& leader_address)> connect;
  // The group is over. May be called again for the same group. Must not block.
  std::function<void(int64_t generation, const std::string& reason)> ended;
  // Told, in a sentence, what happens to workers and groups. May be empty.
  std::function<void(const std::string& sentence)> log;
};

// GroupTable in a running server: with threads, a clock, the members' streams and the rendezvous.
// Thread-safe.
class GroupKeeper {
 public:
  // `metrics` outlives it.
  GroupKeeper(GroupKeeperOptions options, Metrics* metrics);
  // Releases all members.
  ~GroupKeeper();
  GroupKeeper(const GroupKeeper&) = delete;
  GroupKeeper& operator=(const GroupKeeper&) = delete;

  // As GroupTable. The listener may be called before Join returns.
  absl::StatusOr<MemberId> Join(const WorkerInfo& worker,
                                const std::shared_ptr<MemberListener>& listener);
  void Report(MemberId member, const WorkerReport& report);
  void Leave(MemberId member);

  // Releases all members and takes no more: the coordinator stops.
  void Stop();

  // What is still missing, as GroupTable::Describe.
  std::string Describe() const;

  RendezvousBoard* rendezvous() { return &rendezvous_; }

 private:
  // Brings rendezvous, metrics and the groups to connect up to date with the table. Returns the
  // calls that tell everybody concerned, to be made without the lock.
  std::vector<std::function<void()>> Settle(const GroupChanges& changes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void Connect(const GroupChanges::Ready& group);
  void Log(const std::string& sentence) const;

  const GroupKeeperOptions options_;
  RendezvousBoard rendezvous_;
  prometheus::Gauge& workers_joined_;
  prometheus::Gauge& groups_ready_;
  prometheus::Counter& groups_lost_;

  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
  GroupTable table_ ABSL_GUARDED_BY(mutex_);
  std::map<MemberId, std::shared_ptr<MemberListener>> listeners_ ABSL_GUARDED_BY(mutex_);
  std::deque<GroupChanges::Ready> to_connect_ ABSL_GUARDED_BY(mutex_);
  std::set<int64_t> connected_ ABSL_GUARDED_BY(mutex_);  // generations
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_GROUP_KEEPER_H_
