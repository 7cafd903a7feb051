#ifndef WEIR_WORKER_SERVICE_HOSTED_SESSIONS_H_
#define WEIR_WORKER_SERVICE_HOSTED_SESSIONS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/model/tokenizer.h"
#include "worker/service/appended_text.h"

namespace weir {

// What the next turn of a session's conversation comes after.
enum class ChatPlace {
  kBegin,           // no turn yet
  kAfterAnswer,     // an answer that ended with the model's end token
  kAfterCutAnswer,  // something without one: a stop text, a limit, a text read since
};

// What the leader keeps of a session besides the engine's cache.
struct HostedSession {
  HostedSession(std::string id, absl::Time create_time, const Tokenizer& tokenizer)
      : id(std::move(id)), create_time(create_time), text(tokenizer) {}

  // Called when something was read or will be generated: the session does not end with a whole
  // answer any more.
  void AddedTokens() {
    has_tokens = true;
    if (chat != ChatPlace::kBegin) chat = ChatPlace::kAfterCutAnswer;
  }

  const std::string id;
  const absl::Time create_time;
  // The call that has the session's lease uses these.
  AppendedText text;
  bool has_tokens = false;  // whether anything was read or generated yet
  ChatPlace chat = ChatPlace::kBegin;
};

class HostedSessions;

// The right to run a call on a session, given back when destroyed. Keeps the session's text alive,
// even when the session is deleted meanwhile.
class SessionLease {
 public:
  SessionLease(SessionLease&& other) noexcept;
  SessionLease& operator=(SessionLease&&) = delete;
  ~SessionLease();

  HostedSession& operator*() const { return *session_; }
  HostedSession* operator->() const { return session_.get(); }

  // `interrupt` is called, once at most and on any thread, if the session goes while the lease is
  // held. It must be quick and may not call the sessions.
  void OnRemoved(std::function<void()> interrupt);

 private:
  friend class HostedSessions;
  SessionLease(HostedSessions* sessions, std::shared_ptr<HostedSession> session)
      : sessions_(sessions), session_(std::move(session)) {}

  HostedSessions* sessions_;  // null: moved from
  std::shared_ptr<HostedSession> session_;
};

// The sessions of one leader, by id, and which of them have a running call. Thread-safe; outlives
// its leases.
class HostedSessions {
 public:
  // ALREADY_EXISTS.
  absl::Status Add(std::shared_ptr<HostedSession> session);
  // Interrupts the running call. False if there was no such session.
  bool Remove(const std::string& id);

  // NOT_FOUND; FAILED_PRECONDITION while another call has the session.
  absl::StatusOr<SessionLease> Acquire(const std::string& id);

  struct Entry {
    std::shared_ptr<HostedSession> session;
    bool running = false;
  };
  // NOT_FOUND.
  absl::StatusOr<Entry> Find(const std::string& id) const;

 private:
  friend class SessionLease;

  struct Row {
    std::shared_ptr<HostedSession> session;
    bool running = false;
    std::function<void()> interrupt;
  };

  void SetInterrupt(const HostedSession& session, std::function<void()> interrupt);
  void Release(const HostedSession& session);
  // The session's row, if it is still there.
  Row* RowOf(const HostedSession& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Row> rows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_HOSTED_SESSIONS_H_
