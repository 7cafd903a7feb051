#include "worker/engine/leader_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cache/cascade_limits.h"
#include "worker/engine/generate_limits.h"

namespace weir {
namespace {

// How long a step in progress may take when the engine stops.
constexpr absl::Duration kStopPatience = absl::Seconds(10);
// Tokens that an append may have waiting, in chunks.
constexpr int64_t kWaitingChunks = 4;

}  // namespace

LeaderEngine::LeaderEngine(const EngineOptions& options, Communicator* communicator,
                           StepExecutor* executor, const Tokenizer* tokenizer)
    : EngineBase(options, communicator, executor),
      tokenizer_(tokenizer),
      pool_(executor_->sessions()) {
  StartThread();
}

LeaderEngine::~LeaderEngine() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_->Notify();
  JoinThread(kStopPatience);
}

absl::StatusOr<std::shared_ptr<LeaderSession>> LeaderEngine::Find(const std::string& id) const {
  if (!end_.ok()) return end_;
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    return absl::NotFoundError(absl::StrCat("there is no session ", id));
  }
  return found->second;
}

absl::Status LeaderEngine::OpenSession(const std::string& id, const CascadeConfig& cascade) {
  if (absl::Status valid = ValidateCascade(cascade, executor_->limits()); !valid.ok()) return valid;
  absl::MutexLock lock(&mutex_);
  if (!end_.ok()) return end_;
  if (sessions_.contains(id)) {
    return absl::AlreadyExistsError(absl::StrCat("there is a session ", id, " already"));
  }
  const absl::StatusOr<int> slot = pool_.Acquire();
  if (!slot.ok()) return slot.status();
  sessions_.emplace(id, std::make_shared<LeaderSession>(*slot, cascade));
  resets_[*slot] = cascade;
  return absl::OkStatus();
}

absl::Status LeaderEngine::CloseSession(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<std::shared_ptr<LeaderSession>> session = Find(id);
  if (!session.ok()) return session.status();
  if ((*session)->run() != nullptr) {
    EndRun(**session, absl::CancelledError("the session was closed"));
  }
  // A step in progress may still use the slot; a reset comes after it.
  const int slot = (*session)->cache_slot();
  pool_.Release(slot);
  if (chunk_.has_value() && chunk_->part.session == *session) {
    // The reset abandons it, whoever gets the slot.
    resets_[slot] = (*session)->cascade();
    chunk_.reset();
  }
  sessions_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<SessionStatus> LeaderEngine::Describe(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<std::shared_ptr<LeaderSession>> session = Find(id);
  if (!session.ok()) return session.status();
  return SessionStatus{.cascade = (*session)->cascade(),
                       .tokens_seen = (*session)->tokens_seen(),
                       .tokens_cached = (*session)->tokens_cached(),
                       .cache_bytes = executor_->session_bytes(),
                       .running = (*session)->run() != nullptr};
}

absl::StatusOr<std::vector<HeadMemory>> LeaderEngine::Inspect(const std::string& id, int layer) {
  if (layer < 0 || layer >= executor_->layers()) {
    return absl::OutOfRangeError(
        absl::StrCat("layer is ", layer, "; the model has layers 0 to ", executor_->layers() - 1));
  }
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<std::shared_ptr<LeaderSession>> session = Find(id);
  if (!session.ok()) return session.status();
  auto call = std::make_shared<InspectCall>();
  call->session = *session;
  call->layer = layer;
  inspect_calls_.push_back(call);
  wake_->Notify();
  mutex_.Await(absl::Condition(call.get(), &InspectCall::done));
  return *std::move(call->result);
}

absl::StatusOr<std::unique_ptr<Run>> LeaderEngine::StartRun(const std::string& id,
                                                            const RunOptions& options) {
  if (options.kind == RunKind::kGenerate) {
    if (absl::Status valid = ValidateGenerateOptions(options.generate); !valid.ok()) return valid;
  }
  absl::MutexLock lock(&mutex_);
  absl::StatusOr<std::shared_ptr<LeaderSession>> session = Find(id);
  if (!session.ok()) return session.status();
  // A run whose caller has gone lets go of the session at the end of the step.
  if ((*session)->run() != nullptr && (*session)->run()->channel->cancelled()) {
    const auto released = [&] { return (*session)->run() == nullptr; };
    mutex_.Await(absl::Condition(&released));
    session = Find(id);
    if (!session.ok()) return session.status();
  }
  if ((*session)->run() != nullptr) {
    return absl::FailedPreconditionError("the session has a call in progress already");
  }
  if (CountRuns() >= options_.max_runs) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", options_.max_runs, " runs of this server are in use"));
  }

  // Only an append comes in a stream of pieces; other input is there as a whole already.
  const int64_t waiting =
      options.kind == RunKind::kAppend ? kWaitingChunks * (*session)->cascade().stride : 0;
  auto run = std::make_shared<ActiveRun>();
  run->number = next_run_++;
  run->options = options;
  run->channel = std::make_shared<RunChannel>(waiting, wake_);
  run->start_time = absl::Now();
  if (options.kind == RunKind::kGenerate) run->generation.emplace(options.generate, tokenizer_);
  (*session)->StartRun(run);
  return std::make_unique<ChannelRun>(run->channel);
}

int LeaderEngine::CountRuns() const {
  return static_cast<int>(std::count_if(sessions_.begin(), sessions_.end(), [](const auto& entry) {
    return entry.second->run() != nullptr;
  }));
}

int LeaderEngine::sessions_open() const {
  absl::MutexLock lock(&mutex_);
  return pool_.used();
}

EngineStats LeaderEngine::stats() const {
  EngineStats stats = EngineBase::stats();
  absl::MutexLock lock(&mutex_);
  stats.prompt_tokens = prompt_tokens_;
  stats.generated_tokens = generated_tokens_;
  stats.sessions_open = pool_.used();
  for (const auto& [id, session] : sessions_) {
    stats.slots_filled += session->tokens_cached();
    if (session->run() == nullptr) continue;
    ++(session->run()->stepped ? stats.runs_running : stats.runs_waiting);
  }
  return stats;
}

}  // namespace weir
