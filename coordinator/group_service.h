#ifndef WEIR_COORDINATOR_GROUP_SERVICE_H_
#define WEIR_COORDINATOR_GROUP_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include "coordinator/group_keeper.h"
#include "weir/worker/v1/group.grpc.pb.h"

namespace weir {

// The workers' GroupService: GroupKeeper over gRPC. A Join takes no thread while nothing happens,
// and can be ended while its worker is silent; hence it alone uses gRPC's callbacks.
class GroupService final
    : public worker::v1::GroupService::WithCallbackMethod_Join<worker::v1::GroupService::Service> {
 public:
  // `keeper` outlives the service.
  explicit GroupService(GroupKeeper* keeper) : keeper_(keeper) {}

  grpc::ServerBidiReactor<worker::v1::JoinRequest, worker::v1::JoinResponse>* Join(
      grpc::CallbackServerContext* context) override;
  grpc::Status PutRendezvous(grpc::ServerContext* context,
                             const worker::v1::PutRendezvousRequest* request,
                             worker::v1::PutRendezvousResponse* response) override;
  grpc::Status GetRendezvous(grpc::ServerContext* context,
                             const worker::v1::GetRendezvousRequest* request,
                             worker::v1::GetRendezvousResponse* response) override;

 private:
  GroupKeeper* const keeper_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_GROUP_SERVICE_H_
