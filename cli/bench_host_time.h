#ifndef WEIR_CLI_BENCH_HOST_TIME_H_
#define WEIR_CLI_BENCH_HOST_TIME_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/engine/engine_stats.h"

namespace weir {

// Adds up what a leader's steps take besides the model: to plan, to tell the other ranks, to
// deliver what came of it. Thread-safe.
class BenchHostTime : public EngineObserver {
 public:
  struct Total {
    int64_t steps = 0;
    absl::Duration time;
  };
  // Of the whole steps so far.
  Total total() const;

  void OnStepPhase(StepPhase phase, absl::Duration time) override;
  void OnQueueTime(absl::Duration) override {}
  void OnFirstToken(absl::Duration) override {}
  void OnNextToken(absl::Duration) override {}
  void OnRunEnd(RunKind, absl::StatusCode, absl::Duration) override {}

 private:
  absl::Duration step_;  // of the step in progress; engine's thread
  mutable absl::Mutex mutex_;
  Total total_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_CLI_BENCH_HOST_TIME_H_
