#include "worker/service/group_member.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

// How often the engine is looked at.
constexpr absl::Duration kLookInterval = absl::Milliseconds(50);

// Whether another attempt may succeed, with other workers or another group.
bool MayPass(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kFailedPrecondition:
      return true;
    default:
      return false;
  }
}

}  // namespace

GroupMember::GroupMember(const GroupMemberOptions& options,
                         const std::shared_ptr<grpc::Channel>& coordinator, RankHost* host)
    : options_(options),
      stub_(worker::v1::GroupService::NewStub(coordinator)),
      host_(host),
      thread_([this] { Run(); }) {}

void GroupMember::Stop() {
  std::call_once(stopped_, [this] {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      if (membership_ != nullptr) membership_->Cancel();
    }
    thread_.join();
  });
}

absl::Status GroupMember::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

void GroupMember::Run() {
  absl::Duration backoff = options_.least_backoff;
  std::string last_logged;
  while (!stopping() && status().ok()) {
    bool was_ready = false;
    const absl::Status why = TakePart(&was_ready);
    if (stopping()) return;
    if (was_ready) {
      backoff = options_.least_backoff;
      last_logged.clear();
    }
    // A coordinator that is away for long is worth one line.
    if (why.message() != last_logged) Log(std::string(why.message()));
    last_logged = std::string(why.message());
    if (!Pause(backoff)) return;
    backoff = std::min(2 * backoff, options_.most_backoff);
  }
}

absl::Status GroupMember::TakePart(bool* was_ready) {
  worker::v1::Registration registration = options_.registration;
  if (const std::optional<int> rank = host_->held_rank()) registration.set_preferred_rank(*rank);

  GroupMembership membership(stub_.get(), options_.report_interval);
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return absl::CancelledError("the worker stops");
    membership_ = &membership;
  }
  const absl::StatusOr<GroupPlace> place = membership.Join(registration);
  absl::Status why;
  if (!place.ok()) {
    why = absl::Status(place.status().code(),
                       absl::StrCat("cannot join the coordinator at ", options_.coordinator, ": ",
                                    place.status().message()));
  } else {
    Log(absl::StrCat("rank ", place->rank, " of ", place->size, " in generation ",
                     place->generation, " of the group"));
    why = Serve(*place, membership, was_ready);
  }
  absl::MutexLock lock(&mutex_);
  membership_ = nullptr;
  return why;
}

absl::Status GroupMember::Serve(const GroupPlace& place, GroupMembership& membership,
                                bool* was_ready) {
  const absl::StatusOr<Engine*> engine = host_->Start(place, membership.rendezvous());
  absl::Status why = engine.status();
  if (engine.ok()) {
    *was_ready = true;
    membership.Report(*engine);
    if (options_.on_serving) options_.on_serving(true);
    why = Attend(membership, **engine);
    if (options_.on_serving) options_.on_serving(false);
    membership.Report(nullptr);
  } else if (!MayPass(why)) {
    absl::MutexLock lock(&mutex_);
    status_ = why;
  }
  // If the coordinator ended the membership, its sentence tells more than what followed here.
  const absl::Status ended = membership.Leave();
  const absl::Status lost = absl::UnavailableError(
      absl::IsCancelled(ended)
          ? absl::StrCat("generation ", place.generation, " of the group is over: ", why.message())
          : std::string(ended.message()));
  if (engine.ok()) host_->Stop(lost);
  return lost;
}

absl::Status GroupMember::Attend(GroupMembership& membership, const Engine& engine) {
  int64_t steps = engine.steps();
  // Not the time of day, which may be set.
  auto stepped = std::chrono::steady_clock::now();
  while (!membership.WaitForEnd(kLookInterval)) {
    host_->OnRunning();
    if (stopping()) return absl::UnavailableError("the worker stops");
    if (const absl::Status health = engine.health(); !health.ok()) return health;
    const auto now = std::chrono::steady_clock::now();
    if (engine.steps() != steps) {
      steps = engine.steps();
      stepped = now;
    } else if (absl::FromChrono(now - stepped) > options_.stall_timeout) {
      return absl::UnavailableError(absl::StrCat("the engine has made no step after step ", steps,
                                                 " for ",
                                                 absl::FormatDuration(options_.stall_timeout)));
    }
  }
  return absl::UnavailableError("the coordinator ended it");
}

bool GroupMember::Pause(absl::Duration time) {
  absl::MutexLock lock(&mutex_);
  return !mutex_.AwaitWithTimeout(absl::Condition(&stopping_), time);
}

bool GroupMember::stopping() const {
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

void GroupMember::Log(const std::string& sentence) const {
  if (options_.log) options_.log(sentence);
}

}  // namespace weir
