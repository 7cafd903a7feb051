#include "worker/engine/run_channel.h"

#include <utility>

namespace weir {

void WakeSignal::Notify() {
  absl::MutexLock lock(&mutex_);
  notified_ = true;
}

void WakeSignal::Wait(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&notified_), timeout);
  notified_ = false;
}

absl::Status RunChannel::Feed(absl::Span<const int32_t> tokens) {
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](RunChannel* channel) ABSL_NO_THREAD_SAFETY_ANALYSIS { return channel->can_feed(); },
        this));
    if (!end_.ok()) return end_;
    if (input_closed_) return absl::FailedPreconditionError("the run's input is closed");
    input_.insert(input_.end(), tokens.begin(), tokens.end());
  }
  engine_->Notify();
  return absl::OkStatus();
}

absl::Status RunChannel::CloseInput() {
  {
    absl::MutexLock lock(&mutex_);
    if (!end_.ok()) return end_;
    input_closed_ = true;
  }
  engine_->Notify();
  return absl::OkStatus();
}

absl::StatusOr<RunEvent> RunChannel::Next() {
  RunEvent event;
  bool was_full = false;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](RunChannel* channel) ABSL_NO_THREAD_SAFETY_ANALYSIS { return channel->can_read(); },
        this));
    if (events_.empty()) return end_;
    was_full = events_.size() == kMaxEvents;
    event = std::move(events_.front());
    events_.pop_front();
  }
  if (was_full) engine_->Notify();
  return event;
}

void RunChannel::Cancel() {
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    if (!end_.ok()) return;
  }
  engine_->Notify();
}

bool RunChannel::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

bool RunChannel::full() const {
  absl::MutexLock lock(&mutex_);
  return events_.size() >= kMaxEvents;
}

std::vector<int32_t> RunChannel::TakeInput(bool& closed) {
  absl::MutexLock lock(&mutex_);
  closed = input_closed_;
  return std::exchange(input_, {});
}

void RunChannel::Push(RunEvent event) {
  absl::MutexLock lock(&mutex_);
  if (event.kind == RunEvent::Kind::kProgress && !events_.empty() &&
      events_.back().kind == RunEvent::Kind::kProgress) {
    events_.back() = std::move(event);
    return;
  }
  events_.push_back(std::move(event));
}

void RunChannel::End(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  if (end_.ok()) end_ = std::move(status);
}

}  // namespace weir
