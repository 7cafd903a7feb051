#include "worker/service/call_session.h"

#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/service/sessions.h"

namespace weir {
namespace {

// 128 random bits, as the coordinator's ids, so that the two never meet.
std::string RandomId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(random(), absl::kZeroPad8));
  return id;
}

}  // namespace

absl::StatusOr<CallSession> CallSession::Open(LeaderState& leader, const std::string& id,
                                              const v1::CascadeSettings* settings) {
  const bool is_own = id.empty();
  if (!is_own && settings != nullptr) {
    return absl::InvalidArgumentError(
        "cascade is set in a call on a session; a session's settings are those of its creation");
  }
  const std::string name = is_own ? RandomId() : id;
  if (is_own) {
    const absl::StatusOr<v1::Session> opened =
        OpenSession(leader, name, settings == nullptr ? v1::CascadeSettings() : *settings);
    if (!opened.ok()) return opened.status();
  }
  absl::StatusOr<SessionLease> lease = leader.sessions.Acquire(name);
  if (!lease.ok()) return lease.status();
  return CallSession(leader, *std::move(lease), is_own);
}

CallSession::CallSession(CallSession&& other) noexcept
    : leader_(other.leader_),
      lease_(std::move(other.lease_)),
      is_own_(std::exchange(other.is_own_, false)) {}

CallSession::~CallSession() {
  // An error means that the engine has ended, and the session with it.
  if (is_own_) CloseSession(leader_, lease_->id).IgnoreError();
}

}  // namespace weir
