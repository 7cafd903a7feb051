#include "tests/worker/service/fake_coordinator.h"

#include <set>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(30);

}  // namespace

FakeCoordinator::FakeCoordinator() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

FakeCoordinator::~FakeCoordinator() { server_->Shutdown(std::chrono::system_clock::now()); }

std::string FakeCoordinator::address() const { return absl::StrCat("127.0.0.1:", port_); }

std::shared_ptr<grpc::Channel> FakeCoordinator::Channel() const {
  return grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
}

void FakeCoordinator::Refuse(const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  refusal_ = status;
}

void FakeCoordinator::AssignAlways(const worker::v1::Assignment& assignment) {
  absl::MutexLock lock(&mutex_);
  always_ = assignment;
}

void FakeCoordinator::EndAll(const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  ended_generation_ = generation_;
  ended_status_ = status;
}

std::vector<worker::v1::Registration> FakeCoordinator::WaitForRegistrations(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return registrations_.size() >= count;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&enough), kLimit);
  return registrations_;
}

bool FakeCoordinator::WaitForReady(int size) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    int count = 0;
    for (const auto& [rank, report] : reports_) {
      if (report.generation() == generation_ && report.ready()) ++count;
    }
    return count == size && ended_generation_ < generation_;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&ready), kLimit);
}

bool FakeCoordinator::WaitForNobody() {
  absl::MutexLock lock(&mutex_);
  const auto nobody = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return members_ == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&nobody), kLimit);
}

int64_t FakeCoordinator::generation() const {
  absl::MutexLock lock(&mutex_);
  return generation_;
}

std::optional<worker::v1::Report> FakeCoordinator::LastReport(int rank) const {
  absl::MutexLock lock(&mutex_);
  const auto found = reports_.find(rank);
  if (found == reports_.end() || found->second.generation() != generation_) return std::nullopt;
  return found->second;
}

void FakeCoordinator::FormGroup(int size) {
  ++generation_;
  std::set<int> taken;
  for (const auto& member : waiting_) {
    if (member->preferred && taken.insert(*member->preferred).second) {
      member->assignment.set_rank(*member->preferred);
    } else {
      member->preferred.reset();
    }
  }
  int next = 0;
  for (const auto& member : waiting_) {
    if (!member->preferred) {
      while (taken.contains(next)) ++next;
      taken.insert(next);
      member->assignment.set_rank(next);
    }
    member->assignment.set_size(size);
    if (always_) member->assignment = *always_;
    member->assignment.set_generation(generation_);
  }
  waiting_.clear();
}

grpc::Status FakeCoordinator::Join(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<worker::v1::JoinResponse, worker::v1::JoinRequest>* stream) {
  worker::v1::JoinRequest request;
  if (!stream->Read(&request) || !request.has_registration()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no registration");
  }
  auto member = std::make_shared<Waiting>();
  {
    absl::MutexLock lock(&mutex_);
    registrations_.push_back(request.registration());
    if (!refusal_.ok()) return refusal_;
    ++members_;
    if (request.registration().has_preferred_rank()) {
      member->preferred = request.registration().preferred_rank();
    }
    waiting_.push_back(member);
    const int size = request.registration().tensor_parallel();
    if (static_cast<int>(waiting_.size()) == size) FormGroup(size);
    const auto assigned = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return member->assignment.generation() != 0 || context->IsCancelled();
    };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&assigned), absl::Milliseconds(5))) {
    }
  }
  worker::v1::JoinResponse response;
  *response.mutable_assignment() = member->assignment;
  stream->Write(response);
  grpc::Status end;
  while (stream->Read(&request)) {
    absl::MutexLock lock(&mutex_);
    reports_[member->assignment.rank()] = request.report();
    if (ended_generation_ >= member->assignment.generation()) {
      end = ended_status_;
      break;
    }
  }
  absl::MutexLock lock(&mutex_);
  --members_;
  return end;
}

grpc::Status FakeCoordinator::PutRendezvous(grpc::ServerContext*,
                                            const worker::v1::PutRendezvousRequest* request,
                                            worker::v1::PutRendezvousResponse*) {
  absl::MutexLock lock(&mutex_);
  values_[{request->generation(), request->key()}] = request->value();
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::GetRendezvous(grpc::ServerContext* context,
                                            const worker::v1::GetRendezvousRequest* request,
                                            worker::v1::GetRendezvousResponse* response) {
  absl::MutexLock lock(&mutex_);
  const std::pair<int64_t, std::string> key = {request->generation(), request->key()};
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return values_.contains(key) || context->IsCancelled();
  };
  while (!mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Milliseconds(5))) {
  }
  if (!values_.contains(key)) return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "nobody");
  response->set_value(values_[key]);
  return grpc::Status::OK;
}

}  // namespace weir
