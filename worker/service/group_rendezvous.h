#ifndef WEIR_WORKER_SERVICE_GROUP_RENDEZVOUS_H_
#define WEIR_WORKER_SERVICE_GROUP_RENDEZVOUS_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/worker/v1/group.grpc.pb.h"
#include "worker/comm/rendezvous.h"

namespace weir {

// The coordinator's rendezvous, for one generation of the group. Thread-safe.
class GroupRendezvous : public Rendezvous {
 public:
  // `stub` outlives this.
  GroupRendezvous(worker::v1::GroupService::StubInterface* stub, int64_t generation)
      : stub_(stub), generation_(generation) {}

  absl::Status Put(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override;

  // Makes calls in progress and all later ones fail with CANCELLED.
  void Cancel();

 private:
  absl::Status Call(absl::Duration timeout,
                    const std::function<grpc::Status(grpc::ClientContext* context)>& call);

  worker::v1::GroupService::StubInterface* const stub_;
  const int64_t generation_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GROUP_RENDEZVOUS_H_
