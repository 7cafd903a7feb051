#include "worker/service/group_rendezvous.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/grpc_status.h"

namespace weir {
namespace {

constexpr absl::Duration kPutTimeout = absl::Seconds(10);

}  // namespace

absl::Status GroupRendezvous::Put(const std::string& key, const std::string& value) {
  worker::v1::PutRendezvousRequest request;
  request.set_generation(generation_);
  request.set_key(key);
  request.set_value(value);
  return Call(kPutTimeout, [&](grpc::ClientContext* context) {
    worker::v1::PutRendezvousResponse response;
    return stub_->PutRendezvous(context, request, &response);
  });
}

absl::StatusOr<std::string> GroupRendezvous::Get(const std::string& key, absl::Duration timeout) {
  worker::v1::GetRendezvousRequest request;
  request.set_generation(generation_);
  request.set_key(key);
  worker::v1::GetRendezvousResponse response;
  const absl::Status status = Call(timeout, [&](grpc::ClientContext* context) {
    return stub_->GetRendezvous(context, request, &response);
  });
  if (!status.ok()) return status;
  return std::move(*response.mutable_value());
}

void GroupRendezvous::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : running_) context->TryCancel();
}

absl::Status GroupRendezvous::Call(
    absl::Duration timeout, const std::function<grpc::Status(grpc::ClientContext* context)>& call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  {
    absl::MutexLock lock(&mutex_);
    if (cancelled_) return absl::CancelledError("the group is over");
    running_.insert(&context);
  }
  const grpc::Status status = call(&context);
  absl::MutexLock lock(&mutex_);
  running_.erase(&context);
  return FromGrpcStatus(status);
}

}  // namespace weir
