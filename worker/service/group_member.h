#ifndef WEIR_WORKER_SERVICE_GROUP_MEMBER_H_
#define WEIR_WORKER_SERVICE_GROUP_MEMBER_H_

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/worker/v1/group.grpc.pb.h"
#include "worker/service/group_membership.h"
#include "worker/service/rank_host.h"

namespace weir {

struct GroupMemberOptions {
  // All but `preferred_rank`, which is the host's.
  worker::v1::Registration registration;
  std::string coordinator;  // its address, for messages
  absl::Duration report_interval = absl::Seconds(1);
  // The group is left when the engine makes no step for this long.
  absl::Duration stall_timeout = absl::Seconds(10);
  // Between two attempts to join: doubles from the first to the second.
  absl::Duration least_backoff = absl::Milliseconds(200);
  absl::Duration most_backoff = absl::Seconds(5);
  // Told whether the worker's engine runs and makes steps, when this changes.
  std::function<void(bool serving)> on_serving;
  // Told, in a sentence, what happens. Both on the member's thread; may be empty.
  std::function<void(const std::string& sentence)> log;
};

// A worker's membership in a group, as proto/weir/worker/v1/group.proto tells it: joins, runs the
// host's engine while the group lasts, reports its steps, leaves when the engine ends or stands
// still, and joins again, until it is destroyed. Thread-safe.
class GroupMember {
 public:
  // `host` outlives the member, which alone uses it.
  GroupMember(const GroupMemberOptions& options, const std::shared_ptr<grpc::Channel>& coordinator,
              RankHost* host);
  ~GroupMember() { Stop(); }
  GroupMember(const GroupMember&) = delete;
  GroupMember& operator=(const GroupMember&) = delete;

  // Leaves the group and does not join again. Later calls do nothing.
  void Stop();

  // OK while it is, or tries to become, part of a group; else why it never will: this worker's
  // model, settings or memory do not allow it.
  absl::Status status() const;

 private:
  void Run();
  // One membership, from Join to its end. Returns why it ended.
  absl::Status TakePart(bool* was_ready);
  // From the assignment to the end.
  absl::Status Serve(const GroupPlace& place, GroupMembership& membership, bool* was_ready);
  // Waits while the engine runs. Returns why it, or the membership, is over.
  absl::Status Attend(GroupMembership& membership, const Engine& engine);
  // Waits between two attempts; false when the member shall stop.
  bool Pause(absl::Duration time);
  bool stopping() const;
  void Log(const std::string& sentence) const;

  const GroupMemberOptions options_;
  const std::unique_ptr<worker::v1::GroupService::Stub> stub_;
  RankHost* const host_;

  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  GroupMembership* membership_ ABSL_GUARDED_BY(mutex_) = nullptr;

  std::once_flag stopped_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GROUP_MEMBER_H_
