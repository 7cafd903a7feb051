#include "tests/worker/service/fake_engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace weir {

std::vector<int32_t> FakeEngine::Session::Tokens() const {
  std::vector<int32_t> tokens;
  for (const std::vector<int32_t>& chunk : chunks) {
    tokens.insert(tokens.end(), chunk.begin(), chunk.end());
  }
  tokens.insert(tokens.end(), unread.begin(), unread.end());
  return tokens;
}

// Does its work in Next, one event a call.
class FakeRun : public Run {
 public:
  FakeRun(FakeEngine* engine, std::shared_ptr<FakeEngine::Session> session, RunOptions options)
      : engine_(engine), session_(std::move(session)), options_(std::move(options)) {
    const bool goes_on = options_.kind == RunKind::kAppend;
    absl::MutexLock lock(&engine_->mutex_);
    if (!goes_on) EndText();
  }

  ~FakeRun() override {
    absl::MutexLock lock(&engine_->mutex_);
    if (options_.kind != RunKind::kAppend) session_->unread.clear();
    session_->status.running = false;
  }

  absl::Status Feed(absl::Span<const int32_t> tokens) override {
    absl::MutexLock lock(&engine_->mutex_);
    if (const absl::Status status = Broken(); !status.ok()) return status;
    if (engine_->feed_limit_ >= 0) {
      if (static_cast<int64_t>(tokens.size()) > engine_->feed_limit_) {
        return absl::CancelledError("feeding fails because the test wants it");
      }
      engine_->feed_limit_ -= static_cast<int64_t>(tokens.size());
    }
    session_->unread.insert(session_->unread.end(), tokens.begin(), tokens.end());
    return absl::OkStatus();
  }

  absl::Status CloseInput() override {
    absl::MutexLock lock(&engine_->mutex_);
    closed_ = true;
    return Broken();
  }

  absl::StatusOr<RunEvent> Next() override {
    absl::MutexLock lock(&engine_->mutex_);
    const auto may_go_on = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
      return !Broken().ok() || (!engine_->hold_ && (closed_ || HasChunk()));
    };
    // Nothing tells when `cancelled` changes, so look often, as an engine looks every step.
    while (!engine_->mutex_.AwaitWithTimeout(absl::Condition(&may_go_on), absl::Milliseconds(1))) {
    }
    if (const absl::Status status = Broken(); !status.ok()) return status;
    if (!session_->unread.empty()) return ReadChunk();
    if (options_.kind != RunKind::kGenerate) {
      EndText();
      return Finished(FinishReason::kInputRead);
    }
    return GenerateNext();
  }

 private:
  int stride() const { return session_->status.cascade.stride; }

  bool HasChunk() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    return static_cast<int>(session_->unread.size()) >= stride();
  }

  absl::Status Broken() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    if (!engine_->health_.ok()) return engine_->health_;
    if (session_->closed) return absl::CancelledError("the session was closed");
    if (options_.cancelled && options_.cancelled()) return absl::CancelledError("cancelled");
    return absl::OkStatus();
  }

  void Read(std::vector<int32_t> chunk) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    session_->status.tokens_seen += static_cast<int64_t>(chunk.size());
    session_->chunks.push_back(std::move(chunk));
  }

  void EndText() ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    if (!session_->unread.empty()) Read(std::exchange(session_->unread, {}));
    session_->text_ends.push_back(static_cast<int>(session_->chunks.size()));
  }

  absl::StatusOr<RunEvent> ReadChunk() ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    std::vector<int32_t>& unread = session_->unread;
    const int64_t size = std::min<int64_t>(stride(), unread.size());
    const std::vector<int32_t> chunk(unread.begin(), unread.begin() + size);
    unread.erase(unread.begin(), unread.begin() + size);
    read_ += size;
    RunEvent event;
    event.kind = RunEvent::Kind::kProgress;
    event.tokens_read = read_;
    if (options_.kind == RunKind::kScore) {
      event.kind = RunEvent::Kind::kScores;
      for (const int32_t token : chunk) {
        const bool first = session_->status.tokens_seen == 0 && event.scores.empty();
        event.scores.push_back({token, first ? NAN : -static_cast<float>(token)});
      }
    }
    Read(chunk);
    return event;
  }

  absl::StatusOr<RunEvent> GenerateNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_->mutex_) {
    if (generated_ == 0) EndText();
    if (generated_ == engine_->answer_.size()) return Finished(engine_->reason_);
    RunEvent event;
    event.kind = RunEvent::Kind::kToken;
    event.token = engine_->answer_[generated_++];
    event.text = absl::StrCat("<", event.token, ">");
    event.logprob = -0.5f;
    for (int i = 0; i < options_.generate.top_logprobs.value_or(0); ++i) {
      event.top_logprobs.push_back({event.token + i, -0.5f - static_cast<float>(i)});
    }
    Read({event.token});
    return event;
  }

  RunEvent Finished(FinishReason reason) const {
    RunEvent event;
    event.kind = RunEvent::Kind::kFinished;
    event.tokens_read = read_;
    event.reason = reason;
    event.tokens_generated = static_cast<int64_t>(generated_);
    if (options_.kind == RunKind::kGenerate) event.text = "<held back>";
    return event;
  }

  FakeEngine* const engine_;
  const std::shared_ptr<FakeEngine::Session> session_;
  const RunOptions options_;
  bool closed_ = false;
  int64_t read_ = 0;
  size_t generated_ = 0;
};

