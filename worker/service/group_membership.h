#ifndef WEIR_WORKER_SERVICE_GROUP_MEMBERSHIP_H_
#define WEIR_WORKER_SERVICE_GROUP_MEMBERSHIP_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/worker/v1/group.grpc.pb.h"
#include "worker/engine/engine.h"
#include "worker/service/group_rendezvous.h"
#include "worker/service/rank_host.h"

namespace weir {

// One stream of GroupService.Join: registers, learns its place in a group, then reports at regular
// times on a thread of its own until it is over. Join and Leave are called once each, by one
// thread; the rest by any.
class GroupMembership {
 public:
  // `stub` outlives this.
  GroupMembership(worker::v1::GroupService::StubInterface* stub, absl::Duration report_interval);
  ~GroupMembership();
  GroupMembership(const GroupMembership&) = delete;
  GroupMembership& operator=(const GroupMembership&) = delete;

  // Blocks until the group is complete. Errors: the coordinator's.
  absl::StatusOr<GroupPlace> Join(const worker::v1::Registration& registration);

  // After Join.
  GroupRendezvous& rendezvous() { return *rendezvous_; }

  // Reports the engine's steps from now on; it outlives the membership, or null is set before.
  // Until then, and with null, reports say that the worker is not ready.
  void Report(const Engine* engine);

  // Waits for the end of the membership, but no longer than `timeout`. Whether it is over.
  bool WaitForEnd(absl::Duration timeout);

  // Ends it, if it is not over. Returns why the coordinator ended it; CANCELLED if it did not.
  absl::Status Leave();

  // Makes Join fail, and a membership be over, soon.
  void Cancel() { context_.TryCancel(); }

 private:
  void ReadToEnd();
  void SendReports(int64_t generation);

  worker::v1::GroupService::StubInterface* const stub_;
  const absl::Duration report_interval_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriterInterface<worker::v1::JoinRequest, worker::v1::JoinResponse>>
      stream_;
  std::optional<GroupRendezvous> rendezvous_;

  absl::Mutex mutex_;
  const Engine* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool report_now_ ABSL_GUARDED_BY(mutex_) = true;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;     // the coordinator ended it
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;  // this side ends it

  std::thread reader_;
  std::thread reporter_;
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GROUP_MEMBERSHIP_H_
