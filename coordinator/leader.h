#ifndef WEIR_COORDINATOR_LEADER_H_
#define WEIR_COORDINATOR_LEADER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/v1/model.pb.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {

// The leader of a ready group, as the public services reach it: one channel for all calls.
// Thread-safe.
class Leader {
 public:
  // Asks for the model, and so finds out whether the leader can be reached. UNAVAILABLE after
  // `timeout`, naming the address.
  static absl::StatusOr<std::shared_ptr<Leader>> Connect(
      int64_t generation, const std::string& address, const std::shared_ptr<grpc::Channel>& channel,
      absl::Duration timeout);

  int64_t generation() const { return generation_; }
  // As it was when the group became ready.
  const v1::Model& model() const { return model_; }
  worker::v1::WorkerService::Stub* stub() const { return stub_.get(); }

  // Calls in progress end at once, and later ones as they begin, with UNAVAILABLE and `reason`.
  void End(const std::string& reason);
  // Returns when no call is in progress, or at the deadline.
  void AwaitCalls(absl::Time deadline);

 private:
  friend class LeaderCall;

  Leader(int64_t generation, const std::shared_ptr<grpc::Channel>& channel);

  const int64_t generation_;
  const std::unique_ptr<worker::v1::WorkerService::Stub> stub_;
  v1::Model model_;

  absl::Mutex mutex_;
  absl::flat_hash_set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mutex_);
  std::string ended_ ABSL_GUARDED_BY(mutex_);  // why; empty: it has not
};

// One call to a leader on behalf of a caller: the caller's deadline and cancellation hold for it,
// and it ends when the group does. Lives as long as the call.
class LeaderCall {
 public:
  LeaderCall(std::shared_ptr<Leader> leader, const grpc::ServerContext& caller);
  // A call that the caller of ours need not wait for.
  LeaderCall(std::shared_ptr<Leader> leader, absl::Duration timeout);
  ~LeaderCall();
  LeaderCall(const LeaderCall&) = delete;
  LeaderCall& operator=(const LeaderCall&) = delete;

  worker::v1::WorkerService::Stub* stub() const { return leader_->stub(); }
  grpc::ClientContext* context() { return context_.get(); }

  // What the caller is told when the call ended with `status`: the same, code and message; but when
  // the leader's calls have ended, or it cannot be reached, UNAVAILABLE and why.
  grpc::Status Result(const grpc::Status& status) const;

 private:
  LeaderCall(std::shared_ptr<Leader> leader, std::unique_ptr<grpc::ClientContext> context);

  const std::shared_ptr<Leader> leader_;
  const std::unique_ptr<grpc::ClientContext> context_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_LEADER_H_
