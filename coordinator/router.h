#ifndef WEIR_COORDINATOR_ROUTER_H_
#define WEIR_COORDINATOR_ROUTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/leader.h"
#include "coordinator/session_table.h"
#include "monitoring/metrics.h"

namespace weir {

// Finds the leader that serves a call: of the group that holds its session, or of the one that has
// room. Knows the leaders of all groups that are ready, and all sessions. Thread-safe.
class Router {
 public:
  // `describe_groups` says what is missing while there is no group. `metrics` outlives the router.
  Router(std::function<std::string()> describe_groups, Metrics* metrics);

  // ---- Groups ----
  void AddLeader(std::shared_ptr<Leader> leader);
  // Ends the group's calls and loses its sessions. Unknown generations are ignored.
  void EndGroup(int64_t generation, const std::string& reason);
  std::vector<std::shared_ptr<Leader>> leaders() const;

  // ---- Calls ----
  // No leader is found any more: UNAVAILABLE and `reason`. Calls in progress may go on for `drain`,
  // then they end with the same, for which they get up to `grace`.
  void Close(const std::string& reason, absl::Duration drain, absl::Duration grace);
  // Checks the id's form, then finds the session's leader. INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE
  // (lost with its group).
  absl::StatusOr<std::shared_ptr<Leader>> ForSession(const std::string& id) const;
  // The leader for a session to be made. UNAVAILABLE: no group is ready; says what is missing.
  absl::StatusOr<std::shared_ptr<Leader>> ForNewSession() const;
  // The leader for a call with a session if `id` is set, and without one if it is empty.
  absl::StatusOr<std::shared_ptr<Leader>> ForCall(const std::string& id) const;

  // ---- Sessions ----
  // UNAVAILABLE when the group ended in the meantime: the session is gone with it.
  absl::Status AddSession(const std::string& id, const Leader& leader);
  absl::Status RemoveSession(const std::string& id);
  absl::StatusOr<SessionPage> ListSessions(int page_size, const std::string& page_token) const;

 private:
  absl::Status closed() const;

  const std::function<std::string()> describe_groups_;
  prometheus::Gauge& session_count_;

  mutable absl::Mutex mutex_;
  std::map<int64_t, std::shared_ptr<Leader>> leaders_ ABSL_GUARDED_BY(mutex_);  // by generation
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);                                 // OK: it is not
  SessionTable sessions_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_ROUTER_H_
