#include "coordinator/group_service.h"

#include <algorithm>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/join_reactor.h"
#include "proto/grpc_status.h"

namespace weir {
namespace {

// A caller without a deadline does not wait for longer.
constexpr absl::Duration kMaxWait = absl::Minutes(10);

}  // namespace

grpc::ServerBidiReactor<worker::v1::JoinRequest, worker::v1::JoinResponse>* GroupService::Join(
    grpc::CallbackServerContext*) {
  return JoinReactor::Start(keeper_);
}

grpc::Status GroupService::PutRendezvous(grpc::ServerContext*,
                                         const worker::v1::PutRendezvousRequest* request,
                                         worker::v1::PutRendezvousResponse*) {
  return ToGrpcStatus(
      keeper_->rendezvous()->Put(request->generation(), request->key(), request->value()));
}

grpc::Status GroupService::GetRendezvous(grpc::ServerContext* context,
                                         const worker::v1::GetRendezvousRequest* request,
                                         worker::v1::GetRendezvousResponse* response) {
  const absl::Time deadline =
      std::min(absl::FromChrono(context->deadline()), absl::Now() + kMaxWait);
  absl::StatusOr<std::string> value =
      keeper_->rendezvous()->Get(request->generation(), request->key(), deadline,
                                 [context] { return context->IsCancelled(); });
  if (!value.ok()) return ToGrpcStatus(value.status());
  response->set_value(*std::move(value));
  return grpc::Status::OK;
}

}  // namespace weir
