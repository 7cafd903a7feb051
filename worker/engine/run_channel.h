#ifndef WEIR_WORKER_ENGINE_RUN_CHANNEL_H_
#define WEIR_WORKER_ENGINE_RUN_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/engine/run.h"

namespace weir {

// Wakes the engine's thread. Shared by the engine and the channels of its runs, so that a run may
// outlive its engine. Thread-safe.
class WakeSignal {
 public:
  void Notify();
  // Returns once notified since the last wait, or when the time is over.
  void Wait(absl::Duration timeout);

 private:
  absl::Mutex mutex_;
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
};

// What goes between the caller of a run and the engine: input one way, events the other way, both
// bounded. Thread-safe: on the caller's side one thread may feed while another reads.
class RunChannel {
 public:
  // Events that wait for the caller before the run pauses.
  static constexpr size_t kMaxEvents = 64;

  // Feeding waits while `max_waiting_tokens` wait for the engine already; 0: it never waits.
  RunChannel(int64_t max_waiting_tokens, std::shared_ptr<WakeSignal> engine)
      : max_waiting_tokens_(max_waiting_tokens), engine_(std::move(engine)) {}

  // ---- The caller's side ----

  // See Run.
  absl::Status Feed(absl::Span<const int32_t> tokens);
  absl::Status CloseInput();
  absl::StatusOr<RunEvent> Next();
  // The caller has gone.
  void Cancel();

  // ---- The engine's side; nothing waits ----

  bool cancelled() const;
  // Whether kMaxEvents events wait.
  bool full() const;
  // Takes all tokens that wait; sets `closed` when there will be no more.
  std::vector<int32_t> TakeInput(bool& closed);
  // kProgress takes the place of one that is waiting.
  void Push(RunEvent event);
  // There will be no more events; after those that wait, Next returns `status`, which is not OK.
  void End(absl::Status status);

 private:
  bool can_feed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !end_.ok() || max_waiting_tokens_ == 0 ||
           static_cast<int64_t>(input_.size()) < max_waiting_tokens_;
  }
  bool can_read() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !events_.empty() || !end_.ok();
  }

  const int64_t max_waiting_tokens_;
  const std::shared_ptr<WakeSignal> engine_;
  mutable absl::Mutex mutex_;
  std::vector<int32_t> input_ ABSL_GUARDED_BY(mutex_);
  bool input_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<RunEvent> events_ ABSL_GUARDED_BY(mutex_);
  absl::Status end_ ABSL_GUARDED_BY(mutex_);  // OK: not ended
};

// The Run that a caller holds.
class ChannelRun : public Run {
 public:
  explicit ChannelRun(std::shared_ptr<RunChannel> channel) : channel_(std::move(channel)) {}
  ~ChannelRun() override { channel_->Cancel(); }

  absl::Status Feed(absl::Span<const int32_t> tokens) override { return channel_->Feed(tokens); }
  absl::Status CloseInput() override { return channel_->CloseInput(); }
  absl::StatusOr<RunEvent> Next() override { return channel_->Next(); }

 private:
  std::shared_ptr<RunChannel> channel_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_RUN_CHANNEL_H_
