#include "coordinator/join_reactor.h"

#include <utility>

#include "proto/grpc_status.h"

namespace weir {

JoinReactor* JoinReactor::Start(GroupKeeper* keeper) {
  std::shared_ptr<JoinReactor> reactor(new JoinReactor(keeper));
  reactor->self_ = reactor;
  reactor->StartRead(&reactor->request_);
  return reactor.get();
}

void JoinReactor::OnReadDone(bool ok) {
  if (!ok) {  // The worker closed the stream, or it broke, or it has been finished.
    FinishOnce(grpc::Status::OK);
    return;
  }
  if (absl::Status status = Handle(request_); !status.ok()) {
    FinishOnce(ToGrpcStatus(status));
    return;
  }
  StartRead(&request_);
}

absl::Status JoinReactor::Handle(const worker::v1::JoinRequest& request) {
  if (request.has_report()) {
    if (!member_) {
      return absl::InvalidArgumentError("the first message of Join is a registration");
    }
    const worker::v1::Report& report = request.report();
    keeper_->Report(
        *member_,
        {.generation = report.generation(), .ready = report.ready(), .steps = report.steps()});
    return absl::OkStatus();
  }
  if (!request.has_registration() || member_) {
    return absl::InvalidArgumentError("after the first message, those of Join are reports");
  }
  const worker::v1::Registration& registration = request.registration();
  WorkerInfo worker = {.address = registration.address(),
                       .version = registration.version(),
                       .model_fingerprint = registration.model_fingerprint(),
                       .tensor_parallel = registration.tensor_parallel(),
                       .device = registration.device(),
                       .settings_fingerprint = registration.settings_fingerprint()};
  if (registration.has_preferred_rank()) worker.preferred_rank = registration.preferred_rank();
  absl::StatusOr<MemberId> member = keeper_->Join(worker, self_);
  if (member.ok()) member_ = *member;
  return member.status();
}

void JoinReactor::OnCancel() { FinishOnce(grpc::Status::CANCELLED); }

void JoinReactor::OnDone() {
  if (member_) keeper_->Leave(*member_);
  const std::shared_ptr<JoinReactor> last = std::move(self_);
}

void JoinReactor::OnAssigned(const RankAssignment& assignment) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  worker::v1::Assignment* message = response_.mutable_assignment();
  message->set_generation(assignment.generation);
  message->set_rank(assignment.rank);
  message->set_size(assignment.size);
  StartWrite(&response_);
}

void JoinReactor::OnReleased(const absl::Status& status) { FinishOnce(ToGrpcStatus(status)); }

void JoinReactor::FinishOnce(const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  finished_ = true;
  Finish(status);
}

}  // namespace weir
