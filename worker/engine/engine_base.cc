#include "worker/engine/engine_base.h"

#include <utility>

#include "absl/time/clock.h"

namespace weir {

EngineBase::EngineBase(const EngineOptions& options, Communicator* communicator,
                       StepExecutor* executor)
    : options_(options), communicator_(communicator), executor_(executor) {
  absl::MutexLock lock(&state_mutex_);
  stats_.session_capacity = executor_->sessions();
  stats_.slot_capacity = int64_t{executor_->sessions()} * executor_->limits().total_slots;
  stats_.cache_bytes = executor_->sessions() * executor_->session_bytes();
}

absl::Status EngineBase::health() const {
  absl::MutexLock lock(&state_mutex_);
  return health_;
}

absl::Status EngineBase::Wait() {
  absl::MutexLock lock(&state_mutex_);
  state_mutex_.Await(absl::Condition(&ended_));
  return health_;
}

absl::Status EngineBase::WaitUntilJoined() {
  const auto has_joined = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_) {
    return joined_.has_value();
  };
  absl::MutexLock lock(&state_mutex_);
  state_mutex_.Await(absl::Condition(&has_joined));
  return *joined_;
}

void EngineBase::Abort(const std::string& reason) {
  {
    absl::MutexLock lock(&state_mutex_);
    if (ended_ || !aborted_.ok()) return;
    aborted_ = absl::UnavailableError(reason);
  }
  communicator_->Abort();
  wake_->Notify();
}

absl::Status EngineBase::aborted() const {
  absl::MutexLock lock(&state_mutex_);
  return aborted_;
}

EngineStats EngineBase::stats() const {
  absl::MutexLock lock(&state_mutex_);
  EngineStats stats = stats_;
  stats.steps = steps();
  return stats;
}

void EngineBase::StartThread() {
  thread_ = std::thread([this] { RunThread(); });
}

void EngineBase::RunThread() {
  // On this thread, so that ranks of one process join at once.
  absl::Status why = executor_->JoinGroup(communicator_);
  if (!why.ok()) {
    // If the group is over, that is why.
    if (absl::Status group = communicator_->Poll(); !group.ok()) why = group;
  }
  {
    absl::MutexLock lock(&state_mutex_);
    joined_ = why;
  }
  if (why.ok()) why = Loop();
  if (!stopped_) {
    communicator_->Abort();
    why = absl::UnavailableError(why.message());
    // The reason given to Abort says more than what it made of the call in progress.
    if (absl::Status reason = aborted(); !reason.ok()) why = reason;
  }
  executor_->LeaveGroup();
  {
    absl::MutexLock lock(&state_mutex_);
    health_ = why;
  }
  OnLoopEnd(why);
  absl::MutexLock lock(&state_mutex_);
  ended_ = true;
}

void EngineBase::JoinThread(absl::Duration patience) {
  if (!thread_.joinable()) return;
  bool ended = false;
  {
    absl::MutexLock lock(&state_mutex_);
    ended = state_mutex_.AwaitWithTimeout(absl::Condition(&ended_), patience);
  }
  if (!ended) communicator_->Abort();
  thread_.join();
}

absl::StatusOr<StepResult> EngineBase::ExecuteStep(const StepPlan& plan) {
  if (absl::Status valid = executor_->Validate(plan); !valid.ok()) return valid;
  absl::StatusOr<StepResult> result = executor_->Execute(plan);
  if (!result.ok()) return result.status();
  steps_.fetch_add(1, std::memory_order_relaxed);
  // Otherwise it would wait, without asking how the others are, for sums that are still to run.
  if (plan.synchronize) RefreshStats();
  return result;
}

void EngineBase::RefreshStats() {
  // Not every step: the totals are on the device.
  const absl::Time now = absl::Now();
  if (now - stats_time_ < absl::Seconds(1)) return;
  stats_time_ = now;
  std::vector<SubCacheStats> sub_caches = executor_->SubCacheTotals();
  absl::MutexLock lock(&state_mutex_);
  stats_.sub_caches = std::move(sub_caches);
  stats_.all_reduce_time = executor_->all_reduce_time();
}

void EngineBase::ReportPhase(StepPhase phase, absl::Time& start) {
  const absl::Time now = absl::Now();
  if (options_.observer != nullptr) options_.observer->OnStepPhase(phase, now - start);
  start = now;
}

}  // namespace weir
