#ifndef WEIR_COORDINATOR_JOIN_REACTOR_H_
#define WEIR_COORDINATOR_JOIN_REACTOR_H_

#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/group_keeper.h"
#include "weir/worker/v1/group.pb.h"

namespace weir {

// One worker's Join stream: reads the registration and then the reports, writes the assignment, and
// ends when the worker or its group does. Owns itself from Start to the end of the stream.
class JoinReactor final
    : public grpc::ServerBidiReactor<worker::v1::JoinRequest, worker::v1::JoinResponse>,
      public MemberListener {
 public:
  // `keeper` outlives the stream.
  static JoinReactor* Start(GroupKeeper* keeper);

  // ---- gRPC ----
  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // ---- GroupKeeper ----
  void OnAssigned(const RankAssignment& assignment) override;
  void OnReleased(const absl::Status& status) override;

 private:
  explicit JoinReactor(GroupKeeper* keeper) : keeper_(keeper) {}

  // Handles one message; an error ends the stream.
  absl::Status Handle(const worker::v1::JoinRequest& request);
  // Ends the stream, unless it has been ended already.
  void FinishOnce(const grpc::Status& status);

  GroupKeeper* const keeper_;
  // Until OnDone; the keeper holds the listener for a while too.
  std::shared_ptr<JoinReactor> self_;
  worker::v1::JoinRequest request_;
  worker::v1::JoinResponse response_;
  std::optional<MemberId> member_;

  absl::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_JOIN_REACTOR_H_
