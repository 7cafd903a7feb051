#include "coordinator/router.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/placement.h"
#include "coordinator/session_id.h"

namespace weir {

Router::Router(std::function<std::string()> describe_groups, Metrics* metrics)
    : describe_groups_(std::move(describe_groups)),
      session_count_(metrics->AddGauge("weir_coordinator_sessions", "Sessions that exist.")) {}

void Router::AddLeader(std::shared_ptr<Leader> leader) {
  absl::MutexLock lock(&mutex_);
  leaders_.emplace(leader->generation(), std::move(leader));
}

void Router::EndGroup(int64_t generation, const std::string& reason) {
  std::shared_ptr<Leader> leader;
  {
    absl::MutexLock lock(&mutex_);
    auto found = leaders_.extract(generation);
    if (found.empty()) return;
    leader = std::move(found.mapped());
    sessions_.Lose(generation, reason);
    session_count_.Set(sessions_.size());
  }
  leader->End(absl::StrCat("the workers were lost: ", reason));
}

std::vector<std::shared_ptr<Leader>> Router::leaders() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Leader>> leaders;
  for (const auto& [generation, leader] : leaders_) leaders.push_back(leader);
  return leaders;
}

void Router::Close(const std::string& reason, absl::Duration drain, absl::Duration grace) {
  const absl::Time deadline = absl::Now() + drain;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = absl::UnavailableError(reason);
  }
  const std::vector<std::shared_ptr<Leader>> open = leaders();
  for (const auto& leader : open) leader->AwaitCalls(deadline);
  for (const auto& leader : open) leader->End(reason);
  const absl::Time end = absl::Now() + grace;
  for (const auto& leader : open) leader->AwaitCalls(end);
}

absl::Status Router::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

absl::StatusOr<std::shared_ptr<Leader>> Router::ForSession(const std::string& id) const {
  if (absl::Status status = CheckSessionId(id); !status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  if (!closed_.ok()) return closed_;
  const absl::StatusOr<int64_t> generation = sessions_.Find(id, kAnonymousPrincipal);
  if (!generation.ok()) return generation.status();
  // A session that is not lost has its group: both change together, under the lock.
  return leaders_.at(*generation);
}

absl::StatusOr<std::shared_ptr<Leader>> Router::ForNewSession() const {
  if (absl::Status status = closed(); !status.ok()) return status;
  const std::vector<std::shared_ptr<Leader>> candidates = leaders();
  std::vector<GroupLoad> loads;
  for (const auto& leader : candidates) {
    loads.push_back({.sessions = sessions_.SizeOf(leader->generation()),
                     .session_slots = leader->model().session_slots()});
  }
  const std::optional<size_t> place = PlaceSession(loads);
  if (!place) return absl::UnavailableError(describe_groups_());
  return candidates[*place];
}

absl::StatusOr<std::shared_ptr<Leader>> Router::ForCall(const std::string& id) const {
  return id.empty() ? ForNewSession() : ForSession(id);
}

absl::Status Router::AddSession(const std::string& id, const Leader& leader) {
  absl::MutexLock lock(&mutex_);
  if (!leaders_.contains(leader.generation())) {
    return absl::UnavailableError("the workers were lost while the session was created");
  }
  sessions_.Add(id, kAnonymousPrincipal, leader.generation());
  session_count_.Set(sessions_.size());
  return absl::OkStatus();
}

absl::Status Router::RemoveSession(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = sessions_.Remove(id, kAnonymousPrincipal);
  session_count_.Set(sessions_.size());
  return status;
}

absl::StatusOr<SessionPage> Router::ListSessions(int page_size,
                                                 const std::string& page_token) const {
  return sessions_.List(kAnonymousPrincipal, page_size, page_token);
}

}  // namespace weir