void FakeEngine::Generates(std::vector<int32_t> tokens, FinishReason reason) {
  absl::MutexLock lock(&mutex_);
  answer_ = std::move(tokens);
  reason_ = reason;
}

void FakeEngine::Hold() {
  absl::MutexLock lock(&mutex_);
  hold_ = true;
}

void FakeEngine::Release() {
  absl::MutexLock lock(&mutex_);
  hold_ = false;
}

void FakeEngine::FailFeedsAfter(int64_t tokens) {
  absl::MutexLock lock(&mutex_);
  feed_limit_ = tokens;
}

FakeEngine::Session FakeEngine::Get(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  if (const auto found = sessions_.find(id); found != sessions_.end()) return *found->second;
  if (const auto found = closed_.find(id); found != closed_.end()) return *found->second;
  return {};
}

RunOptions FakeEngine::last_run() const {
  absl::MutexLock lock(&mutex_);
  return last_run_;
}

std::vector<std::string> FakeEngine::OpenIds() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, session] : sessions_) ids.push_back(id);
  return ids;
}

void FakeEngine::SetSteps(int64_t steps) {
  absl::MutexLock lock(&mutex_);
  steps_ = steps;
}

absl::Status FakeEngine::OpenSession(const std::string& id, const CascadeConfig& cascade) {
  absl::MutexLock lock(&mutex_);
  if (!health_.ok()) return health_;
  if (cascade.slots > options_.cascade.slots) {
    return absl::InvalidArgumentError(absl::StrCat("slots is ", cascade.slots));
  }
  if (static_cast<int>(sessions_.size()) == options_.max_sessions) {
    return absl::ResourceExhaustedError("every session slot is taken");
  }
  auto session = std::make_shared<Session>();
  session->status.cascade = cascade;
  session->status.cache_bytes = 1000;
  sessions_[id] = std::move(session);
  return absl::OkStatus();
}

absl::Status FakeEngine::CloseSession(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return absl::NotFoundError(absl::StrCat("no session ", id));
  found->second->closed = true;
  closed_[id] = found->second;
  sessions_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<SessionStatus> FakeEngine::Describe(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return absl::NotFoundError(absl::StrCat("no session ", id));
  return found->second->status;
}

absl::StatusOr<std::vector<HeadMemory>> FakeEngine::Inspect(const std::string& id, int layer) {
  absl::MutexLock lock(&mutex_);
  if (!sessions_.contains(id)) return absl::NotFoundError(absl::StrCat("no session ", id));
  return std::vector<HeadMemory>{
      {.kv_head = 0, .tokens = {0, layer}, .scores = {1.0f, 0.5f}, .sub_caches = {-1, 2}}};
}

absl::StatusOr<std::unique_ptr<Run>> FakeEngine::StartRun(const std::string& id,
                                                          const RunOptions& options) {
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mutex_);
    if (!health_.ok()) return health_;
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return absl::NotFoundError(absl::StrCat("no session ", id));
    session = found->second;
    if (session->status.running) return absl::FailedPreconditionError("two runs");
    session->status.running = true;
    last_run_ = options;
  }
  return std::make_unique<FakeRun>(this, std::move(session), options);
}

int64_t FakeEngine::steps() const {
  absl::MutexLock lock(&mutex_);
  return steps_;
}

absl::Status FakeEngine::health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

int FakeEngine::sessions_open() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

EngineStats FakeEngine::stats() const {
  absl::MutexLock lock(&mutex_);
  EngineStats stats;
  stats.steps = steps_;
  stats.sessions_open = static_cast<int>(sessions_.size());
  stats.session_capacity = options_.max_sessions;
  return stats;
}

void FakeEngine::Abort(const std::string& reason) {
  absl::MutexLock lock(&mutex_);
  if (health_.ok()) health_ = absl::UnavailableError(reason);
}

absl::Status FakeEngine::Wait() {
  absl::MutexLock lock(&mutex_);
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !health_.ok(); };
  mutex_.Await(absl::Condition(&ended));
  return health_;
}

}  // namespace weir
