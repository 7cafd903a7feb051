#include "worker/service/hosted_sessions.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

absl::Status NoSuchSession(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("there is no session \"", id, "\""));
}

}  // namespace

SessionLease::SessionLease(SessionLease&& other) noexcept
    : sessions_(std::exchange(other.sessions_, nullptr)), session_(std::move(other.session_)) {}

SessionLease::~SessionLease() {
  if (sessions_ != nullptr) sessions_->Release(*session_);
}

void SessionLease::OnRemoved(std::function<void()> interrupt) {
  sessions_->SetInterrupt(*session_, std::move(interrupt));
}

absl::Status HostedSessions::Add(std::shared_ptr<HostedSession> session) {
  absl::MutexLock lock(&mutex_);
  const std::string id = session->id;
  if (!rows_.try_emplace(id, Row{.session = std::move(session)}).second) {
    return absl::AlreadyExistsError(absl::StrCat("there is a session \"", id, "\" already"));
  }
  return absl::OkStatus();
}

bool HostedSessions::Remove(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = rows_.find(id);
  if (found == rows_.end()) return false;
  if (found->second.interrupt) found->second.interrupt();
  rows_.erase(found);
  return true;
}

absl::StatusOr<SessionLease> HostedSessions::Acquire(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = rows_.find(id);
  if (found == rows_.end()) return NoSuchSession(id);
  if (found->second.running) {
    return absl::FailedPreconditionError(
        absl::StrCat("session \"", id, "\" has a running call; it can have one at a time"));
  }
  found->second.running = true;
  return SessionLease(this, found->second.session);
}

absl::StatusOr<HostedSessions::Entry> HostedSessions::Find(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = rows_.find(id);
  if (found == rows_.end()) return NoSuchSession(id);
  return Entry{.session = found->second.session, .running = found->second.running};
}

void HostedSessions::SetInterrupt(const HostedSession& session, std::function<void()> interrupt) {
  absl::MutexLock lock(&mutex_);
  if (Row* row = RowOf(session)) {
    row->interrupt = std::move(interrupt);
  } else {
    interrupt();
  }
}

void HostedSessions::Release(const HostedSession& session) {
  absl::MutexLock lock(&mutex_);
  if (Row* row = RowOf(session)) {
    row->running = false;
    row->interrupt = nullptr;
  }
}

HostedSessions::Row* HostedSessions::RowOf(const HostedSession& session) {
  // An id can be used again after a removal, by another session.
  const auto found = rows_.find(session.id);
  return found != rows_.end() && found->second.session.get() == &session ? &found->second : nullptr;
}

}  // namespace weir
