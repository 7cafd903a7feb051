#ifndef WEIR_COORDINATOR_SESSION_TABLE_H_
#define WEIR_COORDINATOR_SESSION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace weir {

// Whose sessions all sessions are as long as callers do not say who they are.
inline constexpr char kAnonymousPrincipal[] = "anonymous";

// Where a session is.
struct SessionPlace {
  std::string id;
  int64_t generation = 0;  // of the group that holds its cache
};

struct SessionPage {
  std::vector<SessionPlace> sessions;  // oldest first
  std::string next_page_token;         // empty on the last page
};

// Which sessions there are, whose they are and which group holds each. A principal sees its own
// sessions only; another's is told from one that does not exist by nothing. Thread-safe.
class SessionTable {
 public:
  // Lost sessions that are remembered, so that their owners learn why they are gone; then the
  // oldest are forgotten.
  static constexpr size_t kLostSessionsKept = 10000;
  static constexpr int kDefaultPageSize = 100;
  static constexpr int kMaxPageSize = 1000;

  // The id is new.
  void Add(const std::string& id, const std::string& principal, int64_t generation);

  // The generation that holds the session. NOT_FOUND; UNAVAILABLE when it was lost with its group.
  absl::StatusOr<int64_t> Find(const std::string& id, const std::string& principal) const;

  // Forgets the session, lost or not. NOT_FOUND.
  absl::Status Remove(const std::string& id, const std::string& principal);

  // A page of the principal's sessions, lost ones left out. `page_size` and `page_token` as in
  // ListSessionsRequest; INVALID_ARGUMENT.
  absl::StatusOr<SessionPage> List(const std::string& principal, int page_size,
                                   const std::string& page_token) const;

  // The group is gone and with it the caches of its sessions. `reason` completes the sentence "the
  // session was lost: ...".
  void Lose(int64_t generation, absl::string_view reason);

  // Sessions held, by all groups or by one; lost ones not counted.
  int size() const;
  int SizeOf(int64_t generation) const;

 private:
  // Creation order within a principal.
  using Key = std::pair<std::string, int64_t>;

  struct Entry {
    Key key;
    int64_t generation = 0;
    std::string lost;  // why; empty: it is not
  };

  const Entry* FindOwn(const std::string& id, const std::string& principal) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void Uncount(int64_t generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  int64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<std::string, Entry> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, std::string> order_ ABSL_GUARDED_BY(mutex_);          // of those not lost
  absl::flat_hash_map<int64_t, int> counts_ ABSL_GUARDED_BY(mutex_);  // by generation
  std::deque<std::string> lost_ ABSL_GUARDED_BY(mutex_);  // oldest first; may hold removed ones
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_SESSION_TABLE_H_
