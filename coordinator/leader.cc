#include "coordinator/leader.h"

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

std::unique_ptr<grpc::ClientContext> ContextWithTimeout(absl::Duration timeout) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  return context;
}

}  // namespace

Leader::Leader(int64_t generation, const std::shared_ptr<grpc::Channel>& channel)
    : generation_(generation), stub_(worker::v1::WorkerService::NewStub(channel)) {}

absl::StatusOr<std::shared_ptr<Leader>> Leader::Connect(
    int64_t generation, const std::string& address, const std::shared_ptr<grpc::Channel>& channel,
    absl::Duration timeout) {
  std::shared_ptr<Leader> leader(new Leader(generation, channel));
  const auto context = ContextWithTimeout(timeout);
  worker::v1::DescribeModelResponse response;
  const grpc::Status status =
      leader->stub()->DescribeModel(context.get(), worker::v1::DescribeModelRequest(), &response);
  if (!status.ok()) {
    return absl::UnavailableError(absl::StrCat("the coordinator cannot reach rank 0 at ", address,
                                               ": ", status.error_message()));
  }
  leader->model_ = std::move(*response.mutable_model());
  return leader;
}

void Leader::End(const std::string& reason) {
  absl::MutexLock lock(&mutex_);
  if (!ended_.empty()) return;
  ended_ = reason;
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

void Leader::AwaitCalls(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); };
  mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
}

LeaderCall::LeaderCall(std::shared_ptr<Leader> leader, const grpc::ServerContext& caller)
    : LeaderCall(std::move(leader), grpc::ClientContext::FromServerContext(caller)) {}

LeaderCall::LeaderCall(std::shared_ptr<Leader> leader, absl::Duration timeout)
    : LeaderCall(std::move(leader), ContextWithTimeout(timeout)) {}

LeaderCall::LeaderCall(std::shared_ptr<Leader> leader, std::unique_ptr<grpc::ClientContext> context)
    : leader_(std::move(leader)), context_(std::move(context)) {
  absl::MutexLock lock(&leader_->mutex_);
  leader_->calls_.insert(context_.get());
  if (!leader_->ended_.empty()) context_->TryCancel();
}

LeaderCall::~LeaderCall() {
  absl::MutexLock lock(&leader_->mutex_);
  leader_->calls_.erase(context_.get());
}

grpc::Status LeaderCall::Result(const grpc::Status& status) const {
  // A lost group shows as a connection that broke or as a call that End cancelled.
  const bool unavailable = status.error_code() == grpc::StatusCode::UNAVAILABLE;
  if (!unavailable && status.error_code() != grpc::StatusCode::CANCELLED) return status;
  absl::MutexLock lock(&leader_->mutex_);
  if (!leader_->ended_.empty()) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, leader_->ended_);
  }
  if (!unavailable) return status;
  return grpc::Status(grpc::StatusCode::UNAVAILABLE,
                      absl::StrCat("the workers are not available: ", status.error_message()));
}

}  // namespace weir
