#include "worker/service/group_membership.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/grpc_status.h"

namespace weir {
namespace {

absl::StatusOr<GroupPlace> PlaceFromProto(const worker::v1::Assignment& assignment, int size) {
  if (assignment.size() != size || assignment.rank() < 0 || assignment.rank() >= size) {
    return absl::InternalError(absl::StrCat("the coordinator gave rank ", assignment.rank(), " of ",
                                            assignment.size(), " to a worker of a group of ",
                                            size));
  }
  return GroupPlace{
      .generation = assignment.generation(), .rank = assignment.rank(), .size = assignment.size()};
}

}  // namespace

GroupMembership::GroupMembership(worker::v1::GroupService::StubInterface* stub,
                                 absl::Duration report_interval)
    : stub_(stub), report_interval_(report_interval) {}

GroupMembership::~GroupMembership() {
  if (stream_ != nullptr) Leave().IgnoreError();
}

absl::StatusOr<GroupPlace> GroupMembership::Join(const worker::v1::Registration& registration) {
  stream_ = stub_->Join(&context_);
  worker::v1::JoinRequest request;
  *request.mutable_registration() = registration;
  stream_->Write(request);  // If it fails, so does Read.
  worker::v1::JoinResponse response;
  if (!stream_->Read(&response)) {
    const absl::Status status = FromGrpcStatus(std::exchange(stream_, nullptr)->Finish());
    return status.ok() ? absl::UnavailableError("the coordinator ended the stream") : status;
  }
  const absl::StatusOr<GroupPlace> place =
      PlaceFromProto(response.assignment(), registration.tensor_parallel());
  if (!place.ok()) return place;
  rendezvous_.emplace(stub_, place->generation);
  reader_ = std::thread([this] { ReadToEnd(); });
  reporter_ = std::thread([this, generation = place->generation] { SendReports(generation); });
  return place;
}

void GroupMembership::Report(const Engine* engine) {
  absl::MutexLock lock(&mutex_);
  engine_ = engine;
  report_now_ = true;
}

bool GroupMembership::WaitForEnd(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&over_), timeout);
}

absl::Status GroupMembership::Leave() {
  bool was_over = false;
  {
    absl::MutexLock lock(&mutex_);
    was_over = over_;
    leaving_ = true;
  }
  if (!was_over) context_.TryCancel();
  if (rendezvous_) rendezvous_->Cancel();
  if (reporter_.joinable()) reporter_.join();
  if (reader_.joinable()) reader_.join();
  const absl::Status status = FromGrpcStatus(std::exchange(stream_, nullptr)->Finish());
  if (!was_over) return absl::CancelledError("left the group");
  return status.ok() ? absl::UnavailableError("the coordinator ended the stream") : status;
}

void GroupMembership::ReadToEnd() {
  // Nothing is to be read any more but the end.
  worker::v1::JoinResponse response;
  while (stream_->Read(&response)) {
  }
  rendezvous_->Cancel();
  absl::MutexLock lock(&mutex_);
  over_ = true;
}

void GroupMembership::SendReports(int64_t generation) {
  const auto wakes = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return report_now_ || over_ || leaving_;
  };
  while (true) {
    worker::v1::JoinRequest request;
    {
      absl::MutexLock lock(&mutex_);
      if (over_ || leaving_) return;
      report_now_ = false;
      worker::v1::Report* report = request.mutable_report();
      report->set_generation(generation);
      report->set_ready(engine_ != nullptr && engine_->health().ok());
      report->set_steps(engine_ == nullptr ? 0 : engine_->steps());
    }
    if (!stream_->Write(request)) return;
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&wakes), report_interval_);
  }
}

}  // namespace weir
