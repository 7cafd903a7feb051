#ifndef WEIR_WORKER_SERVICE_CALL_SESSION_H_
#define WEIR_WORKER_SERVICE_CALL_SESSION_H_

#include <string>

#include "absl/status/statusor.h"
#include "weir/v1/session.pb.h"
#include "worker/service/hosted_sessions.h"
#include "worker/service/leader_state.h"

namespace weir {

// The session of one Generate or Score call: the one that the request names or, if it names none,
// a new one that goes away with this object. Destroy the call's Run first.
class CallSession {
 public:
  // `settings` is null or what the request asks of a session of its own.
  //   INVALID_ARGUMENT     settings for a session that exists already, or beyond the limits
  //   NOT_FOUND, FAILED_PRECONDITION   as HostedSessions::Acquire
  //   RESOURCE_EXHAUSTED   no slot for a session of its own
  static absl::StatusOr<CallSession> Open(LeaderState& leader, const std::string& id,
                                          const v1::CascadeSettings* settings);
  CallSession(CallSession&& other) noexcept;
  CallSession& operator=(CallSession&&) = delete;
  ~CallSession();

  HostedSession& operator*() const { return *lease_; }
  HostedSession* operator->() const { return &*lease_; }

 private:
  CallSession(LeaderState& leader, SessionLease lease, bool is_own)
      : leader_(leader), lease_(std::move(lease)), is_own_(is_own) {}

  LeaderState& leader_;
  SessionLease lease_;
  bool is_own_;
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_CALL_SESSION_H_
